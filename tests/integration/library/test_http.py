"""Every HTTP client of the examples with every HTTP server: rotation on both sides, and a refused peer on both."""

from __future__ import annotations

import asyncio

import pytest

from meshtls import authorize_id, client_context, peer_id, server_context
from meshtls.integrations.peers import verified_peer
from meshtls.pytest.mesh import Mesh
from tests.integration.library.http import CLIENTS, FAILURES, SERVERS, Fetch
from tests.integration.library.served import Serving, served

every_client = pytest.mark.parametrize("fetch", CLIENTS.values(), ids=CLIENTS)
every_server = pytest.mark.parametrize("serving", SERVERS.values(), ids=SERVERS)


@every_client
@every_server
async def test_the_server_sees_the_clients_newest_svid(mesh: Mesh, fetch: Fetch, serving: Serving) -> None:
    client = mesh.source("client")
    context = client_context(client, authorize_id(mesh.id("server")))
    answering = server_context(mesh.source("server"), authorize_id(mesh.id("client")))
    async with served(serving, answering) as address:
        for _ in range(2):
            answer = await fetch(context, f"https://{address}/")
            assert answer == f"hello spiffe://example.org/client, certificate {client.serial}"
            client.rotate()


@every_server
async def test_each_new_connection_sees_the_servers_newest_svid(mesh: Mesh, serving: Serving) -> None:
    server = mesh.source("server")
    context = client_context(mesh.source("client"), authorize_id(mesh.id("server")))
    async with served(serving, server_context(server, authorize_id(mesh.id("client")))) as address:
        for _ in range(2):
            _, writer = await asyncio.open_connection(*address.split(":"), ssl=context)
            assert peer_id(writer) == mesh.id("server")
            assert verified_peer(writer).serial == server.serial
            writer.close()
            await writer.wait_closed()
            server.rotate()


@every_client
@every_server
async def test_a_server_refuses_a_client_of_another_id(
    mesh: Mesh, fetch: Fetch, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    context = client_context(mesh.source("stranger"), authorize_id(mesh.id("server")))
    answering = server_context(mesh.source("server"), authorize_id(mesh.id("client")))
    caplog.set_level("INFO", "meshtls.tls")
    async with served(serving, answering) as address:
        with pytest.raises(FAILURES):
            await fetch(context, f"https://{address}/")
    refusals = {record.message for record in caplog.records if record.name == "meshtls.tls"}  # aiohttp tries twice
    assert refusals == {
        "refused: peer spiffe://example.org/stranger is not allowed to reach spiffe://example.org/server;"
        " allowed: spiffe://example.org/client"
    }


@every_client
@every_server
async def test_a_client_refuses_a_server_of_a_foreign_ca(mesh: Mesh, fetch: Fetch, serving: Serving) -> None:
    context = client_context(mesh.source("client"), authorize_id(mesh.id("server")))
    answering = server_context(mesh.foreign("server"), authorize_id(mesh.id("client")))
    async with served(serving, answering) as address:
        with pytest.raises(FAILURES) as refused:
            await fetch(context, f"https://{address}/")
    assert "no path to a root of the bundle of trust domain example.org" in str(refused.value)
