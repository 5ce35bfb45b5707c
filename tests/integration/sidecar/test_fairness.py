"""One busy connection must not starve another: each gets its turn at every wake-up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from itertools import groupby

import pytest

from meshtls.sidecar.connection import Flow
from meshtls.sidecar.ends import PlainEnd
from meshtls.sidecar.reactor import running_reactor
from tests.support.relaying import plain_end, relayed
from tests.support.waiting import SECONDS

#: Bytes that one has to say, unless the kernel takes fewer ahead.
MUCH = 1_500_000
Waiting = tuple[socket.socket, int]


class Bottomless(PlainEnd):
    """A reader that is never slow; it notes whose turn it was."""

    def __init__(self, sock: socket.socket, name: str, turns: list[str]) -> None:
        super().__init__(sock, name, running_reactor().buffers)
        self._whose = name
        self._turns = turns

    def transmit(self, data: bytes | bytearray | memoryview) -> bool:
        self._turns.append(self._whose)
        return True


@pytest.fixture
def waiting() -> Iterator[list[Waiting]]:
    """Two TCP connections whose far ends have said much, and ended; how much of it is on its way."""
    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        found = []
        for _ in range(2):
            far = stack.enter_context(socket.create_connection(listener.getsockname(), SECONDS))
            near = stack.enter_context(listener.accept()[0])
            near.setblocking(False)
            found.append((near, said_ahead(far)))
        yield found


def said_ahead(sock: socket.socket) -> int:
    sock.setblocking(False)
    said = 0
    with contextlib.suppress(BlockingIOError):
        while said < MUCH:
            said += sock.send(bytes(MUCH - said))
    sock.shutdown(socket.SHUT_WR)
    return said


async def test_two_busy_connections_take_turns(waiting: list[Waiting]) -> None:
    turns: list[str] = []
    flows: list[tuple[Flow, int]] = []
    with contextlib.ExitStack() as stack:
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            for name, (near, said) in zip("ab", waiting, strict=True):
                reader, ours = (stack.enter_context(sock) for sock in socket.socketpair())
                ours.setblocking(False)
                reader.shutdown(socket.SHUT_WR)  # it says nothing itself
                flow = Flow()
                flows.append((flow, said))
                group.create_task(relayed(plain_end(near, "opener"), Bottomless(ours, name, turns), flow, 30))
    assert all(flow.bytes_in == said for flow, said in flows)
    runs = [len(list(run)) for _, run in groupby(turns)]
    assert len(runs) >= 4, "each has more to say than one receive takes"
    # Towards the end one of them may have the wake-ups to itself, and which is served first in one may change.
    assert max(runs[:-1]) <= 2, turns
