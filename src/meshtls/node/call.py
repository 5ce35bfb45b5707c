"""The HTTP request of a handshake message: its bytes for the client's sidecar, and the app that answers it.

HTTP/1.1 (RFC 9112), one request a connection, without a body: the sidecars between do all that policies are about.
"""

from __future__ import annotations

import asyncio
import re

from meshtls.errors import RequestError
from meshtls.node.messages import HttpCall
from meshtls.scalars import shown
from meshtls.wire.http_rules import is_token, latin_1

__all__ = ["answer_http", "request_bytes", "status_of"]

#: What may stand in a start line, or in a field, without ending it.
_TARGET = re.compile(r"[!-~]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")
_FRAMING = ("host", "connection", "content-length", "transfer-encoding", "upgrade", "expect")
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n"


def request_bytes(call: HttpCall, host: str) -> bytes:
    """The request; ``host`` is for a call without one. Raises RequestError for what would be another request."""
    for what, value in (("method", call.method), ("path", call.path), ("host", call.host or host)):
        if not (is_token(value) if what == "method" else _TARGET.fullmatch(value)):
            raise RequestError(f"request.{what}: wanted printable ASCII without spaces, got {shown(value)}")
    fields = [("host", call.host or host), ("connection", "close")]
    for name, value in call.headers.items():
        if not is_token(name) or name.lower() in _FRAMING:
            raise RequestError(f"request.headers: wanted the name of a header that frames nothing, got {shown(name)}")
        sent = latin_1(value)
        if not _VALUE.fullmatch(sent):
            raise RequestError(f"request.headers: wanted a value of one line, got {shown(value)}")
        fields.append((name, sent))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{call.method} {call.path} HTTP/1.1\r\n{head}\r\n".encode("latin-1")


def status_of(response: bytes) -> int | None:
    """The status of a response; None if none came."""
    line = response.partition(b"\r\n")[0].split(b" ")
    return int(line[1]) if len(line) > 1 and line[0] == b"HTTP/1.1" and line[1].isdigit() else None


async def answer_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The app behind the server's sidecar: answer one request with 200."""
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_ANSWER)
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return
    finally:
        writer.close()
