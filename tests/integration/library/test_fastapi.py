"""``Depends(require(...))``: the route gets the verified peer, and any other peer is refused before it runs."""

from __future__ import annotations

from typing import Annotated, Any

import fastapi
import httpx
import pytest
import uvicorn
from fastapi import Depends, WebSocket

from meshtls import InvalidSpiffeIdError, SpiffeId, VerifiedPeer, authorize_any, client_context, server_context
from meshtls.integrations.asgi import PEER
from meshtls.integrations.fastapi import require
from meshtls.integrations.uvicorn import peer_config
from meshtls.pytest.mesh import Mesh
from tests.integration.library.test_asgi import call, peer_for, running

WEB = "spiffe://example.org/web"
CRON = SpiffeId.parse("spiffe://example.org/cron")
app = fastapi.FastAPI()


@app.get("/ids")
async def by_id(peer: Annotated[VerifiedPeer, Depends(require(WEB, CRON))]) -> str:
    return str(peer.spiffe_id)


@app.get("/rule")
async def by_rule(
    peer: Annotated[VerifiedPeer, Depends(require(allow=lambda peer, scope: peer.spiffe_id.path == "/web"))],
) -> str:
    return str(peer.spiffe_id)


@app.get("/text", dependencies=[Depends(require(allow=lambda peer, scope: "no"))])  # type: ignore[arg-type, return-value]
async def by_a_rule_that_gives_no_bool() -> str:
    return "reached"


@app.websocket("/ids")
async def by_id_over_a_websocket(socket: WebSocket, peer: Annotated[VerifiedPeer, Depends(require(WEB))]) -> None:
    await socket.accept()
    await socket.close(1000, str(peer.spiffe_id))


@pytest.mark.parametrize(
    ("path", "name", "status", "body"),
    [
        ("/ids", "web", 200, '"spiffe://example.org/web"'),
        ("/ids", "cron", 200, '"spiffe://example.org/cron"'),
        ("/ids", "web2", 403, '{"detail":"forbidden"}'),
        ("/rule", "web", 200, '"spiffe://example.org/web"'),
        ("/rule", "cron", 403, '{"detail":"forbidden"}'),
        ("/text", "web", 403, '{"detail":"forbidden"}'),
    ],
)
async def test_a_route_is_for_the_peers_that_it_requires(
    mesh: Mesh, path: str, name: str, status: int, body: str
) -> None:
    serving = peer_config(app, server_context(mesh.source("server"), authorize_any()), log_config=None)
    asking = client_context(mesh.source(name), authorize_any())
    async with running(serving) as address, httpx.AsyncClient(verify=asking) as client:
        answer = await client.get(f"https://{address}{path}")
    assert (answer.status_code, answer.text) == (status, body)


async def test_a_route_served_without_verified_peers_is_forbidden_whatever_a_header_says() -> None:
    headers = {"x-forwarded-client-cert": f"URI={WEB}", "spiffe_peer": WEB}
    async with running(uvicorn.Config(app, log_config=None)) as address, httpx.AsyncClient() as client:
        answer = await client.get(f"http://{address}/ids", headers=headers)
    assert (answer.status_code, answer.text) == (403, '{"detail":"forbidden"}')


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (
            "web",
            [
                {"type": "websocket.accept", "subprotocol": None, "headers": []},
                {"type": "websocket.close", "code": 1000, "reason": WEB},
            ],
        ),
        ("cron", [{"type": "websocket.close", "code": 1008, "reason": ""}]),
        (None, [{"type": "websocket.close", "code": 1008, "reason": ""}]),
    ],
)
async def test_a_websocket_is_accepted_from_the_peer_that_it_requires(
    mesh: Mesh, name: str | None, sent: list[dict[str, Any]]
) -> None:
    state = {PEER: peer_for(mesh, name)} if name else {}
    scope = {
        "type": "websocket",
        "path": "/ids",
        "query_string": b"",
        "headers": [],
        "subprotocols": [],
        "state": state,
    }
    assert await call(app, scope) == sent


@pytest.mark.parametrize(
    ("ids", "settings", "error", "message"),
    [
        ((), {}, TypeError, "require: wanted one or more SPIFFE IDs, got none; pass the ID of each peer to allow"),
        (
            ([WEB],),
            {},
            TypeError,
            f"require: wanted SPIFFE IDs, each a str or SpiffeId, got ['{WEB}']; pass each as an argument",
        ),
        (
            (WEB,),
            {"allow": 1},
            TypeError,
            "require: wanted SPIFFE IDs or a function allow(peer, scope), one of the two, got 1",
        ),
        (("web",), {}, InvalidSpiffeIdError, ""),
    ],
)
def test_a_requirement_that_names_nobody_is_refused_when_it_is_made(
    ids: tuple[Any, ...], settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        require(*ids, **settings)
    assert message in str(raised.value)
