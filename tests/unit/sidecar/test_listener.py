"""A listener outlives a machine that has no file descriptor left, and takes a storm in pieces."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import pytest

from meshtls.sidecar.address import Address
from meshtls.sidecar.listener import PAUSE, Listener
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


async def test_a_connection_that_finds_no_descriptor_waits_and_is_taken_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, taken = ManualClock(), asyncio.Queue[socket.socket]()
    listener = Listener(Address("127.0.0.1", 0), "test", clock, taken.put_nowait)
    accepting = asyncio.create_task(listener.accept_forever())
    with socket.socket() as client:
        with no_descriptor_left():
            client.connect((listener.address.host, listener.address.port))
            await clock.until_sleepers()
        assert f"test: can't accept on {listener.address}, trying again in 0.1 s" in caplog.text
        clock.advance(PAUSE)
        (await taken.get()).close()
    accepting.cancel()
    await asyncio.wait([accepting])


async def test_of_very_many_that_come_at_once_others_get_their_turn_in_between() -> None:
    """200 in a row would keep those that are there waiting."""
    taken: list[socket.socket] = []
    listener = Listener(Address("127.0.0.1", 0), "test", ManualClock(), taken.append)
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection((listener.address.host, listener.address.port), 10))
        accepting = asyncio.create_task(listener.accept_forever())
        seen = [0]
        async with asyncio.timeout(10):
            while seen[-1] < 200:
                await asyncio.sleep(0)
                seen.append(len(taken))
        accepting.cancel()
        await asyncio.wait([accepting])
        for sock in taken:
            sock.close()
    steps = [later - earlier for earlier, later in pairwise(seen)]
    assert max(steps) == 64
    assert len(taken) == 200
