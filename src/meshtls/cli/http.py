"""As much HTTP/1.1 as the demo app and the health checks need: one GET a connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from dataclasses import dataclass

from meshtls.sidecar.address import Address

__all__ = ["HttpError", "Response", "get", "read_request", "response"]

_MAX_BODY = 1 << 20


class HttpError(Exception):
    """No response came, or one that can't be read."""


@dataclass(frozen=True, slots=True)
class Response:
    """A status code and the body."""

    status: int
    body: bytes


async def get(address: Address, path: str, timeout: float = 10.0) -> Response:
    """One GET request, answered within ``timeout`` seconds. Raises HttpError."""
    try:
        async with asyncio.timeout(timeout):
            return _parse(
                await _exchange(address, f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
            )
    except TimeoutError as error:
        raise HttpError(f"{address} gave no answer within {timeout:g} s") from error
    except OSError as error:
        # asyncio puts words of its own in place of the system's.
        raise HttpError(f"{address}: {os.strerror(error.errno) if error.errno else error}") from error


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Method and path of the next request. Raises HttpError."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise HttpError("wanted the head of an HTTP request") from error
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise HttpError("wanted an HTTP/1.1 request line")
    return words[0], words[1]


def response(status: int, reason: str, body: bytes) -> bytes:
    """A JSON response with its head."""
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


async def _exchange(address: Address, request: str) -> bytes:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(request.encode())
        await writer.drain()
        return await _read_to_end(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _read_to_end(reader: asyncio.StreamReader) -> bytes:
    data = bytearray()
    while chunk := await reader.read(1 << 16):
        data += chunk
        if len(data) > _MAX_BODY:
            raise HttpError(f"wanted an answer of at most {_MAX_BODY} bytes")
    return bytes(data)


def _parse(data: bytes) -> Response:
    head, separator, body = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if (
        not separator
        or len(words) < 2
        or not words[0].startswith(b"HTTP/1.")
        or not re.fullmatch(rb"[0-9]{3}", words[1])
    ):
        raise HttpError("the connection was closed without an HTTP answer")
    length = _content_length(head)
    if length is not None and len(body) != length:
        raise HttpError(f"wanted {length} bytes of an answer, got {len(body)}")
    return Response(int(words[1]), body)


def _content_length(head: bytes) -> int | None:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and re.fullmatch(rb"[0-9]{1,18}", value.strip()):
            return int(value)
    return None
