"""The cost of strangers for a server, from their arrival until it is idle again: CPU, and peak memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from bench.clocks import pss_kib, settled_cpu_seconds

__all__ = ["Costs", "costs_of", "rested_cpu"]

_LOOK_S = 0.05


@dataclass(slots=True)
class Costs:
    """The costs, complete once the body is left."""

    cpu_s: float = 0.0
    grown_kib: int = 0


async def rested_cpu(pids: Sequence[int]) -> float:
    """CPU seconds of these processes and their children, once they are idle."""
    return await asyncio.to_thread(settled_cpu_seconds, pids)


@asynccontextmanager
async def costs_of(pids: Sequence[int]) -> AsyncIterator[Costs]:
    """The costs of the body for these processes and their children."""
    costs = Costs()
    cpu, memory = await rested_cpu(pids), await asyncio.to_thread(pss_kib, pids)

    async def look() -> None:
        while True:
            costs.grown_kib = max(costs.grown_kib, await asyncio.to_thread(pss_kib, pids) - memory)
            await asyncio.sleep(_LOOK_S)

    looking = asyncio.create_task(look())
    try:
        yield costs
        costs.cpu_s = await rested_cpu(pids) - cpu
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
