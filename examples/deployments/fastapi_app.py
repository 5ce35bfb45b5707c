"""FastAPI behind several uvicorn workers: the context authorizes connections, and each route names its callers.

python fastapi_app.py 127.0.0.1 8443

Workers are processes of their own, so each makes its own context, from a source that follows the Workload API in a
thread. uvicorn calls ``context`` by reference: a context itself can't be sent to another process.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI

import meshtls
from meshtls.integrations.fastapi import require
from meshtls.tls.rotating import RotatingContext

app = FastAPI()


@app.get("/")
async def greet(peer: Annotated[meshtls.VerifiedPeer, Depends(require("spiffe://example.org/client"))]) -> str:
    return f"hello {peer.spiffe_id} from process {os.getpid()}"


def context(*_: object) -> RotatingContext:
    """Called in each worker, once, when it starts."""
    source = meshtls.blocking(meshtls.X509Source()).enter()
    return meshtls.server_context(source, meshtls.authorize_member_of("example.org"))


def main(host: str, port: str) -> None:
    uvicorn.run(
        "fastapi_app:app",
        host=host,
        port=int(port),
        workers=2,
        http="meshtls.integrations.uvicorn:PeerProtocol",
        ssl_context_factory=context,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
