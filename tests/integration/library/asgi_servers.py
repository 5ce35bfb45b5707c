"""The servers that call an ASGI app in plaintext, and requests of raw bytes to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.integration.library.test_asgi import running
from tests.support.hypercorn_serving import hypercorn_serving

__all__ = ["SERVERS", "answered", "hypercorn", "uvicorn_h11", "uvicorn_httptools"]

#: ``root_path`` is the server's own setting.
Server = Callable[..., AbstractAsyncContextManager[str]]


@asynccontextmanager
async def uvicorn_httptools(app: Any, root_path: str = "") -> AsyncIterator[str]:
    async with running(uvicorn.Config(app, http=HttpToolsProtocol, root_path=root_path, log_config=None)) as address:
        yield address


@asynccontextmanager
async def uvicorn_h11(app: Any, root_path: str = "") -> AsyncIterator[str]:
    async with running(uvicorn.Config(app, http=H11Protocol, root_path=root_path, log_config=None)) as address:
        yield address


@asynccontextmanager
async def hypercorn(app: Any, root_path: str = "") -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    async with hypercorn_serving(app, listening, root_path=root_path):
        yield address


SERVERS: dict[str, Server] = {
    "uvicorn with httptools": uvicorn_httptools,
    "uvicorn with h11": uvicorn_h11,
    "hypercorn": hypercorn,
}


async def answered(address: object, request: bytes, **tls: Any) -> tuple[int, str]:
    """The status of the answer to these bytes, after 100 (Continue), and its body if it has a Content-Length."""
    host, _, port = str(address).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), **tls)
    try:
        writer.write(request)
        status = 100
        while status == 100:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status = int(head.split()[1])
        fields = dict(line.lower().split(": ", 1) for line in head.strip().split("\r\n")[1:])
        return status, (await reader.readexactly(int(fields.get("content-length", "0")))).decode()
    finally:
        writer.close()
