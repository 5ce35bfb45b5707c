"""The sidecar as a whole: binds its listeners, starts what they accept, and stops in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType

from meshtls.address import Address
from meshtls.admin.serving import admin_notice, serving_admin
from meshtls.bundle import BundleSet
from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError, LocalIdentityError, RequestError
from meshtls.observe.events import Outcome
from meshtls.observe.health import answer_probe
from meshtls.observe.readiness import Readiness
from meshtls.policy.authorizer import Authorizer, authorize_one_of, check_authorizer
from meshtls.sidecar.admin import SidecarAdmin
from meshtls.sidecar.brief_http import BriefHttp
from meshtls.sidecar.changes import Changes, Prepared, compile_change, in_force
from meshtls.sidecar.connection import EndedError
from meshtls.sidecar.crl_files import CrlFiles, JudgedByFiles
from meshtls.sidecar.early import NOTHING_EARLY, Early
from meshtls.sidecar.identity import NamedSource, end_after_withdrawal, follow_trust
from meshtls.sidecar.listener import Listener
from meshtls.sidecar.listeners import ListenerDeps, Listeners
from meshtls.sidecar.metrics.service import SidecarMetrics
from meshtls.sidecar.metrics.state import count_rotations
from meshtls.sidecar.off_loop import off_loop
from meshtls.sidecar.partings import Partings
from meshtls.sidecar.reactor import Reactor, running_reactor
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import OnRequest, OnResult, Reporter
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.services import Services
from meshtls.sidecar.settings import Limits, Mode, SidecarConfig
from meshtls.sidecar.states import SIDECAR, SidecarState, SidecarStep
from meshtls.sidecar.tracing.service import SidecarTracing
from meshtls.sidecar.tunnel.memory import ReceiveMemory
from meshtls.sidecar.view import MeshView, view_of, with_view
from meshtls.sidecar.wire_file import WireFile
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509ContextSource

__all__ = ["Sidecar"]


class Sidecar:
    """One sidecar: its listeners, connections, policies and pages. ``async with Sidecar(...)`` enters with every
    listener bound, and leaves with every connection closed.

    ``inbound[i].address`` and ``outbound[i].address`` are the bound addresses, ``health`` the probes' one, ``scrapes``
    that of metrics, and ``admin`` that of the admin interface over TCP.
    ``on_result`` gets one ConnectionResult for each connection, and ``on_request`` one RequestResult for each HTTP
    request that a policy judged; what they raise is logged and changes nothing. Entering raises ConfigError for an
    address that can't be bound.
    """

    def __init__(
        self,
        config: SidecarConfig,
        source: X509ContextSource,
        *,
        on_result: OnResult,
        on_request: OnRequest | None = None,
        jwt_bundles: Callable[[], BundleSet] | None = None,
        clock: Clock | None = None,
        reactor: Reactor | None = None,
        metrics: SidecarMetrics | None = None,
        worker: int = 0,
        early: Early = NOTHING_EARLY,
    ) -> None:
        """``worker``: the number of this process among several that serve the same configuration.

        ``early`` serves the admin interface, probes and scrapes already, and goes on: its answers become those of this
        sidecar.

        ``reactor`` is the running loop's unless given. Raises RuntimeError where no loop runs then.

        Metrics are counted in ``metrics``, if given, or if ``config`` has an address for scrapes.

        ``jwt_bundles`` verify the JWT-SVIDs of RequestAuthentication documents: it may raise LocalIdentityError.
        """
        reactor = reactor or running_reactor()
        self.config = config
        self.registry = Registry(config.limits.connections, config.limits.unproven)
        self.health: Listener | None = None
        self.scrapes: Listener | None = None
        self._clock = clock or SystemClock()
        self._crl_files = CrlFiles(config.crls, self._clock)
        judged = JudgedByFiles(source, self._crl_files, self._clock) if config.crls else source
        self._source = NamedSource(judged, config.spiffe_id, self._clock)
        self._admin = SidecarAdmin(self, self._clock) if config.admin is not None else None
        self._worker = worker
        self._early = early
        self.admin: Address | None = None
        self._open = contextlib.AsyncExitStack()
        self.tracing = SidecarTracing.of(config, self._clock)
        reporter = Reporter(
            on_result, reactor.poller, on_request, self._admin.handshakes if self._admin is not None else None
        )
        if self._admin is not None:
            reporter.observe_ends(self._admin.ended)
        if self.tracing is not None:
            reporter.observe(self.tracing.tracer)
        self.runtime = Runtime(
            reactor=reactor,
            source=self._source,
            clock=self._clock,
            registry=self.registry,
            reporter=reporter,
            partings=Partings(reactor.poller),
            memory=ReceiveMemory(config.limits.tunnel_memory),
            services=Services(self._clock, jwt_bundles),
            insecure_keylog_file=config.insecure_keylog_file,
            wire_file=WireFile(config.insecure_capture, config.name) if config.insecure_capture is not None else None,
            tracer=self.tracing.tracer if self.tracing is not None else None,
        )
        self._tasks = asyncio.TaskGroup()
        shared = ListenerDeps(
            name=config.name,
            spiffe_id=config.spiffe_id,
            shared=config.workers > 1,
            runtime=self.runtime,
            tasks=self._tasks,
        )
        self.listeners = Listeners(shared)
        self._withdrawal: asyncio.Task[None] | None = None
        #: Tasks that go on while the sidecar drains: the answers to probes, and the watch for changes of trust.
        self._drain_tasks: list[asyncio.Task[None]] = []
        self.state = SidecarState.NEW
        #: Why the latest configuration was not taken; empty if it was.
        self.not_taken = ""
        if metrics is None and config.metrics is not None:
            metrics = SidecarMetrics()
        self.metrics = metrics
        if metrics is not None:
            metrics.follow(self, config)
            if self.tracing is not None:
                self.tracing.count(metrics.metrics)

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
        services = self.runtime.services.prepare(config)
        async with contextlib.AsyncExitStack() as opening:
            undo = opening.enter_context(contextlib.ExitStack())
            if self.runtime.wire_file is not None:
                opening.callback(self.runtime.wire_file.close)
                self.runtime.wire_file.open()
            if self._admin is not None and self._early.admin is not None:
                self._early.admin.pages.replace(self._admin.pages())
                self.admin = self._early.admin.address
            elif self._admin is not None:
                serving = serving_admin(config.admin, self._admin.pages(), worker=self._worker)
                self.admin = await opening.enter_async_context(serving)
            early, started = self._early, list[Listener]()
            if early.health is None and config.health:
                self.health = self._listen_briefly(config.health, "health", self._answer_probe, undo)
                started.append(self.health)
            if early.scrapes is None and config.metrics and self.metrics is not None:
                self.scrapes = self._listen_briefly(config.metrics, "metrics.listen", self.metrics.answer, undo)
                started.append(self.scrapes)
            self.listeners.apply(view_of(config), config)
            undo.pop_all()
            self._open = opening.pop_all()
        await self._tasks.__aenter__()
        self.runtime.services.use(services, config, self._tasks)
        self.listeners.serve()
        self._watch_withdrawal(config.limits)
        self._drain_tasks = [self._tasks.create_task(self._follow_trust())]
        if config.crls:
            self._drain_tasks.append(self._tasks.create_task(self._crl_files.follow()))
        if self.metrics is not None:
            counting = count_rotations(self._source.source, self.metrics.metrics)
            publishing = self.metrics.keep_publishing(self._clock)
            self._drain_tasks += [self._tasks.create_task(counting), self._tasks.create_task(publishing)]
        if self.tracing is not None:
            self._drain_tasks.append(self._tasks.create_task(self.tracing.exporter.run()))
        self._drain_tasks += [listener.start(self._tasks) for listener in started]
        self._step(SidecarStep.SERVE)
        self._take_over(early)
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
            if self.tracing is not None:
                await self.tracing.exporter.finish()
            await self._open.aclose()
            self.runtime.services.close()
            self.runtime.reporter.close(self.config.name)
            if self.metrics is not None:
                self.metrics.publish()
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

    def drain_in_background(self) -> None:
        """As ``drain``, while the process goes on: until it is left, it answers probes and its operator."""
        self._step(SidecarStep.DRAIN)
        self._drain_tasks.append(self._tasks.create_task(self.drain()))

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

        It compiles the policies, during which nothing is served: see ``prepare``. Raises ConfigError as ``apply`` does,
        and changes nothing then.
        """
        return self.apply_prepared(compile_change(self.config, self.view, wanted))

    async def prepare(self, load: Callable[[], SidecarConfig]) -> Prepared:
        """Load and compile in a thread, and serve meanwhile. Raises what ``load`` raises, and ConfigError."""
        running, in_use = self.config, self.view
        return await off_loop(lambda: compile_change(running, in_use, load()), "meshtls policies")

    def apply_prepared(self, given: Prepared) -> Changes:
        """Apply what is prepared. As ``reload``."""
        config = in_force(self.config, given.wanted)
        view = view_of(config, self.view.generation + 1, given.rules)
        return given.differing._replace(ended=self._serve_view(view, config))

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
        services = self.runtime.services.prepare(config)
        ended = self.listeners.apply(view, config)
        self.runtime.services.use(services, config, self._tasks)
        self.listeners.serve()
        limits = config.limits
        self.registry.limit, self.registry.unproven.limit = limits.connections, limits.unproven
        if limits.withdrawal_grace != self.config.limits.withdrawal_grace:
            self._watch_withdrawal(limits)
        self.config = config
        if self.metrics is not None:
            self.metrics.rename(config)
        return ended + self.registry.recheck()

    def readiness(self) -> Readiness:
        """Whether it accepts connections and has a valid identity for them, in words."""
        if self.state is SidecarState.NEW:
            return Readiness(False, "its listeners")
        if self.state is not SidecarState.SERVING:
            return Readiness(False, self.state.name.lower(), waits=False)
        keylog, outdated = self.config.insecure_keylog_file, self.not_taken
        return self._source.readiness().telling(
            f"INSECURE: TLS secrets are written to {keylog}" if keylog is not None else "",
            self.runtime.wire_file.notice if self.runtime.wire_file is not None else "",
            f"the configuration in use is an older one: {outdated}" if outdated else "",
            *self.runtime.services.complaints,
            admin_notice(self.config.admin),
        )

    def note_reload(self, error: str) -> None:
        """Note why the latest configuration was not applied; empty if it was."""
        self.not_taken = error
        if error and self.metrics is not None:
            self.metrics.count_rejected()

    def _take_over(self, early: Early) -> None:
        """Answer on the listeners that serve already."""
        if early.health is not None:
            self.health, early.health.answer = early.health.listener, self._answer_probe
        if early.scrapes is not None and self.metrics is not None:
            self.scrapes, early.scrapes.answer = early.scrapes.listener, self.metrics.answer

    def _answer_probe(self, request: bytes) -> bytes:
        return answer_probe(request, self.readiness, self.config.process)

    def _listen_briefly(
        self, address: Address, key: str, answer: Callable[[bytes], bytes], undo: contextlib.ExitStack
    ) -> Listener:
        return self.listeners.listen(
            address, key, BriefHttp(answer, self._tasks, self.runtime.reactor.poller).take, undo
        )

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


async def _cancel_all(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
