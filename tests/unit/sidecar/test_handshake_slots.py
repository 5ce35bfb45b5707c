"""A bounded number of handshakes of one listener run at a time; the others wait in order, until a deadline."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.outbound import HandshakeSlots
from meshtls.sidecar.scheduler import HandshakeScheduler, QueueDeadline
from tests.support.owned_loop import owned, rounds, run


def test_connections_without_a_slot_wait_in_order_until_slots_are_released() -> None:
    async def main() -> None:
        slots, order = HandshakeSlots(2, HandshakeScheduler(owned())), list[int]()

        async def one(number: int) -> None:
            await slots.take(100, QueueDeadline.of(5))
            order.append(number)

        tasks = [asyncio.create_task(one(number)) for number in range(5)]
        await rounds(2)
        assert order == [0, 1]
        assert repr(slots) == "<HandshakeSlots [2, 3 waiting]>"
        for expected in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
            slots.release()
            await rounds(3)
            assert order == expected
        await asyncio.gather(*tasks)

    run(main())


def test_a_waiter_beyond_the_queue_limit_is_refused_at_once() -> None:
    async def main() -> None:
        slots = HandshakeSlots(1, HandshakeScheduler(owned()))
        await slots.take(1, QueueDeadline.of(5))
        waits = asyncio.create_task(slots.take(1, QueueDeadline.of(5)))
        await rounds(1)
        with pytest.raises(EndedError, match=r"^handshake queue full \(limits.handshakes=1\)$"):
            await slots.take(1, QueueDeadline.of(5))
        slots.release()
        await waits

    run(main())


@pytest.mark.parametrize(("waited", "refused"), [(4.9, 0), (5.1, 40)])
def test_connections_past_their_queue_deadline_are_refused_a_few_at_a_time(waited: float, refused: int) -> None:
    async def main() -> None:
        slots, said, most = HandshakeSlots(1, HandshakeScheduler(owned())), Counter[str](), 0
        await slots.take(100, QueueDeadline.of(5))

        async def one() -> None:
            try:
                await slots.take(100, QueueDeadline.of(5))
                said["begun"] += 1
                slots.release()
            except EndedError as error:
                said[f"{error.outcome.name}: {error}"] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(one())
            await rounds(2)
            owned().now += waited
            await rounds(2)
            if not refused:
                slots.release()
            while said.total() < 40:
                before = said.total()
                await rounds(1)
                most = max(most, said.total() - before)
        words = "CONNECTION_LIMIT: handshake queue timeout: no slot within 5 s"
        assert said == Counter({words: refused, "begun": 40 - refused})
        assert most <= 2 * 4

    run(main())
