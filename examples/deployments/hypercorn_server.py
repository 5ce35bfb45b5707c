"""hypercorn with several workers: peers are authorized in the handshake only.

python hypercorn_server.py 127.0.0.1:8443

hypercorn gives an application no access to its connection, so the application can't know its peer: ``require`` and
``RequirePeer`` refuse all. Serve with uvicorn if routes are for different peers.
"""

from __future__ import annotations

import os
import ssl
import sys

from hypercorn.config import Config
from hypercorn.run import run
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import meshtls


async def greet(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"hello from process {os.getpid()}")


app = Starlette(routes=[Route("/", greet)])


class MeshConfig(Config):
    """Each worker creates its context when it starts; hypercorn has no setting for that, only this method."""

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        source = meshtls.blocking(meshtls.X509Source()).enter()
        context = meshtls.server_context(source, meshtls.authorize_id("spiffe://example.org/client"))
        context.set_alpn_protocols(self.alpn_protocols)
        return context


def main(listen: str) -> int:
    config = MeshConfig()
    config.application_path = "hypercorn_server:app"
    config.bind = [listen]
    config.workers = 2
    config.accesslog, config.errorlog = None, "-"
    return run(config)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
