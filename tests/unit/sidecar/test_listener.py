"""A listener outlives a machine without file descriptors and a connection that fails, and takes a storm in pieces."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import pytest

from meshtls.address import Address
from meshtls.sidecar.listener import PAUSE, Listener
from meshtls.sidecar.reactor import running_reactor
from tests.support.clock import ManualClock


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_connection_without_a_descriptor_waits_and_is_accepted_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, taken = ManualClock(), asyncio.Queue[socket.socket]()
    listener = Listener(Address("127.0.0.1", 0), "test", running_reactor().poller, clock, taken.put_nowait)
    assert repr(listener) == f"<Listener test {listener.address} [bound]>"
    async with asyncio.TaskGroup() as tasks:
        accepting = listener.start(tasks)
        with socket.socket() as client:
            with no_descriptor_left():
                client.connect((listener.address.host, listener.address.port))
                await clock.until_sleepers()
                assert repr(listener) == f"<Listener test {listener.address} [paused]>"
                clock.advance(PAUSE)
                await clock.until_sleepers()
            clock.advance(PAUSE)
            (await taken.get()).close()
        assert repr(listener) == f"<Listener test {listener.address} [accepting]>"
        assert [message.partition(": [")[0] for message in caplog.messages] == [
            f"test: can't accept on {listener.address}, trying again every 0.1 s",
            f"test: accepts on {listener.address} again, after 2 failed tries",
        ]
        accepting.cancel()
    assert repr(listener) == f"<Listener test {listener.address} [closed]>"


@pytest.mark.parametrize("error", [OSError("no buffers"), ValueError("unforeseen")])
async def test_a_connection_that_cannot_be_accepted_is_reset_and_the_next_one_is_accepted(error: Exception) -> None:
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    taken = asyncio.Queue[socket.socket]()

    def take(sock: socket.socket) -> None:
        if not told:
            raise error
        taken.put_nowait(sock)

    listener = Listener(Address("127.0.0.1", 0), "test", running_reactor().poller, ManualClock(), take)
    async with asyncio.TaskGroup() as tasks:
        accepting = listener.start(tasks)
        first, second = await asyncio.open_connection(listener.address.host, listener.address.port), socket.socket()
        with second:
            with pytest.raises(ConnectionResetError):
                await first[0].read()
            first[1].close()
            second.connect((listener.address.host, listener.address.port))
            (await taken.get()).close()
        assert told == [{"message": "test: a connection failed before its first phase", "exception": error}]
        accepting.cancel()


async def test_other_connections_get_turns_during_a_burst() -> None:
    """200 in a row would keep those that are there waiting."""
    taken: list[socket.socket] = []
    listener = Listener(Address("127.0.0.1", 0), "test", running_reactor().poller, ManualClock(), taken.append)
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection((listener.address.host, listener.address.port), 10))
        async with asyncio.TaskGroup() as tasks:
            accepting = listener.start(tasks)
            seen = [0]
            async with asyncio.timeout(10):
                while seen[-1] < 200:
                    await asyncio.sleep(0)
                    seen.append(len(taken))
            accepting.cancel()
        for sock in taken:
            sock.close()
    steps = [later - earlier for earlier, later in pairwise(seen)]
    assert max(steps) == 64
    assert len(taken) == 200
