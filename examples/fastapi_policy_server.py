"""FastAPI with Istio's policies: each request is judged by the peer that was verified.

python examples/fastapi_policy_server.py 127.0.0.1:8443 examples/policies
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

import uvicorn
from fastapi import FastAPI, Request

import meshtls
from meshtls.integrations.asgi_policy import PolicyMiddleware
from meshtls.integrations.uvicorn import peer_config

app = FastAPI()


@app.get("/orders")
@app.post("/orders")
async def orders(request: Request) -> str:
    return f"orders for {request.state.spiffe_caller}"


async def main(listen: str, *policy_paths: str) -> None:
    host, _, port = listen.rpartition(":")
    with meshtls.policy.load(policy_paths, watch=True) as policies:
        app.add_middleware(PolicyMiddleware, policies=policies)
        async with meshtls.X509Source() as source:
            # Every verified peer may connect: the middleware judges each of its requests.
            context = meshtls.server_context(source, meshtls.authorize_any())
            with socket.create_server((host, int(port))) as listener:
                print(f"listening on {host}:{listener.getsockname()[1]}", flush=True)
                await uvicorn.Server(peer_config(app, context)).serve(sockets=[listener])


if __name__ == "__main__":
    # The reasons of denials: the logger meshtls.policy, at INFO.
    logging.basicConfig()
    logging.getLogger("meshtls.policy").setLevel(logging.INFO)
    asyncio.run(main(*sys.argv[1:]))
