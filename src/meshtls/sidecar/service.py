"""The sidecar as a whole: binds its doors, starts what they accept, and stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType

from meshtls.clock import Clock, SystemClock
from meshtls.errors import LocalIdentityError
from meshtls.observe.events import Direction, Outcome
from meshtls.observe.readiness import Readiness
from meshtls.policy.authorizer import Authorizer, authorize_one_of
from meshtls.sidecar.address import Address
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.health import Health
from meshtls.sidecar.identity import NamedSource, end_after_withdrawal
from meshtls.sidecar.inbound import Inbound
from meshtls.sidecar.lifecycle import Phases, carry
from meshtls.sidecar.listener import Listener
from meshtls.sidecar.outbound import Outbound
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import OnResult, Reporter
from meshtls.sidecar.scalars import leads_back
from meshtls.sidecar.settings import InboundConfig, OutboundConfig, SidecarConfig
from meshtls.sidecar.sockets import abort, peer_of
from meshtls.sidecar.tunnel.ledger import Ledger
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.tunnel.origin import Handover, baggage_of
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509ContextSource

__all__ = ["Sidecar"]


class Sidecar:
    """``async with Sidecar(...)`` enters with every listener bound, and leaves with every connection closed.

    ``inbound[i].address`` and ``outbound[i].address`` are the bound addresses, ``health`` the probes' one.
    ``on_result`` gets one ConnectionResult for each connection; what it raises is logged and changes nothing. Entering
    raises ConfigError for an address that can't be bound.
    """

    def __init__(
        self, config: SidecarConfig, source: X509ContextSource, *, on_result: OnResult, clock: Clock | None = None
    ) -> None:
        self.config = config
        self.registry = Registry(config.limits.connections, config.limits.unproven)
        self.inbound: tuple[Listener, ...] = ()
        self.outbound: tuple[Listener, ...] = ()
        self.health: Listener | None = None
        self._clock = clock or SystemClock()
        self._source = NamedSource(source, config.spiffe_id, self._clock)
        self._report = Reporter(on_result)
        self._ledger = Ledger(self.registry, self._report)
        common = config.limits, self._source, self._clock, self._ledger, ReceiveMemory(config.limits.tunnel_memory)
        handover = Handover()
        self._inbound_doors = [
            Inbound(c, *common, handover=handover if _leads_through(c, config.outbound) else None)
            for c in config.inbound
        ]
        baggage = baggage_of(config.workload, config.name, config.spiffe_id)
        self._outbound_doors = [
            Outbound(c, *common, start=self._start, baggage=baggage, handover=handover) for c in config.outbound
        ]
        self._tasks = asyncio.TaskGroup()
        self._accepting: list[asyncio.Task[None]] = []
        self._probing: list[asyncio.Task[None]] = []
        self._state = "new"

    async def __aenter__(self) -> Sidecar:
        with contextlib.ExitStack() as undo:
            self._bind(undo)
            undo.pop_all()
        await self._tasks.__aenter__()
        self._accepting = [self._tasks.create_task(door.accept_forever()) for door in (*self.inbound, *self.outbound)]
        pools = [door.warm for door in self._outbound_doors if door.warm is not None]
        self._accepting += [self._tasks.create_task(pool.keep()) for pool in pools]
        grace = self.config.limits.withdrawal_grace
        ending = end_after_withdrawal(self._source.source, grace, self._clock, self._end_identified)
        self._accepting.append(self._tasks.create_task(ending))
        if self.health:
            self._probing = [self._tasks.create_task(self.health.accept_forever())]
        self._state = "serving"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.drain(0)
        finally:
            for door in self._outbound_doors:
                door.close()
            await self._ledger.partings.over()
            await _cancelled(self._probing)
            self._report.close(self.config.name)
            self._state = "stopped"
            await self._tasks.__aexit__(None, None, None)

    async def drain(self, deadline: float | None = None) -> None:
        """Stop accepting, wait up to ``deadline`` seconds (the configured ones unless given), break off the rest."""
        seconds = self.config.limits.drain if deadline is None else deadline
        self._state = "draining"
        await _cancelled(self._accepting)
        for door in self._inbound_doors:
            door.tunnels.drain()
        try:
            async with asyncio.timeout(seconds):
                await self.registry.emptied()
        except TimeoutError:
            self.abort(f"the sidecar is stopping, and {seconds:g} s were over")
            await self.registry.emptied()

    def abort(self, detail: str = "the sidecar was told to stop at once") -> None:
        """Break off every connection now, as DRAINED."""
        self.registry.end_all(Outcome.DRAINED, detail)

    def set_allow(self, index: int, spiffe_ids: Iterable[SpiffeId | str]) -> int:
        """Replace the allow-list of inbound ``index`` and close the connections that it now forbids: how many.

        Raises InvalidSpiffeIdError, and RequestError for an inbound that takes plaintext only.
        """
        return self.set_authorizer(index, authorize_one_of(*spiffe_ids))

    def set_authorizer(self, index: int, authorizer: Authorizer) -> int:
        """The same with any authorizer, such as one over a policy. Raises RequestError as ``set_allow`` does."""
        self._inbound_doors[index].set_authorizer(authorizer)
        return self.registry.recheck()

    def readiness(self) -> Readiness:
        """Whether it accepts connections and has a valid identity for them, in words."""
        if self._state != "serving":
            stopping = self._state in ("draining", "stopped")
            return Readiness(False, f"nothing more: it is {self._state}" if stopping else "its listeners")
        return self._source.readiness()

    def _end_identified(self, why: str) -> None:
        """End what lives by our identity; plaintext that passes without any goes on."""
        self.registry.end_identified(Outcome.LOCAL_IDENTITY, why)
        for door in self._outbound_doors:
            door.close()

    def __repr__(self) -> str:
        try:
            generation = f"generation {self._source.snapshot().generation}"
        except LocalIdentityError:
            generation = "no SVID"
        doors = len(self.inbound) + len(self.outbound)
        state = f"{self._state}, {doors} listeners, {len(self.registry)} connections, {generation}"
        return f"<Sidecar {self.config.name} [{state}]>"

    def _bind(self, undo: contextlib.ExitStack) -> None:
        def bind(address: Address, key: str, take: Callable[[socket.socket], None]) -> Listener:
            name, shared = f"{self.config.name}: {key}", self.config.workers > 1
            listener = Listener(address, name, self._clock, take, shared=shared)
            undo.callback(listener.close)
            return listener

        self.inbound = tuple(
            bind(door.config.listen, f"inbound[{place}].listen", partial(self._take_inbound, door))
            for place, door in enumerate(self._inbound_doors)
        )
        self.outbound = tuple(
            bind(door.config.listen, f"outbound[{place}].listen", partial(self._take_outbound, door))
            for place, door in enumerate(self._outbound_doors)
        )
        if self.config.health:
            self.health = bind(self.config.health, "health", Health(self.readiness, self._tasks).take)

    def _take_inbound(self, door: Inbound, sock: socket.socket) -> None:
        self._take(sock, Direction.INBOUND, peer_of(sock), door)

    def _take_outbound(self, door: Outbound, sock: socket.socket) -> None:
        self._take(sock, Direction.OUTBOUND, str(door.config.to), door)

    def _take(self, sock: socket.socket, direction: Direction, remote: str, door: Inbound | Outbound) -> None:
        config = self.config
        connection = Connection(config.name, config.spiffe_id, direction, sock, remote, self._clock)
        if self.registry.full:
            abort(sock)
            self._report(connection.result(Outcome.CONNECTION_LIMIT, str(self.registry.too_many())))
        elif not door.take(connection):
            self._start(connection, door.serve)

    def _start(self, connection: Connection, phases: Phases) -> None:
        inbound = connection.direction is Direction.INBOUND
        start = self.registry.start_unproven if inbound else self.registry.start
        start(connection, partial(carry, phases=phases, report=self._report))


def _leads_through(door: InboundConfig, ways: Iterable[OutboundConfig]) -> bool:
    """Whether a door's app is a way out of this sidecar, which then is a gateway."""
    return any(leads_back(door.app, way.listen) for way in ways)


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
