"""The order of waiting handshakes, their deadlines, and the peers' timeouts. The tests own the time."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.scheduler import HandshakeScheduler, PeerTimeout, QueueDeadline
from tests.support.held_scheduler import HeldScheduler
from tests.support.owned_loop import owned, rounds, run


def test_handshakes_under_way_come_first_and_one_new_one_starts_each_round() -> None:
    async def main() -> None:
        ours, order = HandshakeScheduler(owned(), a_round=4), []

        async def begins() -> None:
            await ours.begin(100, QueueDeadline.of(60))
            order.append("b")

        async def goes_on() -> None:
            await ours.resume()
            order.append("g")

        async with asyncio.TaskGroup() as group:
            for _ in range(4 + 8):
                group.create_task(begins())
            for _ in range(8):
                group.create_task(goes_on())
        assert "".join(order) == "bbbb" + "gggb" + "gggb" + "ggbb" + "bbbb"

    run(main())


@pytest.mark.parametrize(("waited", "refused"), [(5.0, 0), (5.1, 40)])
def test_a_handshake_past_its_queue_deadline_is_refused_and_costs_the_others_no_step(
    waited: float, refused: int
) -> None:
    async def main() -> None:
        ours, said = HeldScheduler(owned(), a_round=4), Counter[str]()
        ours.hold()

        async def begins() -> None:
            try:
                await ours.begin(100, QueueDeadline.of(5))
                said["begun"] += 1
            except EndedError as error:
                said[f"{error.outcome.name}: {error}"] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(begins())
            await rounds(1)
            owned().now += waited
            group.create_task(ours.resume())
            await rounds(1)
            ours.next_round()
            await rounds(1)
            # One turn is of the handshake under way. Of the late ones some go beside the turns, and not all: that is
            # work, too, which holds up the others.
            assert said.total() == (3 + 16 if refused else 3)
        words = "CONNECTION_LIMIT: handshake queue timeout: no slot within 5 s"
        assert said == Counter({words: refused, "begun": 40 - refused})
        assert ours.waiting == 0

    run(main())


@pytest.mark.parametrize(
    ("peer", "queue", "in_time"),
    [
        ((4.9, 4.9), (100.0, 100.0), True),
        ((5.1, 0.0), (0.0, 0.0), False),
        ((4.9, 5.1), (0.0, 0.0), False),
    ],
    ids=["only we are slow", "the first bytes are late", "what follows is late"],
)
def test_time_in_our_queue_does_not_count_against_the_peer(
    peer: tuple[float, float], queue: tuple[float, float], in_time: bool
) -> None:
    async def handshake(waits: list[asyncio.Event], scheduler: HandshakeScheduler) -> None:
        async with PeerTimeout(5, scheduler) as time:
            await waits[0].wait()
            await time.begin(10, QueueDeadline.of(1000))
            await waits[1].wait()
            await time.resume()

    async def main() -> None:
        waits, scheduler = [asyncio.Event(), asyncio.Event()], HeldScheduler(owned())
        task = asyncio.create_task(handshake(waits, scheduler))
        for wait, ours, theirs in zip(waits, queue, peer, strict=True):
            await rounds(2)
            owned().now += theirs
            await rounds(3)  # whoever is late now is told now
            scheduler.hold()
            wait.set()
            await rounds(2)
            owned().now += ours
            await rounds(3)
            scheduler.next_round()
        await rounds(2)
        assert task.done()
        assert isinstance(task.exception(), TimeoutError) is not in_time

    run(main())


def test_a_paused_peers_deadline_resumes_where_it_stood() -> None:
    async def main() -> None:
        scheduler = HeldScheduler(owned())
        async with PeerTimeout(5, scheduler) as time:
            owned().now += 2
            assert repr(time) == "<PeerTimeout [3 of 5 s left]>"
            scheduler.hold()
            waits = asyncio.create_task(time.resume())
            await rounds(1)
            owned().now += 60
            scheduler.next_round()
            await waits
            assert repr(time) == "<PeerTimeout [3 of 5 s left]>"

    run(main())
