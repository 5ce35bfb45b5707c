"""The streams of the admin interface: each listener has as many as it may have, whatever the other one has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from meshtls.address import Address
from meshtls.admin.follow import tap_page
from meshtls.admin.keys import AdminKeys
from meshtls.admin.pages import Pages
from meshtls.admin.serving import MOST_STREAMS, serving_admin
from meshtls.observe.live import Observer
from tests.support.waiting import SECONDS


def observe(observer: Observer) -> Callable[[], None]:
    return lambda: None


@asynccontextmanager
async def following(where: Address | Path) -> AsyncIterator[bytes]:
    """The first line of the answer, while the stream is open."""
    async with asyncio.timeout(SECONDS):
        if isinstance(where, Path):
            reader, writer = await asyncio.open_unix_connection(where)
        else:
            reader, writer = await asyncio.open_connection(where.host, where.port)
        host = "localhost" if isinstance(where, Path) else str(where)
        writer.write(f"GET /tap HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        status = await reader.readline()
    try:
        yield status
    finally:
        writer.close()


async def test_the_streams_of_one_listener_leave_those_of_the_other_free(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    keys = AdminKeys(socket=path, listen=Address("127.0.0.1", 0))
    async with serving_admin(keys, Pages([tap_page(observe)])) as bound, AsyncExitStack() as opened:
        assert bound is not None
        for _ in range(MOST_STREAMS):
            assert b" 200 " in await opened.enter_async_context(following(bound))
        assert b" 503 " in await opened.enter_async_context(following(bound))
        for _ in range(MOST_STREAMS):
            assert b" 200 " in await opened.enter_async_context(following(path))
        assert b" 503 " in await opened.enter_async_context(following(path))
