"""The order in which callers and connections get turns."""

from __future__ import annotations

import asyncio

from meshtls.rpc.turns import Turns
from tests.support.waiting import until


class Reader:
    def __init__(self, name: str, steps: int, order: list[str]) -> None:
        self._name, self._left, self._order = name, steps, order

    def step(self) -> bool:
        self._order.append(self._name)
        self._left -= 1
        return self._left > 0


async def test_callers_take_turns_however_many_connections_each_has() -> None:
    turns, order = Turns(), list[str]()
    for name in ("a1", "a2", "a3"):
        turns.enqueue(Reader(name, 2, order), "a", proven=True)
    turns.enqueue(Reader("b1", 2, order), "b", proven=True)
    await until(lambda: len(order) == 8)
    assert order == ["a1", "b1", "a2", "b1", "a3", "a1", "a2", "a3"]


async def test_a_turn_of_the_loop_takes_one_step_of_proven_callers_and_one_of_strangers() -> None:
    turns, order = Turns(), list[str]()
    for number in range(3):
        turns.enqueue(Reader(f"agent {number}", 1, order), f"agent {number}", proven=True)
        turns.enqueue(Reader(f"stranger {number}", 1, order), number, proven=False)
    for number in range(3):
        await asyncio.sleep(0)
        assert order[2 * number :] == [f"agent {number}", f"stranger {number}"]


async def test_a_drained_connection_is_handled_again_when_more_bytes_arrive() -> None:
    turns, order = Turns(), list[str]()
    turns.enqueue(Reader("first", 1, order), "a", proven=True)
    await until(lambda: order == ["first"])
    turns.enqueue(Reader("second", 1, order), "a", proven=True)
    await until(lambda: order == ["first", "second"])


async def test_unproven_callers_are_not_served_before_proven_ones() -> None:
    turns, order = Turns(), list[str]()
    for number in range(5):
        turns.enqueue(Reader(f"stranger {number}", 1, order), number, proven=False)
    turns.enqueue(Reader("agent", 1, order), "agent", proven=True)
    await until(lambda: len(order) == 6)
    assert order[0] == "agent"


async def test_a_connection_that_fails_takes_no_turn_from_others() -> None:
    class Broken:
        def step(self) -> bool:
            raise RuntimeError("a fault of ours")

    turns, order, seen = Turns(), list[str](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context["exception"]))
    turns.enqueue(Broken(), "a", proven=True)
    turns.enqueue(Reader("a2", 2, order), "a", proven=True)
    turns.enqueue(Reader("b1", 1, order), "b", proven=True)
    await until(lambda: len(order) == 3)
    assert len(seen) == 1
