"""Very many at once: a storm of new connections, those that are there meanwhile, and a queue that has an end."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

import pytest

from meshtls.sidecar.descriptors import make_room
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.scheduler import HandshakeScheduler
from tests.integration.sidecar.mesh import Node, an_app, connected, echoed, patient, side_a, side_b

STORM = 150
GREAT_STORM = int(os.environ.get("MESHTLS_TEST_STORM", "300"))
MANY = patient(connections=2000)


@pytest.fixture(autouse=True)
def room() -> None:
    make_room(6 * max(STORM, GREAT_STORM))  # six sockets a connection are this one process's


class Storm:
    """So many connections at once, each used once. ``done`` are over, ``served`` went well."""

    def __init__(self, a: Node, size: int = STORM) -> None:
        self._a = a
        self.size = size
        self.done = self.served = 0

    async def rage(self) -> int:
        """Begin all, and wait for the last; how many were served."""
        async with asyncio.timeout(150), asyncio.TaskGroup() as group:
            for _ in range(self.size):
                group.create_task(self._one())
        return self.served

    async def _one(self) -> None:
        try:
            async with connected(self._a.outbound) as (reader, writer):
                writer.write(b"ping")
                answer = await reader.read(4)
                self.served += answer == b"ping"
        except ConnectionError:
            pass  # refused, maybe before our own loop had noticed that it was connected
        finally:
            self.done += 1


async def most_at_a_time(a_round: int | None) -> int:
    """How many connections of a storm come through, at most, between two round trips of one that is there."""
    if a_round is not None:
        reactor = running_reactor()
        reactor.scheduler = HandshakeScheduler(reactor.loop, a_round)
    most = 0
    async with an_app() as app, side_b(app.address, limits=MANY) as b, side_a(b.inbound, limits=MANY) as a:
        async with connected(a.outbound) as streams, asyncio.TaskGroup() as group:
            assert await echoed(streams) == b"ping"
            storm = Storm(a)
            raging = group.create_task(storm.rage())
            while not raging.done():
                before = storm.done
                assert await echoed(streams) == b"ping"
                most = max(most, storm.done - before)
        assert storm.served == STORM
    return most


async def test_a_live_connection_moves_during_a_storm_and_would_not_without_the_scheduler() -> None:
    bounded, unbounded = await most_at_a_time(None), await most_at_a_time(10**6)
    assert bounded < STORM / 4
    assert unbounded > 2 * bounded


@pytest.mark.timeout(300)
async def test_a_great_storm_is_served_completely_and_a_live_connection_moves_all_the_time() -> None:
    round_trips = 0
    async with an_app() as app, side_b(app.address, limits=MANY) as b, side_a(b.inbound, limits=MANY) as a:
        async with connected(a.outbound) as streams, asyncio.TaskGroup() as group:
            storm = Storm(a, GREAT_STORM)
            raging = group.create_task(storm.rage())
            while not raging.done():
                assert await echoed(streams) == b"ping"
                round_trips += 1
        for side in (a, b):
            lines = [await side.lines.next() for _ in range(GREAT_STORM + 1)]
            assert Counter(line["outcome"] for line in lines) == {"OK": GREAT_STORM + 1}
    assert storm.served == GREAT_STORM
    assert round_trips > GREAT_STORM / 20


async def test_new_handshakes_beyond_the_queue_limit_are_refused_and_queued_ones_served() -> None:
    limits = patient(connections=2000, handshakes=20)
    async with an_app() as app, side_b(app.address, limits=MANY) as b, side_a(b.inbound, limits=limits) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            served = await Storm(a).rage()
            assert 20 <= served < STORM
            assert await echoed(streams) == b"ping"
        lines = [await a.lines.next() for _ in range(STORM + 1)]
        assert Counter(line["outcome"] for line in lines) == {"OK": served + 1, "CONNECTION_LIMIT": STORM - served}
        refused = next(line for line in lines if line["outcome"] == "CONNECTION_LIMIT")
        assert refused["detail"] == "handshake queue full (limits.handshakes=20)"
        assert await Storm(a, 10).rage() == 10
    assert app.connections == served + 11
