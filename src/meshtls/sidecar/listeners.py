"""A sidecar's listeners, each with its handler and policy: added, removed and replaced as the view changes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from meshtls.address import Address
from meshtls.observe.events import Direction, Outcome
from meshtls.policy.authorizer import authorize_id, authorize_one_of
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.gate import Gate, gate_of
from meshtls.sidecar.inbound import Inbound
from meshtls.sidecar.listener import Listener
from meshtls.sidecar.outbound import Outbound
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import InboundConfig, Limits, Mode, OutboundConfig, SidecarConfig, leads_back
from meshtls.sidecar.sockets import abort, peer_of
from meshtls.sidecar.tunnel.origin import Handover, baggage_of
from meshtls.sidecar.view import POLICIES, MeshView, Routes, changes
from meshtls.spiffeid import SpiffeId

__all__ = ["Binding", "ListenerDeps", "Listeners"]

D = TypeVar("D", Inbound, Outbound)


@dataclass(frozen=True, slots=True)
class ListenerDeps:
    """What all listeners of a sidecar share."""

    name: str
    spiffe_id: SpiffeId
    #: Other processes listen on the same addresses.
    shared: bool
    runtime: Runtime
    tasks: asyncio.TaskGroup


@dataclass(eq=False, slots=True)
class Binding(Generic[D]):
    """A listener, its handler, its policy, and its tasks: first the one that accepts, then that of warm connections."""

    gate: Gate
    handler: D
    listener: Listener
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


_AnyBinding = Binding[Inbound] | Binding[Outbound]


class Listeners:
    """The listeners of one sidecar. ``inbound`` and ``outbound`` are in the order of the view. For each view, call
    ``apply`` and then ``serve``.
    """

    def __init__(self, shared: ListenerDeps) -> None:
        #: The view in use.
        self.view = MeshView()
        self._config: SidecarConfig | None = None
        self.inbound: list[Binding[Inbound]] = []
        self.outbound: list[Binding[Outbound]] = []
        #: Handlers of an older view whose tunnels have live streams.
        self._retired: list[Outbound] = []
        #: Each ends the live connections of a removed listener after the drain timeout.
        self._endings: set[asyncio.Task[None]] = set()
        self._shared = shared
        #: For a gateway: from an inbound listener to the outbound listener that is its app.
        self._handover = Handover()

    @property
    def all(self) -> list[_AnyBinding]:
        return [*self.inbound, *self.outbound]

    def apply(self, view: MeshView, config: SidecarConfig) -> int:
        """Go on with this view, and with the limits and the workload of ``config``. Added listeners accept from
        ``serve`` on; ``Registry.recheck`` then ends what the view forbids.

        Returns how many streams of tunnels ended, since their outbound has another peer now.

        Raises ConfigError where an address can't be bound; nothing has changed then.
        """
        differing, before, running = changes(self.view, view), self.all, self._config
        for policy in view.policies:
            policy.compiled  # noqa: B018  # it may raise, and later something would have changed
        with contextlib.ExitStack() as undo:
            inbound = [
                self._inbound(one.new, view, config, undo) if one.old is None else self.inbound[one.old]
                for one in differing.inbound
                if one.new is not None
            ]
            outbound = [
                self._outbound(one.new, view, config, undo) if one.old is None else self.outbound[one.old]
                for one in differing.outbound
                if one.new is not None
            ]
            undo.pop_all()
        before_routes = self.view.routes
        self.view, self._config, self.inbound, self.outbound = view, config, inbound, outbound
        self._shared.runtime.memory.size = config.limits.tunnel_memory
        for binding in before:
            if binding not in self.all:
                self._remove(binding, config.limits.drain)
        limits = running is None or config.limits != running.limits
        workload = limits or running is None or config.workload != running.workload
        ended = 0
        for one in differing.outbound:
            if one.old is not None and one.new is not None and (workload or one.keys):
                ended += self._renew_outbound(outbound[one.new], view.routes.outbound[one.new], config)
        for one in differing.inbound:
            if one.old is not None and one.new is not None:
                gateway = _is_gateway(one.new, view.routes)
                renewed = limits or _is_gateway(one.old, before_routes) != gateway
                self._renew_inbound(inbound[one.new], one.new, one.keys, config, gateway=gateway, renewed=renewed)
        return ended

    def serve(self) -> None:
        """Start accepting on the new listeners, in the running task group."""
        for binding in self.all:
            if not binding.tasks:
                binding.tasks = [binding.listener.start(self._shared.tasks)]
                self._keep_warm(binding)

    async def stop(self) -> None:
        """Accept no more connections and streams; live ones go on."""
        tasks = [*(task for binding in self.all for task in binding.tasks), *self._endings]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for binding in self.inbound:
            binding.handler.tunnels.drain()

    def close_tunnels(self, error: EndedError) -> None:
        """End the outbound tunnels."""
        for handler in (*(binding.handler for binding in self.outbound), *self._retired):
            handler.close(error)
        self._retired.clear()

    def listen(
        self, address: Address, key: str, take: Callable[[socket.socket], None], undo: contextlib.ExitStack
    ) -> Listener:
        """Bind a listener; ``key`` names it in messages. Raises ConfigError."""
        runtime, name = self._shared.runtime, f"{self._shared.name}: {key}"
        listener = Listener(address, name, runtime.reactor.poller, runtime.clock, take, shared=self._shared.shared)
        undo.callback(listener.close)
        return listener

    def _inbound(self, at: int, view: MeshView, config: SidecarConfig, undo: contextlib.ExitStack) -> Binding[Inbound]:
        route, policy, verifier = view.routes.inbound[at], view.policies[at], self._shared.runtime.verifier
        gate = gate_of(policy, verifier)
        handler = self._inbound_handler(route, gateway=_is_gateway(at, view.routes), limits=config.limits, gate=gate)
        take = partial(self._accept_inbound, handler, gate)
        return Binding(gate, handler, self.listen(route.listen, f"inbound[{at}].listen", take, undo))

    def _outbound(
        self, at: int, view: MeshView, config: SidecarConfig, undo: contextlib.ExitStack
    ) -> Binding[Outbound]:
        route = view.routes.outbound[at]
        gate = Gate(
            authorize_id(route.peer),
            plaintext=not route.proves_peer,
            verifier=self._shared.runtime.verifier,
            dialled=True,
        )
        handler = self._outbound_handler(route, config, gate)
        take = partial(self._accept_outbound, handler, gate)
        return Binding(gate, handler, self.listen(route.listen, f"outbound[{at}].listen", take, undo))

    def _keep_warm(self, binding: _AnyBinding) -> None:
        if isinstance(binding.handler, Outbound) and binding.handler.warm is not None:
            binding.tasks.append(self._shared.tasks.create_task(binding.handler.warm.keep()))

    def _renew_inbound(
        self,
        binding: Binding[Inbound],
        at: int,
        keys: tuple[str, ...],
        config: SidecarConfig,
        *,
        gateway: bool,
        renewed: bool,
    ) -> None:
        route, policy = self.view.routes.inbound[at], self.view.policies[at]
        if POLICIES in keys:
            binding.gate.replace(authorize_one_of(*policy.allow), policy.compiled)
        elif "allow" in keys and route.mode is not Mode.DISABLE:
            binding.gate.replace(authorize_one_of(*policy.allow))
        binding.gate.plaintext = policy.plaintext
        if renewed or route != binding.handler.config:
            binding.handler.tunnels.drain()
            binding.handler = self._inbound_handler(route, gateway=gateway, limits=config.limits, gate=binding.gate)
            binding.listener.hand_to(partial(self._accept_inbound, binding.handler, binding.gate))

    def _renew_outbound(self, binding: Binding[Outbound], route: OutboundConfig, config: SidecarConfig) -> int:
        """The number of connections and streams that ended, as they lead to what is not allowed any more."""
        handler = binding.handler
        for task in binding.tasks[1:]:
            task.cancel()  # warm connections of the older configuration
        del binding.tasks[1:]
        binding.handler = self._outbound_handler(route, config, binding.gate)
        binding.gate.plaintext = not route.proves_peer
        binding.listener.hand_to(partial(self._accept_outbound, binding.handler, binding.gate))
        self._keep_warm(binding)
        live, ended = self._shared.runtime.registry.of(binding.gate), 0
        if route.origination != handler.config.origination:
            why = "the server there has to prove something else now, by a DestinationRule"
            ended = sum(one.end(Outcome.POLICY_DENIED, why) for one in live)
        if route.peer == handler.config.peer:
            self._retire(handler)
            return ended
        binding.gate.replace(authorize_id(route.peer))
        why = f"peer {handler.config.peer} is not allowed any more: this outbound's peer is {route.peer} now"
        ended += sum(one.end(Outcome.POLICY_DENIED, why) for one in live if one.is_stream)
        handler.close(EndedError(Outcome.POLICY_DENIED, why))  # tunnels without streams
        return ended

    def _remove(self, binding: _AnyBinding, seconds: float) -> None:
        """Accept no more. Live connections have the drain timeout to end by themselves, as when the sidecar stops."""
        for task in binding.tasks:
            task.cancel()
        if isinstance(binding.handler, Inbound):
            binding.handler.tunnels.drain()
        else:
            self._retire(binding.handler)
        ending = self._shared.tasks.create_task(self._end_later(binding, seconds))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def _retire(self, handler: Outbound) -> None:
        handler.drain()
        self._retired = [one for one in (*self._retired, handler) if one.has_tunnels]

    async def _end_later(self, binding: _AnyBinding, seconds: float) -> None:
        await self._shared.runtime.clock.sleep(seconds)
        for connection in self._shared.runtime.registry.of(binding.gate):
            connection.end(Outcome.DRAINED, f"its listener was removed {seconds:g} s ago")

    def _inbound_handler(self, route: InboundConfig, *, gateway: bool, limits: Limits, gate: Gate) -> Inbound:
        handover = self._handover if gateway else None
        return Inbound(route, limits, self._shared.runtime, gate, handover=handover)

    def _outbound_handler(self, one: OutboundConfig, config: SidecarConfig, gate: Gate) -> Outbound:
        shared = self._shared
        return Outbound(
            one,
            config.limits,
            shared.runtime,
            gate,
            baggage=baggage_of(config.workload, config.name, config.spiffe_id),
            handover=self._handover,
        )

    def _accept_inbound(self, handler: Inbound, gate: Gate, sock: socket.socket) -> None:
        connection = self._accepted(sock, Direction.INBOUND, peer_of(sock), gate)
        if connection is not None:
            run = partial(self._shared.runtime.reporter.run, phases=handler.serve)
            self._shared.runtime.registry.start_unproven(connection, run)

    def _accept_outbound(self, handler: Outbound, gate: Gate, sock: socket.socket) -> None:
        connection = self._accepted(sock, Direction.OUTBOUND, handler.remote, gate)
        if connection is not None and not handler.serve_without_task(connection):
            handler.start(connection)

    def _accepted(self, sock: socket.socket, direction: Direction, remote: str, gate: Gate) -> Connection | None:
        """The connection, with the address of the end that speaks TLS. None if it exceeds the limit, and is closed."""
        shared, runtime = self._shared, self._shared.runtime
        connection = Connection(shared.name, shared.spiffe_id, direction, sock, remote, runtime.clock)
        connection.gate = gate
        runtime.reporter.opened(connection)
        if runtime.registry.full:
            abort(sock, runtime.reactor.poller)
            runtime.reporter.report(connection, runtime.registry.too_many())
            return None
        return connection


def _is_gateway(at: int, routes: Routes) -> bool:
    """Whether the app of the inbound route ``at`` is an outbound listener of this sidecar."""
    return any(leads_back(routes.inbound[at].app, way.listen) for way in routes.outbound)
