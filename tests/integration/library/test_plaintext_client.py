"""A client that sends plaintext to an asyncio server with ``server_context`` is disconnected at once."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from meshtls import authorize_any, client_context, server_context
from meshtls.pytest import Mesh

#: Seconds; asyncio's own handshake timeout, which used to end such a connection, is 60.
BOUND = 20


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    writer.close()


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", id="HTTP"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2 in clear"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="SSH"),
        pytest.param(b"\x00" * 64, id="zeros"),
    ],
)
async def test_a_plaintext_client_is_cut_at_once(mesh: Mesh, first: bytes) -> None:
    context = server_context(mesh.source("server"), authorize_any())
    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        host, port = server.sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(first)
        async with asyncio.timeout(BOUND):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()

        # The same server serves a client that speaks TLS.
        asking = client_context(mesh.source("client"), authorize_any())
        reader, writer = await asyncio.open_connection(host, port, ssl=asking)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
