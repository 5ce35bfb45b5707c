"""So many handshakes of one door are under way at a time; the others wait, in order, and not for ever."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.outbound import Places
from meshtls.sidecar.turns import Patience
from tests.support.owned_loop import owned, rounds, run


def test_who_finds_no_place_waits_until_one_is_given_back_and_they_go_in_order() -> None:
    async def main() -> None:
        places, order = Places(2), list[int]()

        async def one(number: int) -> None:
            await places.take(100, Patience.of(5))
            order.append(number)

        tasks = [asyncio.create_task(one(number)) for number in range(5)]
        await rounds(2)
        assert order == [0, 1]
        assert repr(places) == "<Places [2, 3 waiting]>"
        for expected in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
            places.give_back()
            await rounds(3)
            assert order == expected
        await asyncio.gather(*tasks)

    run(main())


def test_over_the_limit_of_those_that_wait_the_next_one_is_refused_at_once() -> None:
    async def main() -> None:
        places = Places(1)
        await places.take(1, Patience.of(5))
        waits = asyncio.create_task(places.take(1, Patience.of(5)))
        await rounds(1)
        with pytest.raises(EndedError, match="^limits.handshakes, which is 1, wait for their turn$"):
            await places.take(1, Patience.of(5))
        places.give_back()
        await waits

    run(main())


@pytest.mark.parametrize(("waited", "refused"), [(4.9, 0), (5.1, 40)])
def test_who_waits_for_longer_than_his_patience_is_refused_and_many_of_them_a_few_at_a_time(
    waited: float, refused: int
) -> None:
    async def main() -> None:
        places, said, most = Places(1), Counter[str](), 0
        await places.take(100, Patience.of(5))

        async def one() -> None:
            try:
                await places.take(100, Patience.of(5))
                said["begun"] += 1
                places.give_back()
            except EndedError as error:
                said[f"{error.outcome.name}: {error}"] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(one())
            await rounds(2)
            owned().now += waited
            await rounds(2)
            if not refused:
                places.give_back()
            while said.total() < 40:
                before = said.total()
                await rounds(1)
                most = max(most, said.total() - before)
        words = "CONNECTION_LIMIT: its handshake could not begin within 5 s: too many others were before it"
        assert said == Counter({words: refused, "begun": 40 - refused})
        assert most <= 2 * 4

    run(main())
