"""The peer in an ASGI scope: stored by our uvicorn protocol, and never taken from another source."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from examples import httpx_client, uvicorn_server
from meshtls import ConfigError, RequestError, VerifiedPeer, authorize_any, client_context, server_context
from meshtls.integrations.asgi import PEER, Receive, RequirePeer, Scope, Send, peer_of
from meshtls.integrations.peers import verified_peer
from meshtls.integrations.uvicorn import peer_config, peer_protocol
from meshtls.pytest.mesh import Mesh
from tests.integration.library.served import served


async def whoami(scope: Scope, receive: Receive, send: Send) -> None:
    body = str(peer_of(scope).spiffe_id).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def running(config: uvicorn.Config) -> AsyncIterator[str]:
    """The address of a server that runs while the body does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            try:
                yield f"127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True


def peer_for(mesh: Mesh, name: str) -> VerifiedPeer:
    return mesh.handshake(mesh.source(name), server_context(mesh.source("server"), authorize_any()))


async def call(app: Any, scope: dict[str, Any]) -> list[MutableMapping[str, Any]]:
    """The messages that the application sends."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect" if scope["type"] == "websocket" else "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@pytest.mark.parametrize("http", [None, H11Protocol], ids=["httptools or h11", "h11"])
async def test_the_application_sees_the_caller(mesh: Mesh, http: type[asyncio.Protocol] | None) -> None:
    context = server_context(mesh.source("server"), authorize_any())
    config = peer_config(whoami, context, log_config=None, **({"http": http} if http else {}))
    async with running(config) as address:
        for name in ("one", "two"):
            asking = client_context(mesh.source(name), authorize_any())
            assert await httpx_client.fetch(asking, f"https://{address}/") == f"spiffe://example.org/{name}"


async def test_the_lifespans_own_state_is_kept(mesh: Mesh) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["colour"] = "blue"
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = f"{scope['state']['colour']} {peer_of(scope).spiffe_id}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    context = server_context(mesh.source("server"), authorize_any())
    async with running(peer_config(app, context, log_config=None)) as address:
        asking = client_context(mesh.source("web"), authorize_any())
        assert await httpx_client.fetch(asking, f"https://{address}/") == "blue spiffe://example.org/web"


async def test_without_our_context_the_connection_is_cut_before_a_request() -> None:
    config = uvicorn.Config(whoami, http=peer_protocol(H11Protocol), log_config=None)
    async with running(config) as address, httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://{address}/")


async def test_the_example_served_without_our_protocol_forbids_all() -> None:
    async with running(uvicorn.Config(uvicorn_server.app, log_config=None)) as address, httpx.AsyncClient() as client:
        response = await client.get(f"http://{address}/", headers={"x-forwarded-client-cert": "URI=spiffe://a.test/b"})
    assert (response.status_code, response.text) == (403, "forbidden\n")


@pytest.mark.parametrize("setting", [{"ssl_certfile": "cert.pem"}, {"workers": 2}, {"reload": True}, {"uds": "a.sock"}])
def test_settings_that_bypass_the_context_are_refused(mesh: Mesh, setting: dict[str, Any]) -> None:
    context = server_context(mesh.source("server"), authorize_any())
    with pytest.raises(ConfigError) as refused:
        peer_config(whoami, context, **setting)
    assert str(refused.value) == (
        f"{next(iter(setting))}: wanted none of these; TLS is the context's, in one process, over TCP;"
        " for workers see PeerProtocol"
    )


class TestRequirePeer:
    async def test_a_verified_peer_gets_through(self, mesh: Mesh) -> None:
        scope = {"type": "http", "state": {PEER: peer_for(mesh, "web")}}
        assert (await call(RequirePeer(whoami), scope))[1]["body"] == b"spiffe://example.org/web"

    @pytest.mark.parametrize("state", [None, {}, {PEER: None}, {PEER: "spiffe://example.org/web"}])
    async def test_a_request_without_a_peer_is_forbidden(self, state: dict[str, object] | None) -> None:
        sent = await call(RequirePeer(whoami), {"type": "http", "state": state})
        assert sent[0]["status"] == 403

    async def test_a_peer_that_the_rule_does_not_allow_is_forbidden(self, mesh: Mesh) -> None:
        app = RequirePeer(whoami, lambda peer, scope: scope["path"] == "/open" or peer.spiffe_id == mesh.id("admin"))
        for name, path, status in (("web", "/open", 200), ("web", "/shut", 403), ("admin", "/shut", 200)):
            scope = {"type": "http", "path": path, "state": {PEER: peer_for(mesh, name)}}
            assert (await call(app, scope))[0]["status"] == status

    async def test_a_websocket_without_a_peer_is_closed(self) -> None:
        assert await call(RequirePeer(whoami), {"type": "websocket", "state": {}}) == [
            {"type": "websocket.close", "code": 1008, "reason": ""}
        ]


def test_asking_a_scope_without_a_peer_names_what_to_do() -> None:
    with pytest.raises(RequestError) as raised:
        peer_of({"type": "http"})
    assert str(raised.value) == (
        "http scope: no verified peer; serve the application with meshtls.integrations.uvicorn"
    )


class TestVerifiedPeer:
    async def test_httpx_responses_carry_the_peers_id(self, mesh: Mesh) -> None:
        answering = server_context(mesh.source("server"), authorize_any())
        asking = client_context(mesh.source("client"), authorize_any())
        async with served(uvicorn_server.serving, answering) as address:
            async with (
                httpx.AsyncClient(verify=asking) as client,
                client.stream("GET", f"https://{address}/") as response,
            ):
                assert verified_peer(response.extensions["network_stream"]).spiffe_id == mesh.id("server")
            assert await asyncio.to_thread(self.ask, asking, f"https://{address}/") == mesh.id("server")

    def ask(self, context: ssl.SSLContext, url: str) -> object:
        with httpx.Client(verify=context) as client, client.stream("GET", url) as response:
            return verified_peer(response.extensions["network_stream"]).spiffe_id

    async def test_a_plaintext_connection_has_no_peer(self) -> None:
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            with pytest.raises(RequestError) as raised:
                verified_peer(writer)
            writer.close()
            await writer.wait_closed()
        assert str(raised.value) == "verified_peer: wanted a connection over a meshtls context, got plaintext"
