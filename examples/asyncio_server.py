"""asyncio streams: a server that greets each client by the SPIFFE ID that it proved.

python examples/asyncio_server.py 127.0.0.1:8443 spiffe://example.org/client
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import meshtls
from meshtls.integrations.peers import verified_peer


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    peer = verified_peer(writer)
    await reader.readline()
    writer.write(f"hello {peer.spiffe_id}, certificate {peer.serial}\n".encode())
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def serving(context: ssl.SSLContext, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the body runs; gives the port, which is a free one for 0."""
    async with await asyncio.start_server(greet, host, port, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def main(listen: str, *allowed: str) -> None:
    host, _, port = listen.rpartition(":")
    async with meshtls.X509Source() as source:
        context = meshtls.server_context(source, meshtls.authorize_one_of(*allowed))
        async with serving(context, host, int(port)) as taken:
            print(f"listening on {host}:{taken}", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
