"""aiohttp as a client: the context goes to the connector.

python examples/aiohttp_client.py https://127.0.0.1:8443/ spiffe://example.org/server
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import aiohttp

import meshtls


async def fetch(context: ssl.SSLContext, url: str) -> str:
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector, raise_for_status=True) as session,
        session.get(url) as response,
    ):
        return await response.text()


async def main(url: str, server: str) -> None:
    async with meshtls.X509Source() as source:
        context = meshtls.client_context(source, meshtls.authorize_id(server))
        print(await fetch(context, url))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
