"""The small HTTP client: an answer whose numbers are none is an error and no traceback."""

from __future__ import annotations

import asyncio

import pytest

from meshtls.address import Address
from meshtls.cli.http import HttpError, get


async def answered(raw: bytes) -> tuple[int, bytes]:
    """What ``get`` makes of these bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        response = await get(Address(host, port), "/", 10.0)
        return response.status, response.body


async def test_a_good_answer_is_read() -> None:
    assert await answered(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") == (200, b"ok")


async def test_a_non_numeric_content_length_is_ignored() -> None:
    assert await answered(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\nok") == (200, b"ok")


async def test_a_status_that_is_no_number_is_refused() -> None:
    with pytest.raises(HttpError, match="the connection was closed without an HTTP answer"):
        await answered(b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\n\r\nok")
