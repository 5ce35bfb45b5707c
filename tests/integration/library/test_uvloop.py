"""The same contexts under uvloop, which has its own TLS code around the same hooks."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop

from examples import asyncio_client, asyncio_server
from meshtls import authorize_id, client_context, server_context
from meshtls.pytest.mesh import Mesh
from tests.integration.library.seen import noting
from tests.integration.library.served import served


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def test_rotation_and_refusals_under_uvloop(mesh: Mesh) -> None:
    client, server, seen = mesh.source("client"), mesh.source("server"), list[str]()
    asking = client_context(client, noting(authorize_id(mesh.id("server")), seen))
    answering = server_context(server, authorize_id(mesh.id("client")))

    async def main() -> None:
        async with served(asyncio_server.serving, answering) as address:
            for _ in range(2):
                answer = await asyncio_client.fetch(asking, address)
                assert answer == f"hello spiffe://example.org/client, certificate {client.serial}"
                assert seen[-1] == server.serial
                client.rotate()
                server.rotate()

    run(main())


def test_a_stranger_reads_an_alert_under_uvloop(mesh: Mesh) -> None:
    asking = client_context(mesh.source("stranger"), authorize_id(mesh.id("server")))
    answering = server_context(mesh.source("server"), authorize_id(mesh.id("client")))

    async def main() -> None:
        async with served(asyncio_server.serving, answering) as address:
            with pytest.raises(ssl.SSLError, match="TLSV1_ALERT_UNKNOWN_CA"):
                await asyncio_client.fetch(asking, address)

    run(main())


def test_a_client_refuses_a_foreign_server_under_uvloop(mesh: Mesh) -> None:
    asking = client_context(mesh.source("client"), authorize_id(mesh.id("server")))
    answering = server_context(mesh.foreign("server"), authorize_id(mesh.id("client")))

    async def main() -> None:
        async with served(asyncio_server.serving, answering) as address:
            with pytest.raises(ssl.SSLCertVerificationError, match="no path to a root of the bundle"):
                await asyncio_client.fetch(asking, address)

    run(main())
