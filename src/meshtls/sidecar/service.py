"""The sidecar as a whole: binds its listeners, starts what they accept, and stops in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from functools import partial
from types import TracebackType

from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError, LocalIdentityError, RequestError
from meshtls.observe.events import Direction, Outcome
from meshtls.observe.readiness import Readiness
from meshtls.policy.authorizer import Authorizer, authorize_one_of, check_authorizer
from meshtls.sidecar.changes import Changes, in_force, summary
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.health import Health
from meshtls.sidecar.identity import NamedSource, end_after_withdrawal, follow_trust
from meshtls.sidecar.inbound import Inbound
from meshtls.sidecar.listener import Listener
from meshtls.sidecar.listeners import ListenerDeps, Listeners
from meshtls.sidecar.outbound import Outbound
from meshtls.sidecar.partings import Partings
from meshtls.sidecar.reactor import Reactor, running_reactor
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import OnResult, Reporter, Serve
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import Limits, Mode, SidecarConfig
from meshtls.sidecar.sockets import abort
from meshtls.sidecar.states import SIDECAR, SidecarState, SidecarStep
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.view import MeshView, view_of, with_view
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
        self,
        config: SidecarConfig,
        source: X509ContextSource,
        *,
        on_result: OnResult,
        clock: Clock | None = None,
        reactor: Reactor | None = None,
    ) -> None:
        """``reactor`` is the running loop's unless given. Raises RuntimeError where no loop runs then."""
        reactor = reactor or running_reactor()
        self.config = config
        self.registry = Registry(config.limits.connections, config.limits.unproven)
        self.health: Listener | None = None
        self._clock = clock or SystemClock()
        self._source = NamedSource(source, config.spiffe_id, self._clock)
        self.runtime = Runtime(
            reactor=reactor,
            source=self._source,
            clock=self._clock,
            registry=self.registry,
            reporter=Reporter(on_result, reactor.poller),
            partings=Partings(reactor.poller),
            memory=ReceiveMemory(config.limits.tunnel_memory),
        )
        self._tasks = asyncio.TaskGroup()
        shared = ListenerDeps(
            name=config.name,
            shared=config.workers > 1,
            runtime=self.runtime,
            tasks=self._tasks,
            take=self._take,
            start=self._start,
        )
        self.listeners = Listeners(shared)
        self._withdrawal: asyncio.Task[None] | None = None
        #: Tasks that go on while the sidecar drains: the answers to probes, and the watch for changes of trust.
        self._drain_tasks: list[asyncio.Task[None]] = []
        self.state = SidecarState.NEW

    @property
    def inbound(self) -> tuple[Listener, ...]:
        """In the order of the configuration; empty before the sidecar is entered."""
        return tuple(binding.listener for binding in self.listeners.inbound)

    @property
    def outbound(self) -> tuple[Listener, ...]:
        return tuple(binding.listener for binding in self.listeners.outbound)

    @property
    def view(self) -> MeshView:
        """The view that it serves."""
        return self.listeners.view

    async def __aenter__(self) -> Sidecar:
        config = self.config
        with contextlib.ExitStack() as undo:
            if config.health:
                take = Health(self.readiness, self._tasks, self.runtime.reactor.poller).take
                self.health = self.listeners.listen(config.health, "health", take, undo)
            self.listeners.apply(view_of(config), config)
            undo.pop_all()
        await self._tasks.__aenter__()
        self.listeners.serve()
        self._watch_withdrawal(config.limits)
        self._drain_tasks = [self._tasks.create_task(self._follow_trust())]
        if self.health:
            self._drain_tasks.append(self.health.start(self._tasks))
        self._step(SidecarStep.SERVE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.drain(0)
        finally:
            self.listeners.close_tunnels(EndedError(Outcome.DRAINED, "the sidecar is stopping"))
            await self.runtime.partings.over()
            await _cancel_all(self._drain_tasks)
            self.runtime.reporter.close(self.config.name)
            self._step(SidecarStep.STOP)
            await self._tasks.__aexit__(None, None, None)

    async def drain(self, deadline: float | None = None) -> None:
        """Stop accepting, wait up to ``deadline`` seconds (``limits.drain`` unless given), then end the rest."""
        seconds = self.config.limits.drain if deadline is None else deadline
        self._step(SidecarStep.DRAIN)
        await self.listeners.stop()
        await _cancel_all([self._withdrawal] if self._withdrawal else [])
        try:
            async with asyncio.timeout(seconds):
                await self.registry.emptied()
        except TimeoutError:
            self.abort(f"the sidecar is stopping, and {seconds:g} s were over")
            await self.registry.emptied()

    def abort(self, detail: str = "the sidecar was told to stop at once") -> None:
        """End every connection now, as DRAINED."""
        self.registry.end_all(Outcome.DRAINED, detail)

    def set_allow(self, index: int, spiffe_ids: Iterable[SpiffeId | str]) -> int:
        """Replace the allow-list of inbound ``index`` and end the connections that it denies. Returns their number.

        Raises InvalidSpiffeIdError, and RequestError for an inbound that takes plaintext only.
        """
        return self.set_authorizer(index, authorize_one_of(*spiffe_ids))

    def set_authorizer(self, index: int, authorizer: Authorizer) -> int:
        """As ``set_allow``, with any authorizer, such as one that evaluates a policy. Raises RequestError likewise."""
        binding = self.listeners.inbound[index]
        check_authorizer(authorizer)
        if binding.handler.config.mode is Mode.DISABLE:
            raise RequestError(
                f"inbound {binding.handler.config.listen}: mode DISABLE takes plaintext, which proves no identity"
            )
        binding.gate.replace(authorizer)
        return self.registry.recheck()

    def reload(self, wanted: SidecarConfig) -> Changes:
        """Apply every key that needs no restart. Returns which were applied and which need one.

        Raises ConfigError as ``apply`` does, and changes nothing then.
        """
        config, differing = in_force(self.config, wanted), summary(self.config, wanted)
        return differing._replace(ended=self._serve_view(view_of(config, self.view.generation + 1), config))

    def apply(self, view: MeshView) -> int:
        """Serve this view from now on. Returns how many live connections were ended.

        New addresses are bound, and listeners of removed ones closed. A listener that stays uses its new route for new
        connections. Its live connections go on unless they are now denied: the peer is not allowed, or is not ``peer``
        any more, or plaintext is not accepted. Those of a closed listener have ``limits.drain`` seconds to end.

        Raises ConfigError, and changes nothing, if an address can't be bound or the sidecar does not serve, and
        RequestError for a view that is not newer than the one in use, or that has another ``trust``.
        """
        if view.generation <= self.view.generation:
            raise RequestError(f"wanted a view newer than generation {self.view.generation}, got {view.generation}")
        if view.trust != self.view.trust:
            raise RequestError("wanted the trust of the view in use: another needs a restart")
        return self._serve_view(view, with_view(self.config, view))

    def _serve_view(self, view: MeshView, config: SidecarConfig) -> int:
        if self.state is not SidecarState.SERVING:
            raise ConfigError(f"{config.name}: no new configuration is taken: it is {self.state.name.lower()}")
        ended = self.listeners.apply(view, config)
        self.listeners.serve()
        limits = config.limits
        self.registry.limit, self.registry.unproven.limit = limits.connections, limits.unproven
        if limits.withdrawal_grace != self.config.limits.withdrawal_grace:
            self._watch_withdrawal(limits)
        self.config = config
        return ended + self.registry.recheck()

    def readiness(self) -> Readiness:
        """Whether it accepts connections and has a valid identity for them, in words."""
        if self.state is SidecarState.NEW:
            return Readiness(False, "its listeners")
        if self.state is not SidecarState.SERVING:
            return Readiness(False, f"nothing more: it is {self.state.name.lower()}")
        return self._source.readiness()

    def _step(self, step: SidecarStep) -> None:
        self.state = SIDECAR[self.state][step]

    async def _follow_trust(self) -> None:
        recheck = partial(self.registry.recheck_trust, self.runtime.reactor.scheduler.resume)
        await follow_trust(self._source.source, self.runtime.verifier, recheck)

    def _end_identified(self, why: str) -> None:
        """End connections that use our identity; plaintext ones go on."""
        self.registry.end_identified(Outcome.LOCAL_IDENTITY, why)
        self.listeners.close_tunnels(EndedError(Outcome.LOCAL_IDENTITY, why))

    def _watch_withdrawal(self, limits: Limits) -> None:
        if self._withdrawal is not None:
            self._withdrawal.cancel()
        ending = end_after_withdrawal(self._source.source, limits.withdrawal_grace, self._clock, self._end_identified)
        self._withdrawal = self._tasks.create_task(ending)

    def __repr__(self) -> str:
        try:
            generation = f"generation {self._source.snapshot().generation}"
        except LocalIdentityError:
            generation = "no SVID"
        listeners = len(self.listeners.all)
        state = f"{self.state.name.lower()}, {listeners} listeners, {len(self.registry)} connections, {generation}"
        return f"<Sidecar {self.config.name} [{state}]>"

    def _take(
        self, sock: socket.socket, direction: Direction, remote: str, handler: Inbound | Outbound, gate: Gate
    ) -> None:
        config = self.config
        connection = Connection(config.name, config.spiffe_id, direction, sock, remote, self._clock)
        connection.gate = gate
        self.runtime.reporter.opened(connection)
        if self.registry.full:
            abort(sock, self.runtime.reactor.poller)
            self.runtime.reporter.report(connection, self.registry.too_many())
        elif not handler.serve_without_task(connection):
            self._start(connection, handler.serve)

    def _start(self, connection: Connection, phases: Serve) -> None:
        inbound = connection.direction is Direction.INBOUND
        start = self.registry.start_unproven if inbound else self.registry.start
        start(connection, partial(self.runtime.reporter.run, phases=phases))


async def _cancel_all(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
