"""A plain proxy around Http2Filter: sockets and asyncio, and nothing that decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meshtls.wire.http import Answer, Forward, HttpRequest, Ruling
from meshtls.wire.http2.filter import Http2Filter

Rule = Callable[[HttpRequest], Ruling]


class Proxy:
    """What a proxy saw. ``rule`` is asked on each request; ``late``: it answers in a later step of the loop."""

    def __init__(self, app_port: int, rule: Rule, *, late: bool) -> None:
        self.app_port = app_port
        self.rule = rule
        self.late = late
        self.port = 0
        self.requests: list[HttpRequest] = []
        self.links: list[Link] = []

    def judge(self, request: HttpRequest, answer: Answer) -> None:
        self.requests.append(request)
        if self.late:
            asyncio.get_running_loop().call_soon(lambda: answer(self.rule(request)))
        else:
            answer(self.rule(request))

    def accept(self) -> asyncio.Protocol:
        link = Link(self)
        self.links.append(link)
        return link.client


class Link:
    """One client's connection, and its app's once a request was allowed."""

    def __init__(self, owner: Proxy) -> None:
        self.owner = owner
        self.filter = Http2Filter(
            owner.judge,
            self.look,
        )
        self.client = _End(self.look, self.filter.from_client, self.filter.client_ended)
        self.app = _End(self.look, self.filter.from_app, self.filter.app_ended)
        self.dial: asyncio.Task[None] | None = None

    async def _dial(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.app, "127.0.0.1", self.owner.app_port)
        except OSError:
            self.filter.app_failed()
        self.look()

    def look(self) -> None:
        """Do what the filter's attributes say now."""
        one = self.filter
        if one.wants_app and self.dial is None:
            self.dial = asyncio.get_running_loop().create_task(self._dial())
        # Each may leave more to be written for the other.
        while any([self.app.write(one.for_app), self.client.write(one.for_client)]):
            pass
        self.app.obey(reads=one.reads_app, finished=one.app_finished)
        self.client.obey(reads=one.reads_client, finished=one.client_finished)


class _End(asyncio.Protocol):
    def __init__(self, look: Callable[[], None], read: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self.look, self.read, self.ended = look, read, ended
        self.transport: asyncio.Transport | None = None
        self.writable = True
        self.most_unsent = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.look()

    def data_received(self, data: bytes) -> None:
        self.read(data)
        self.look()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.ended()
        self.look()

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.look()

    def write(self, take: Callable[[], bytes]) -> bool:
        if self.transport is None or not self.writable:
            return False
        data = take()
        self.transport.write(data)
        self.most_unsent = max(self.most_unsent, self.transport.get_write_buffer_size())
        return bool(data)

    def obey(self, *, reads: bool, finished: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if reads:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()
        if finished and self.writable:
            self.transport.close()


@asynccontextmanager
async def proxy(app_port: int, rule: Rule = Forward, *, late: bool = False) -> AsyncIterator[Proxy]:
    """A proxy that listens on an ephemeral port of loopback."""
    made = Proxy(app_port, rule, late=late)
    server = await asyncio.get_running_loop().create_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for link in made.links:
            for end in (link.client, link.app):
                if end.transport is not None:
                    end.transport.abort()
