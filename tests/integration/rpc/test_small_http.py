"""The small HTTP listener: what it answers, and what one client can make it hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from meshtls.errors import ConfigError, StoreError
from meshtls.rpc.brief_connections import MOST_CONNECTIONS
from meshtls.rpc.small_http import Answer, Request, serve_http

LONGEST_BODY = 16


async def echo(request: Request) -> Answer:
    if request.path == "/fails":
        raise StoreError("the data store is gone")
    return Answer(200, f"{request.method} {request.path} ".encode() + request.body)


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    async with serve_http("test", "127.0.0.1", 0, echo, longest_body=LONGEST_BODY) as port:
        yield port


async def exchange(port: int, *parts: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("parts", "status", "body"),
    [
        ((b"GET /a HTTP/1.1\r\n\r\n",), b"200 OK", b"GET /a "),
        ((b"GET /a?b HTTP/1.0\r\nHost: x\r\n", b"\r\n"), b"200 OK", b"GET /a?b "),
        ((b"HEAD /a HTTP/1.1\r\n\r\n",), b"200 OK", b""),
        ((b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo", b"dy"), b"200 OK", b"POST /a body"),
        ((b"POST /a HTTP/1.1\r\ncontent-length: 16\r\n\r\n", b"x" * 16), b"200 OK", b"POST /a " + b"x" * 16),
        (
            (b"POST /a HTTP/1.1\r\nContent-Length: 17\r\n\r\n",),
            b"413 Content Too Large",
            b"wanted a body of at most 16 bytes\n",
        ),
        (
            (b"POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",),
            b"413 Content Too Large",
            b"wanted a body of at most 16 bytes\n",
        ),
        (
            (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",),
            b"400 Bad Request",
            b"wanted a body with a Content-Length\n",
        ),
        ((b"GET /a b HTTP/1.1\r\n\r\n",), b"400 Bad Request", b"wanted an HTTP/1.1 request\n"),
        ((b"GET /\xff HTTP/1.1\r\n\r\n",), b"400 Bad Request", b"wanted an HTTP/1.1 request\n"),
        ((b"GET /a HTTP/2\r\n\r\n",), b"400 Bad Request", b"wanted an HTTP/1.1 request\n"),
        ((b"GET /fails HTTP/1.1\r\n\r\n",), b"503 Service Unavailable", b"not available now\n"),
    ],
)
async def test_request_is_passed_to_the_handler_or_refused_with_a_status(
    parts: tuple[bytes, ...], status: bytes, body: bytes
) -> None:
    async with listening() as port:
        head, _, content = (await exchange(port, *parts)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert content == body


async def test_head_without_end_is_not_kept() -> None:
    async with listening() as port:
        assert await exchange(port, b"GET /a HTTP/1.1\r\nX: " + b"x" * 20_000) == b""
        assert (await exchange(port, b"GET /a HTTP/1.1\r\n\r\n")).endswith(b"GET /a ")


async def test_client_with_most_connections_loses_its_oldest_and_others_are_served() -> None:
    async with listening() as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST_CONNECTIONS + 5)]
        assert (await exchange(port, b"GET /a HTTP/1.1\r\n\r\n")).endswith(b"GET /a ")
        reader, _ = silent[0]
        assert await reader.read() == b""
        for _, writer in silent:
            writer.close()


async def test_address_that_is_taken_is_an_error_of_the_configuration() -> None:
    async with listening() as port:
        with pytest.raises(ConfigError, match=rf"^test: wanted to listen on 127.0.0.1:{port}: "):
            async with serve_http("test", "127.0.0.1", port, echo):
                pass
