"""httpx, async and sync: the context takes the place of a CA file.

python examples/httpx_client.py https://127.0.0.1:8443/ spiffe://example.org/server

A connection that is kept alive keeps its certificate; each new one presents the newest.

A server that we refuse is an ``httpx.ConnectError``. A server that refuses us does so after TLS 1.3's client is done:
that is an ``httpx.ReadError`` or, from httpx's async client, the ``ssl.SSLError`` itself.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import httpx

import meshtls


async def fetch(context: ssl.SSLContext, url: str) -> str:
    async with httpx.AsyncClient(verify=context) as client:
        response = await client.get(url)
        return response.raise_for_status().text


def fetch_sync(context: ssl.SSLContext, url: str) -> str:
    """The same for a thread, or for a program without an event loop (see ``requests_client.py``)."""
    with httpx.Client(verify=context) as client:
        return client.get(url).raise_for_status().text


async def main(url: str, server: str) -> None:
    async with meshtls.X509Source() as source:
        context = meshtls.client_context(source, meshtls.authorize_id(server))
        print(await fetch(context, url))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
