"""A small HTTP/1.1 listener, plaintext or TLS: one request per connection, bounded in size and time."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from meshtls.counted_log import CountedLog
from meshtls.errors import MeshtlsError
from meshtls.logs import logger
from meshtls.rpc.brief_connections import HANDSHAKE_LIMITS, PLAINTEXT_LIMITS, closing_head, serve_briefly
from meshtls.rpc.sockets import tcp_listener
from meshtls.rpc.tls_socket import Bytes, TlsSocket

__all__ = ["Answer", "Request", "read_request", "serve_http"]

_LONGEST_HEAD = 8192
_SECONDS = 10.0
_BACKLOG = 128
_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length:[ \t]*([0-9]{1,9})[ \t]*", re.ASCII | re.IGNORECASE)

log = logger("meshtls.rpc")


@dataclass(frozen=True, slots=True)
class Request:
    """``path`` is as the client wrote it, with its query. ``fields`` are in lower case, the first of each name."""

    method: str
    path: str
    body: bytes = b""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. ``max_age`` is how long, in seconds, anybody may keep it; None for not without asking again.

    ``fields`` are further header fields.
    """

    status: int
    content: bytes
    type: str = "text/plain; charset=utf-8"
    max_age: int | None = None
    fields: tuple[tuple[str, str], ...] = ()

    def encoded(self, *, body: bool) -> bytes:
        cache = "no-cache" if self.max_age is None else f"public, max-age={self.max_age}, immutable"
        fields = (
            ("Content-Type", self.type),
            ("Content-Length", len(self.content)),
            ("Cache-Control", cache),
            *self.fields,
            ("X-Content-Type-Options", "nosniff"),
        )
        return closing_head(self.status, fields) + (self.content if body else b"")


@asynccontextmanager
async def serve_http(
    name: str,
    host: str,
    port: int,
    answer: Callable[[Request], Awaitable[Answer]],
    *,
    longest_body: int = 0,
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> AsyncIterator[int]:
    """Answer requests on this address while the body runs. Yields the port: a free one for 0. Raises ConfigError.

    ``name`` is the listener's in messages. A request with a body of more than ``longest_body`` bytes is refused unread.
    ``tls`` gives the context of each new connection; without it there is no TLS.
    """
    with tcp_listener(host, port, name=name, backlog=_BACKLOG) as listener:
        serving = _Serving(name, answer, longest_body, tls)
        limits = PLAINTEXT_LIMITS if tls is None else HANDSHAKE_LIMITS
        async with serve_briefly(name, listener, serving.serve, _SECONDS, serving.log, limits):
            yield listener.getsockname()[1]


class _Serving:
    def __init__(
        self,
        name: str,
        answer: Callable[[Request], Awaitable[Answer]],
        longest_body: int,
        tls: Callable[[], ssl.SSLContext] | None,
    ) -> None:
        self._name = name
        self._answer = answer
        self._longest_body = longest_body
        self._tls = tls
        self.log = CountedLog(log)

    async def serve(self, sock: socket.socket) -> None:
        try:
            link = Bytes(sock) if self._tls is None else TlsSocket(sock, self._tls())
        except MeshtlsError as error:
            self.log.warning(type(error).__name__, f"{self._name} listener: no connection: {error}")
            return
        # A failed handshake is an OSError, too: what a stranger sends is not worth a line of the log.
        await link.handshake()
        read = await read_request(link, self._longest_body)
        if read is None:
            return
        told = read if isinstance(read, Answer) else await self._told(read)
        head_only = isinstance(read, Request) and read.method == "HEAD"
        await link.send(told.encoded(body=not head_only))
        await link.finish()

    async def _told(self, request: Request) -> Answer:
        try:
            return await self._answer(request)
        except MeshtlsError as error:
            self.log.warning(type(error).__name__, f"{self._name} listener: {error}")
            return Answer(503, b"not available now\n")


async def read_request(link: Bytes, longest_body: int) -> Request | Answer | None:
    """The next request; an Answer that refuses it; None if the client sent no whole one. Raises OSError."""
    data = b""
    while _END not in data:
        more = await link.receive(_LONGEST_HEAD)
        data += more
        if not more or (len(data) > _LONGEST_HEAD and _END not in data):
            return None
    head, _, body = data.partition(_END)
    first, *fields = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not first.isascii():
        return Answer(400, b"wanted an HTTP/1.1 request\n")
    if any(one.lower().startswith(b"transfer-encoding:") for one in fields):
        return Answer(400, b"wanted a body with a Content-Length\n")
    lengths = {int(found[1]) for one in fields if (found := _LENGTH.fullmatch(one))}
    length = lengths.pop() if lengths else 0
    if lengths or length > longest_body:
        return Answer(413, b"wanted a body of at most %d bytes\n" % longest_body)
    while len(body) < length:
        more = await link.receive(length - len(body))
        body += more
        if not more:
            return None
    pairs = [one.decode("latin-1").partition(":") for one in reversed(fields)]
    named = {name.lower(): value.strip(" \t") for name, _, value in pairs}
    return Request(words[0].decode(), words[1].decode(), body[:length], named)
