"""A remote app that speaks first on a warm connection not yet in use: little is buffered, and no byte is lost."""

from __future__ import annotations

import asyncio

import pytest

from meshtls.sidecar.warm import WarmPool
from tests.integration.sidecar.mesh import an_app, connected, side_a, side_b
from tests.support.waiting import SECONDS, until

#: Bytes, of more than the kernel's buffers on the way take.
LONG = 24 << 20
#: Bytes of it that may be in the pool's memory.
LITTLE = 1 << 17


async def at_rest(pool: WarmPool) -> int:
    """The bytes kept of the one connection, once no more are taken in 200 rounds of the loop."""
    last, rounds = -1, 0
    async with asyncio.timeout(SECONDS):
        while rounds < 200:
            await asyncio.sleep(0)
            kept = pool.ready[0].kept
            last, rounds = kept, rounds + 1 if kept == last else 0
    return last


@pytest.mark.parametrize("length", [1000, LONG], ids=["a short greeting", "a long one"])
async def test_a_bounded_part_of_an_early_greeting_is_kept_and_all_of_it_arrives(length: int) -> None:
    greeting = bytes(range(250)) * (length // 250)
    async with an_app(greeting) as app, side_b(app.address) as b, side_a(b.inbound, warm=1) as a:
        pool = a.sidecar.listeners.outbound[0].handler.warm
        assert pool is not None
        await until(lambda: bool(pool.ready) and pool.ready[0].kept > 0)
        kept = await at_rest(pool)
        assert 0 < kept <= LITTLE
        assert (kept >= len(greeting)) is (length < LITTLE)
        async with connected(a.outbound) as (reader, _), asyncio.timeout(SECONDS):
            assert await reader.readexactly(len(greeting)) == greeting
        line = await a.lines.next()
    assert line["handshake_ms"] is None, "it was the warm one"
