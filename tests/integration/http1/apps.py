"""The servers of the smuggling table, on loopback, each with an app that records whole requests by connection."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import uvicorn
from aiohttp import web

__all__ = ["SERVER_NAMES", "Served", "served"]

SERVER_NAMES = ("h11", "httptools", "aiohttp")


class Served:
    """A running server. ``understood`` has the requests of a connection, by the client's port."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.understood: dict[int, list[str]] = defaultdict(list)

    async def asgi(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        path = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        self._record(scope["client"][1], scope["method"], path.decode("latin-1"), hosts, body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def aiohttp(self, request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        port = request.transport.get_extra_info("peername")[1]
        body = await request.read()
        self._record(port, request.method, request.raw_path, request.headers.getall("host", []), body)
        return web.Response(text="ok")

    def _record(self, port: int, method: str, path: str, hosts: list[str], body: bytes) -> None:
        self.understood[port].append(f"{method} {path} {','.join(hosts)} {body.decode('latin-1')!r}")


@asynccontextmanager
async def _uvicorn(name: str) -> AsyncIterator[Served]:
    found = Served(name)
    config = uvicorn.Config(
        found.asgi, port=0, http=name, interface="asgi3", proxy_headers=False, log_level="critical", lifespan="off"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        assert not task.done()
    found.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.should_exit = server.force_exit = True
        await task


@asynccontextmanager
async def _aiohttp() -> AsyncIterator[Served]:
    found = Served("aiohttp")
    runner = web.ServerRunner(web.Server(found.aiohttp))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


def served(name: str) -> AbstractAsyncContextManager[Served]:
    """A server by its name in the smuggling table: uvicorn with h11 or with httptools, or aiohttp."""
    return _aiohttp() if name == "aiohttp" else _uvicorn(name)
