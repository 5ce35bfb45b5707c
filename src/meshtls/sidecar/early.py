"""What a sidecar answers from its start, when it has no SVID yet: its operator, probes and scrapes.

The listeners of probes and scrapes stay: once there is an SVID, the sidecar replaces what they answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from meshtls.address import Address
from meshtls.clock import Clock
from meshtls.observe.health import answer_probe
from meshtls.observe.readiness import Readiness
from meshtls.sidecar.brief_http import BriefHttp
from meshtls.sidecar.early_admin import EarlyAdmin, serving_early_admin
from meshtls.sidecar.listener import Listener
from meshtls.sidecar.metrics.service import SidecarMetrics
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.settings import SidecarConfig

__all__ = ["NOTHING_EARLY", "Early", "EarlyListener", "serving_early"]

Answer = Callable[[bytes], bytes]


class EarlyListener:
    """A listener that answers each request with ``answer``, which can be replaced."""

    def __init__(
        self, address: Address, key: str, answer: Answer, config: SidecarConfig, clock: Clock, tasks: asyncio.TaskGroup
    ) -> None:
        self.answer = answer
        poller = running_reactor().poller
        take = BriefHttp(lambda request: self.answer(request), tasks, poller).take
        shared = config.workers > 1
        self.listener = Listener(address, f"{config.name}: {key}", poller, clock, take, shared=shared)


class Early(NamedTuple):
    """What is served; None where the file does not name it."""

    admin: EarlyAdmin | None = None
    health: EarlyListener | None = None
    scrapes: EarlyListener | None = None


NOTHING_EARLY = Early()


@asynccontextmanager
async def serving_early(
    config: SidecarConfig,
    readiness: Callable[[], Readiness],
    clock: Clock,
    metrics: SidecarMetrics | None = None,
    worker: int = 0,
) -> AsyncIterator[Early]:
    """Answer while the body runs. ``readiness`` is the source's. Raises ConfigError: an address can't be bound."""

    def ready() -> Readiness:
        of_source = readiness()
        return Readiness(False, "its listeners") if of_source.ready else of_source

    async with serving_early_admin(config, ready, clock, worker) as admin:
        tasks, accepting = asyncio.TaskGroup(), list[asyncio.Task[None]]()

        def listening(address: Address | None, key: str, answer: Answer) -> EarlyListener | None:
            if address is None:
                return None
            one = EarlyListener(address, key, answer, config, clock, tasks)
            accepting.append(one.listener.start(tasks))
            return one

        # Not by ``async with``, which would raise the body's errors as a group.
        await tasks.__aenter__()
        try:
            health = listening(config.health, "health", lambda request: answer_probe(request, ready, config.process))
            scrapes = None
            if metrics is not None:
                metrics.tell_early(ready)
                scrapes = listening(config.metrics, "metrics.listen", metrics.answer)
            yield Early(admin, health, scrapes)
        finally:
            for task in accepting:
                task.cancel()
            await tasks.__aexit__(None, None, None)
