"""The part of HTTP/1.1 that the demo app and the health checks need: one GET per connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from dataclasses import dataclass

from meshtls.address import Address

__all__ = [
    "HttpError",
    "HttpTimeoutError",
    "NotHttpError",
    "Response",
    "get",
    "read_request",
    "read_to_end",
    "response",
]

_MAX_BODY = 1 << 20


class HttpError(Exception):
    """There was no response, or an invalid one."""


class HttpTimeoutError(HttpError):
    """There was no whole response in time."""


class NotHttpError(HttpError):
    """The connection was made, and no valid response came on it."""


@dataclass(frozen=True, slots=True)
class Response:
    """A status code and the body."""

    status: int
    body: bytes


async def get(address: Address, path: str, timeout: float = 10.0) -> Response:
    """Send one GET request. Raises HttpError, also after ``timeout`` seconds without a whole response."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(address.host, address.port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                data = await read_to_end(reader, _MAX_BODY)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            return _parse(data)
    except TimeoutError as error:
        raise HttpTimeoutError(f"{address} gave no answer within {timeout:g} s") from error
    except OSError as error:
        # asyncio's message differs from the system's.
        raise HttpError(f"{address}: {os.strerror(error.errno) if error.errno else error}") from error


async def read_to_end(reader: asyncio.StreamReader, most: int) -> bytes:
    """All that comes until the peer ends it. Raises HttpError for more than ``most`` bytes."""
    data = bytearray()
    while chunk := await reader.read(1 << 16):
        data += chunk
        if len(data) > most:
            raise NotHttpError(f"wanted an answer of at most {most} bytes")
    return bytes(data)


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
    """A response with its head and a JSON body."""
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def _parse(data: bytes) -> Response:
    head, separator, body = data.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if (
        not separator
        or len(words) < 2
        or not words[0].startswith(b"HTTP/1.")
        or not re.fullmatch(rb"[0-9]{3}", words[1])
    ):
        raise NotHttpError("the connection was closed without an HTTP answer")
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and re.fullmatch(rb"[0-9]{1,18}", value.strip()):
            length = int(value)
            if len(body) != length:
                raise NotHttpError(f"wanted {length} bytes of an answer, got {len(body)}")
            break
    return Response(int(words[1]), body)
