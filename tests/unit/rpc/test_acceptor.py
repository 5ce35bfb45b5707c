"""How many connections are accepted before the event loop runs anything else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

import pytest

from meshtls.rpc.acceptor import Acceptor
from tests.support.waiting import SECONDS, until

BACKLOG = 300


def _ready(listener: socket.socket) -> int:
    """How many connections can be accepted: tcpi_unacked of a listening socket (linux/tcp.h)."""
    found: int = struct.unpack_from("I", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0]
    return found


@pytest.mark.parametrize(("serves", "at_once"), [(True, 64), (False, BACKLOG)], ids=["served", "refused"])
async def test_a_backlog_of_refused_connections_is_drained_at_once_and_of_served_ones_in_steps(
    serves: bool, at_once: int
) -> None:
    turns: list[int] = [0]
    all_taken = asyncio.Event()

    def take(sock: socket.socket, address: Any) -> bool:
        sock.close()
        turns[-1] += 1
        if sum(turns) == BACKLOG:
            all_taken.set()
        return serves

    def stuck(error: OSError) -> None:
        raise error

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener, contextlib.ExitStack() as clients:
        listener.setblocking(False)
        for _ in range(BACKLOG):
            clients.enter_context(socket.create_connection(listener.getsockname(), SECONDS))
        await until(lambda: _ready(listener) == BACKLOG)
        acceptor = Acceptor(listener, take, stuck)
        try:
            async with asyncio.timeout(SECONDS):
                while not all_taken.is_set():
                    await asyncio.sleep(0)
                    turns.append(0)
        finally:
            acceptor.close()
    assert max(turns) == at_once
