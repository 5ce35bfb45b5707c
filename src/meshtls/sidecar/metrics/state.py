"""What a scrape finds out by asking: the open connections, the queues, our identity, and the configuration."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from meshtls.errors import LocalIdentityError
from meshtls.observe.metrics import Metrics
from meshtls.observe.metrics.build import READY, tell_build
from meshtls.observe.metrics.identity import HAS_IDENTITY, IdentityGauges, context_of
from meshtls.observe.readiness import Readiness
from meshtls.sidecar.listeners import Listeners
from meshtls.sidecar.metrics import families
from meshtls.sidecar.runtime import Runtime
from meshtls.svid.context import WithdrawableSource, X509ContextSource

__all__ = ["EarlyState", "State", "count_rotations"]


class Told(Protocol):
    """The sidecar."""

    runtime: Runtime
    listeners: Listeners
    not_taken: str

    def readiness(self) -> Readiness: ...


class EarlyState:
    """Sets the gauges of a sidecar that has no SVID yet, until ``end``."""

    def __init__(self, metrics: Metrics, readiness: Callable[[], Readiness]) -> None:
        self._metrics = metrics
        self._readiness: Callable[[], Readiness] | None = readiness
        tell_build(metrics, "sidecar")
        metrics.gauge(families.PROCESSES).set(1)
        metrics.before_scrape(self.refresh)

    def refresh(self) -> None:
        if self._readiness is not None:
            self._metrics.gauge(READY).set(self._readiness().ready)
            self._metrics.gauge(HAS_IDENTITY).set(False)

    def end(self) -> None:
        self._readiness = None


class State:
    """Sets the gauges of ``metrics`` before each scrape."""

    def __init__(self, metrics: Metrics, sidecar: Told) -> None:
        self._metrics = metrics
        self._sidecar = sidecar
        self._identity = IdentityGauges(metrics)
        tell_build(metrics, "sidecar")
        metrics.gauge(families.PROCESSES).set(1)
        metrics.counter(families.CONFIG_REJECTED)
        metrics.before_scrape(self.refresh)

    def refresh(self) -> None:
        gauge, sidecar = self._metrics.gauge, self._sidecar
        runtime, now = sidecar.runtime, sidecar.runtime.clock.now()
        registry = runtime.registry
        gauge(families.UNPROVEN).set(len(registry.unproven))
        gauge(families.LIMIT).set(registry.limit)
        gauge(families.QUEUE).set(runtime.reactor.scheduler.waiting)
        gauge(families.TUNNEL_MEMORY).set(runtime.memory.kept)
        gauge(families.CONFIG_OUTDATED).set(bool(sidecar.not_taken))
        gauge(READY).set(sidecar.readiness().ready)
        gauge(families.VIEW_GENERATION).set(sidecar.listeners.view.generation)
        self._count_open()
        self._count_pools()
        self._identity.set([runtime.source], now)

    def _count_open(self) -> None:
        opened: Tally[tuple[str, str]] = Tally()
        for one in self._sidecar.runtime.registry.connections:
            kind = "tunnel" if one.is_tunnel else "stream" if one.is_stream else "connection"
            opened[one.direction.value, kind] += 1
        gauge = self._metrics.gauge(families.OPEN)
        for direction in families.DIRECTION.values:
            for kind in ("connection", "stream", "tunnel"):
                gauge.labels(direction, kind).set(opened[direction, kind])

    def _count_pools(self) -> None:
        warm, tunnels = self._metrics.gauge(families.WARM), self._metrics.gauge(families.OUTBOUND_TUNNELS)
        warm.clear()
        tunnels.clear()
        for binding in self._sidecar.listeners.outbound:
            handler = binding.handler
            peer = str(handler.config.peer)
            if handler.warm is not None:
                warm.labels(peer).inc(len(handler.warm))
            if handler.tunnels is not None:
                tunnels.labels(peer).inc(len(handler.tunnels))


async def count_rotations(source: X509ContextSource, metrics: Metrics) -> None:
    """Count each change of our SVID, until cancelled or nothing can come from ``source`` any more."""
    if not isinstance(source, WithdrawableSource):
        return
    rotations = metrics.counter(families.ROTATIONS)
    before = context_of(source)
    withdrawn = asyncio.ensure_future(_count_withdrawals(source, metrics))
    try:
        with suppress(LocalIdentityError):
            while True:
                now = await source.changed(before.generation if before is not None else None)
                if before is not None and now.svid != before.svid:
                    rotations.labels("renewed").inc()
                before = now
    finally:
        withdrawn.cancel()
        await asyncio.wait((withdrawn,))


async def _count_withdrawals(source: WithdrawableSource, metrics: Metrics) -> None:
    with suppress(LocalIdentityError):
        while True:
            await source.withdrawn()
            metrics.counter(families.ROTATIONS).labels("withdrawn").inc()
            await source.changed()
