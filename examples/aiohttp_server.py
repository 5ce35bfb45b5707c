"""aiohttp as a server: the peer comes from the request's transport.

python examples/aiohttp_server.py 127.0.0.1:8443 spiffe://example.org/client
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

import meshtls
from meshtls.integrations.peers import verified_peer


async def greet(request: web.Request) -> web.Response:
    if request.transport is None:
        raise web.HTTPForbidden(text="the client is gone")
    peer = verified_peer(request.transport)
    return web.Response(text=f"hello {peer.spiffe_id}, certificate {peer.serial}")


@asynccontextmanager
async def serving(context: ssl.SSLContext, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the body runs; gives the port, which is a free one for 0."""
    app = web.Application()
    app.router.add_get("/", greet)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def main(listen: str, *allowed: str) -> None:
    host, _, port = listen.rpartition(":")
    async with meshtls.X509Source() as source:
        context = meshtls.server_context(source, meshtls.authorize_one_of(*allowed))
        async with serving(context, host, int(port)) as taken:
            print(f"listening on {host}:{taken}", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
