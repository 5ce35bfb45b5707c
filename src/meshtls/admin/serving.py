"""The listeners of the admin interface: a Unix socket, and loopback TCP where the configuration asks for it.

Bounded like every listener without authentication (``rpc/brief_connections.py``): one request a connection, a request
of at most 8 KiB with a body of 4 KiB, seconds for each step. A stream has no end, so each listener has at most so many.
Any local user can take all those of TCP; root still gets its own on the Unix socket. A reader that is too slow loses
records (``follow.py``), or the stream if it does not read at all.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.admin.pages import JSON, Caller, Pages, Stream
from meshtls.counted_log import CountedLog
from meshtls.logs import logger
from meshtls.printable import printable_json
from meshtls.rpc.brief_connections import PLAINTEXT_LIMITS, closing_head, serve_briefly
from meshtls.rpc.peer_credentials import credentials_of
from meshtls.rpc.small_http import Answer, Request, read_request
from meshtls.rpc.sockets import tcp_listener, unix_listener
from meshtls.rpc.tls_socket import Bytes

__all__ = ["MOST_STREAMS", "admin_notice", "serving_admin"]

log = logger("meshtls.admin")

#: Seconds for a request to arrive, for its answer to be made, and for the client to take each part of that.
_REQUEST_SECONDS, _ANSWER_SECONDS, _SEND_SECONDS = 5.0, 10.0, 10.0
_STREAM_SECONDS = 24 * 3600.0
_LONGEST_BODY = 4096
_BACKLOG = 64
MOST_STREAMS = 8


def admin_notice(keys: AdminKeys | None) -> str:
    """What an operator has to know as long as it runs; empty if nothing."""
    if keys is None or keys.listen is None:
        return ""
    return f"every user of this machine can read the admin interface on {keys.listen} (admin.listen)"


@asynccontextmanager
async def serving_admin(keys: AdminKeys | None, pages: Pages, *, worker: int = 0) -> AsyncIterator[Address | None]:
    """Answer while the body runs. Yields the address over TCP, with the port where 0 was asked for. Raises ConfigError.

    ``worker``: the number of this process where several serve the same configuration. Each has a socket of its own.
    """
    if keys is None:
        yield None
        return
    async with AsyncExitStack() as opened:
        if keys.socket is not None:
            path = keys.socket.with_name(f"{keys.socket.name}.{worker}") if worker else keys.socket
            local = opened.enter_context(unix_listener(path, 0o600))
            await opened.enter_async_context(_brief("admin", local, _Serving(pages), None))
        bound = None
        if keys.listen is not None:
            listener = opened.enter_context(
                tcp_listener(keys.listen.host, keys.listen.port, name="admin.listen", backlog=_BACKLOG)
            )
            host, port = listener.getsockname()[:2]
            bound = Address(host, port)
            log.warning("%s", admin_notice(AdminKeys(listen=bound)))
            await opened.enter_async_context(_brief("admin.listen", listener, _Serving(pages), bound))
        yield bound


def _brief(
    name: str, listener: socket.socket, serving: _Serving, bound: Address | None
) -> AbstractAsyncContextManager[None]:
    async def answer(sock: socket.socket) -> None:
        await serving.serve(sock, bound)

    return serve_briefly(name, listener, answer, _STREAM_SECONDS, serving.log, PLAINTEXT_LIMITS)


class _Serving:
    """One listener's: what fills the one leaves the other free."""

    def __init__(self, pages: Pages) -> None:
        self.log = CountedLog(log)
        self._pages = pages
        self._streams = 0

    async def serve(self, sock: socket.socket, bound: Address | None) -> None:
        link = Bytes(sock)
        async with asyncio.timeout(_REQUEST_SECONDS):
            request = await read_request(link, _LONGEST_BODY)
        if request is None:
            return
        if isinstance(request, Answer):
            answer: Answer | Stream = request
        else:
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await self._answer(request, sock, bound)
        head_only = isinstance(request, Request) and request.method == "HEAD"
        if isinstance(answer, Stream):
            await self._stream(link, answer, body=not head_only)
            return
        async with asyncio.timeout(_SEND_SECONDS):
            await link.send(answer.encoded(body=not head_only))
            await link.finish()

    async def _answer(self, request: Request, sock: socket.socket, bound: Address | None) -> Answer | Stream:
        name = str(credentials_of(sock)) if bound is None else str(sock.getpeername()[:2])
        answer = await self._pages.answer(request, Caller(name, bound is None), bound)
        if isinstance(answer, Stream) and self._streams >= MOST_STREAMS:
            return Answer(503, b'{"error": "%d streams are followed already; end one of them"}\n' % MOST_STREAMS, JSON)
        return answer

    async def _stream(self, link: Bytes, stream: Stream, *, body: bool) -> None:
        self._streams += 1
        try:
            fields = (("Content-Type", "application/jsonl"), ("Cache-Control", "no-store"))
            await self._send(link, closing_head(200, fields))
            if not body:
                return
            async with aclosing(stream.records) as records:
                async for record in records:
                    await self._send(link, printable_json(json.dumps(record)).encode() + b"\n")
        finally:
            self._streams -= 1

    async def _send(self, link: Bytes, data: bytes) -> None:
        async with asyncio.timeout(_SEND_SECONDS):
            await link.send(data)
