"""uvicorn and Starlette: the peer is in the request's scope; FastAPI gets it the same way.

python examples/uvicorn_server.py 127.0.0.1:8443 spiffe://example.org/client

The context's authorizer decides who may connect, and ``RequirePeer`` who may make a request. If the application is
served without ``peer_config``, that middleware answers every request with 403.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import meshtls
from meshtls.integrations.asgi import RequirePeer
from meshtls.integrations.uvicorn import peer_config
from meshtls.tls.rotating import RotatingContext


async def greet(request: Request) -> PlainTextResponse:
    peer: meshtls.VerifiedPeer = request.state.spiffe_peer
    return PlainTextResponse(f"hello {peer.spiffe_id}, certificate {peer.serial}")


app = Starlette(routes=[Route("/", greet)], middleware=[Middleware(RequirePeer)])


@asynccontextmanager
async def serving(context: RotatingContext, host: str, port: int) -> AsyncIterator[int]:
    """Serve while the body runs; gives the port, which is a free one for 0."""
    with socket.create_server((host, port)) as listener:
        server = uvicorn.Server(peer_config(app, context, log_config=None))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets=[listener]))
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True


async def main(listen: str, *allowed: str) -> None:
    host, _, port = listen.rpartition(":")
    async with meshtls.X509Source() as source:
        context = meshtls.server_context(source, meshtls.authorize_one_of(*allowed))
        with socket.create_server((host, int(port))) as listener:
            print(f"listening on {host}:{listener.getsockname()[1]}", flush=True)
            await uvicorn.Server(peer_config(app, context)).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
