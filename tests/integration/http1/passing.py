"""An ``Http1Filter`` between sockets: a listener on loopback that passes requests on to an app."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meshtls.wire.http import Answer, HttpRequest, Ruling
from meshtls.wire.http1.filter import Http1Filter

__all__ = ["passing"]


class _Connection:
    """``rule`` is asked a turn of the event loop after the judge was called, so that rulings come late."""

    def __init__(self, rule: Callable[[HttpRequest], Ruling], app_port: int) -> None:
        self._rule = rule
        self._app_port = app_port
        self._changed = asyncio.Event()
        self._filter = Http1Filter(self._judge, self._changed.set)

    def _judge(self, request: HttpRequest, answer: Answer) -> None:
        asyncio.get_running_loop().call_soon(lambda: answer(self._rule(request)))

    async def run(self, client: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        made = self._filter
        app_writer: asyncio.StreamWriter | None = None
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(self._read(client, from_app=False))]
        try:
            while not made.client_finished:
                await self._changed.wait()
                self._changed.clear()
                if made.wants_app and app_writer is None:
                    app, app_writer = await asyncio.open_connection("127.0.0.1", self._app_port)
                    tasks.append(asyncio.create_task(self._read(app, from_app=True)))
                if app_writer is not None:
                    app_writer.write(made.for_app())
                client_writer.write(made.for_client())
                await client_writer.drain()
        finally:
            for task in tasks:
                task.cancel()
            for writer in (client_writer, app_writer):
                if writer is not None:
                    writer.close()

    async def _read(self, reader: asyncio.StreamReader, *, from_app: bool) -> None:
        data = b"?"
        while data:
            with contextlib.suppress(ConnectionError):
                data = await reader.read(1 << 14)
            if from_app:
                self._filter.from_app(data) if data else self._filter.app_ended()
            else:
                self._filter.from_client(data) if data else self._filter.client_ended()
            self._changed.set()


@asynccontextmanager
async def passing(rule: Callable[[HttpRequest], Ruling], app_port: int) -> AsyncIterator[int]:
    """Yields the listener's port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await _Connection(rule, app_port).run(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
