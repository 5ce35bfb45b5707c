"""asyncio streams: a client that accepts one SPIFFE ID only.

python examples/asyncio_client.py 127.0.0.1:8443 spiffe://example.org/server
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import meshtls


async def fetch(context: ssl.SSLContext, address: str) -> str:
    """The server's response. In TLS 1.3 the client finishes first: a server's refusal arrives with the first read."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    writer.write(b"who am I?\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.decode().strip()


async def main(address: str, server: str) -> None:
    async with meshtls.X509Source() as source:
        context = meshtls.client_context(source, meshtls.authorize_id(server))
        print(await fetch(context, address))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
