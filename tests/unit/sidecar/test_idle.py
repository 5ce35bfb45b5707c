"""Idle connections are ended and active ones are not, with one timer for all that share a timeout."""

from __future__ import annotations

import asyncio

from meshtls.sidecar.idle import IdleWatch


class One:
    def __init__(self) -> None:
        self.last = asyncio.get_running_loop().time()
        self.ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def end_idle(self, timeout: float) -> None:
        self.ended.set_result(timeout)


async def test_each_connection_is_ended_after_its_own_idle_timeout() -> None:
    watch, loop = IdleWatch(asyncio.get_running_loop()), asyncio.get_running_loop()
    quick, slow = One(), One()
    watch.add(slow, 0.08)
    watch.add(quick, 0.02)
    assert repr(watch) == "<IdleWatch {0.08: 1, 0.02: 1}>"
    assert await quick.ended == 0.02
    assert loop.time() - quick.last > 0.02
    assert await slow.ended == 0.08
    assert loop.time() - slow.last > 0.08


async def test_an_idler_that_moves_is_not_ended_as_long_as_it_does() -> None:
    watch, loop = IdleWatch(asyncio.get_running_loop()), asyncio.get_running_loop()
    moving, still = One(), One()
    watch.add(moving, 0.04)
    watch.add(still, 0.04)
    moving.last += 60
    await still.ended
    assert not moving.ended.done()
    moving.last -= 60
    await moving.ended
    assert loop.time() - moving.last > 0.04


async def test_a_removed_idler_is_not_ended_and_an_empty_group_has_no_timer() -> None:
    watch = IdleWatch(asyncio.get_running_loop())
    gone, witness = One(), One()
    watch.add(gone, 0.01)
    watch.remove(gone, 0.01)
    watch.remove(gone, 0.01)
    watch.add(witness, 0.05)
    await witness.ended
    assert not gone.ended.done()
    assert repr(watch) == "<IdleWatch {0.05: 0}>"
    watch.remove(gone, 99)
