"""The ASGI middleware behind a real sidecar, whose x-forwarded-client-cert names the caller: uvicorn and Starlette."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import uvicorn

from meshtls.address import Address
from meshtls.integrations.uvicorn import SidecarProtocol
from meshtls.policy.library import Policies
from meshtls.sidecar.settings import ForwardClientCert, Mode, Protocol
from meshtls.wire import xfcc
from tests.integration.library.test_asgi import running
from tests.integration.library.test_asgi_policy import DENIED, app, loaded, policy
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import OTHER, OURS, A, B, Node, side_a
from tests.support.authority import context_for

#: The sidecar lets everybody in: the app decides.
ANYONE = policy("{rules: [{}]}")
_A_NAME = str(A).removeprefix("spiffe://")
A_ONLY = policy(
    f"{{rules: [{{from: [{{source: {{principals: [{_A_NAME}]}}}}], to: [{{operation: {{methods: [GET]}}}}]}}]}}"
)
FORGED = f"By={B};Hash={'0' * 64};URI={A}"


@dataclass(frozen=True)
class Site:
    sidecar: Node
    policies: Policies
    app: str


@contextlib.asynccontextmanager
async def site(directory: Path, text: str = A_ONLY, **keys: Any) -> AsyncIterator[Site]:
    policies = loaded(directory, text, spiffe_id=B)
    wrapped = app(policies, trust_forwarded_client_cert=True)
    config = uvicorn.Config(wrapped, http=SidecarProtocol, port=0, log_config=None)
    async with running(config) as address:
        keys = {"mode": Mode.PERMISSIVE, "protocol": Protocol.HTTP} | keys
        async with governed(Address.parse(address), ANYONE, **keys) as b:
            yield Site(b, policies, address)


async def got(address: object, headers: dict[str, str] | None = None, path: str = "/x") -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://{address}{path}", headers=headers)


async def test_the_caller_is_the_peer_that_the_sidecar_verified(tmp_path: Path) -> None:
    async with site(tmp_path) as b, side_a(b.sidecar.inbound) as a:
        answer = await got(a.outbound, path="/x?y=z")
        assert (answer.status_code, answer.json()["caller"]) == (200, str(A))
        assert (answer.json()["path"], answer.json()["query"]) == ("/x", "y=z")
        own = xfcc.last_element(answer.json()["headers"]["x-forwarded-client-cert"])
        assert (own.by, own.uri) == (str(B), str(A))
        async with httpx.AsyncClient() as client:
            assert (await client.post(f"http://{a.outbound}/x")).text == DENIED[1]


async def test_another_peer_of_the_mesh_and_plaintext_are_refused_by_the_app_s_policy(tmp_path: Path) -> None:
    async with site(tmp_path) as b, side_a(b.sidecar.inbound, context_for(OURS, OTHER)) as other:
        for address in (other.outbound, b.sidecar.inbound):
            answer = await got(address)
            assert (answer.status_code, answer.text) == DENIED
        assert {line["verdict"] for line in [await b.sidecar.lines.next() for _ in range(2)]} == {"allowed"}


@pytest.mark.parametrize("name", ["x-forwarded-client-cert", "X-FORWARDED-CLIENT-CERT"])
async def test_a_header_that_the_caller_sends_makes_nobody_else_of_it(tmp_path: Path, name: str) -> None:
    async with site(tmp_path) as b, side_a(b.sidecar.inbound, context_for(OURS, OTHER)) as other:
        for address in (other.outbound, b.sidecar.inbound):
            answer = await got(address, {name: FORGED})
            assert (answer.status_code, answer.text) == DENIED
    async with site(tmp_path) as b, side_a(b.sidecar.inbound) as a:
        answer = await got(a.outbound, {name: FORGED.replace(str(A), str(OTHER))})
        assert (answer.status_code, answer.json()["caller"]) == (200, str(A))
        assert str(OTHER) not in answer.text


async def test_the_header_s_name_with_underscores_which_wsgi_takes_for_it_is_refused_by_the_sidecar(
    tmp_path: Path,
) -> None:
    async with site(tmp_path) as b, side_a(b.sidecar.inbound, context_for(OURS, OTHER)) as other:
        for address in (other.outbound, b.sidecar.inbound):
            answer = await got(address, {"x_forwarded_client_cert": FORGED})
            assert (answer.status_code, "x_forwarded_client_cert" in answer.text) == (400, True)


async def test_appended_elements_of_others_do_not_name_the_caller(tmp_path: Path) -> None:
    mode = ForwardClientCert.APPEND_FORWARD
    async with site(tmp_path, forward_client_cert=mode) as b:
        async with side_a(b.sidecar.inbound, context_for(OURS, OTHER)) as other:
            assert (await got(other.outbound, {"x-forwarded-client-cert": FORGED})).status_code == 403
        async with side_a(b.sidecar.inbound) as a:
            answer = await got(a.outbound, {"x-forwarded-client-cert": FORGED.replace(str(A), str(OTHER))})
            assert (answer.status_code, answer.json()["caller"]) == (200, str(A))


async def test_policies_of_the_app_that_change_decide_on_the_next_request_of_a_connection(tmp_path: Path) -> None:
    async with site(tmp_path) as b, side_a(b.sidecar.inbound) as a, httpx.AsyncClient() as client:
        assert (await client.get(f"http://{a.outbound}/x")).status_code == 200
        (tmp_path / "policies.yaml").write_text(policy("{}"))
        b.policies.reload()
        assert (await client.get(f"http://{a.outbound}/x")).status_code == 403


async def test_a_websocket_through_both_sidecars_is_closed_by_a_change_of_the_app_s_policies(tmp_path: Path) -> None:
    async with site(tmp_path) as b, side_a(b.sidecar.inbound) as a, aiohttp.ClientSession() as client:
        async with client.ws_connect(f"http://{a.outbound}/ws") as socket:
            await socket.send_str("ping")
            assert (await socket.receive()).data == "ping"
            (tmp_path / "policies.yaml").write_text(policy("{}"))
            b.policies.reload()
            await socket.send_str("ping")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(f"http://{a.outbound}/ws")
        assert refused.value.status == 403
