"""A sidecar's listeners and what is behind each: they come and go, and are configured anew, while it serves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Protocol, TypeVar

from meshtls.observe.events import Direction, Outcome
from meshtls.policy.authorizer import authorize_id, authorize_one_of
from meshtls.sidecar.address import Address
from meshtls.sidecar.changes import changed_keys, matched
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.inbound import Inbound
from meshtls.sidecar.listener import Listener
from meshtls.sidecar.outbound import Outbound
from meshtls.sidecar.reporter import Phases
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.scalars import leads_back
from meshtls.sidecar.settings import InboundConfig, Mode, OutboundConfig, SidecarConfig
from meshtls.sidecar.sockets import peer_of
from meshtls.sidecar.tunnel.origin import Handover, baggage_of

__all__ = ["Binding", "Listeners", "Surroundings", "Take"]

D = TypeVar("D", Inbound, Outbound)


class Take(Protocol):
    """Takes what a listener has accepted. ``remote`` is the address of the end that speaks TLS."""

    def __call__(
        self, sock: socket.socket, direction: Direction, remote: str, handler: Inbound | Outbound, gate: Gate, /
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all listeners of a sidecar share."""

    name: str
    shared: bool
    runtime: Runtime
    tasks: asyncio.TaskGroup
    take: Take
    #: Gives a connection a task of its own, for these phases.
    start: Callable[[Connection, Phases], None]


@dataclass(eq=False, slots=True)
class Binding(Generic[D]):
    """A listener, what is behind it now, who may come through it, and the tasks that serve it: first the listener's."""

    gate: Gate
    handler: D
    listener: Listener
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


_AnyBinding = Binding[Inbound] | Binding[Outbound]


class Listeners:
    """``inbound`` and ``outbound`` are in the order of the configuration. ``bind``, then ``serve``, then ``renew`` as
    often as the configuration changes.
    """

    def __init__(self, shared: Surroundings) -> None:
        self.inbound: list[Binding[Inbound]] = []
        self.outbound: list[Binding[Outbound]] = []
        #: Those of an older configuration, whose tunnels live until their last stream ends.
        self._retired: list[Outbound] = []
        #: They end what lives of removed listeners.
        self._endings: set[asyncio.Task[None]] = set()
        self._shared = shared
        #: What goes from an inbound listener to an outbound one that is its app: the sidecar is a gateway then.
        self._handover = Handover()

    @property
    def all(self) -> list[_AnyBinding]:
        return [*self.inbound, *self.outbound]

    def bind(self, config: SidecarConfig) -> None:
        """Raises ConfigError where an address can't be bound; none is then."""
        with contextlib.ExitStack() as undo:
            self.inbound = [self._inbound(at, one, config, undo) for at, one in enumerate(config.inbound)]
            self.outbound = [self._outbound(at, one, config, undo) for at, one in enumerate(config.outbound)]
            undo.pop_all()

    def serve(self) -> None:
        """Accept, within the running task group."""
        for binding in self.all:
            self._serve(binding)

    def renew(self, running: SidecarConfig, config: SidecarConfig) -> None:
        """Go on with this configuration; ``Registry.recheck`` then ends what it forbids.

        Raises ConfigError where an address can't be bound; nothing has changed then.
        """
        limits = config.limits
        with contextlib.ExitStack() as undo:
            inbound = [
                self._inbound(at, one, config, undo) if binding is None else self.inbound[binding]
                for at, (one, binding) in enumerate(
                    zip(config.inbound, matched(running.inbound, config.inbound), strict=True)
                )
            ]
            outbound = [
                self._outbound(at, one, config, undo) if binding is None else self.outbound[binding]
                for at, (one, binding) in enumerate(
                    zip(config.outbound, matched(running.outbound, config.outbound), strict=True)
                )
            ]
            undo.pop_all()
        before = self.all
        self.inbound, self.outbound = inbound, outbound
        self._shared.runtime.memory.size = limits.tunnel_memory
        for binding in before:
            if binding not in self.all:
                self._remove(binding, limits.drain)
        for binding in self.all:
            if binding not in before:
                self._serve(binding)
        renewed = limits != running.limits
        said = renewed or config.workload != running.workload
        for way, there in zip(config.outbound, outbound, strict=True):
            self._renew_outbound(there, way, config, renewed=said)
        for one, binding in zip(config.inbound, inbound, strict=True):
            turned = _is_gateway(one, running) != _is_gateway(one, config)
            self._renew_inbound(binding, one, config, renewed=renewed or turned)

    async def stop(self) -> None:
        """Accept no more, and take no more streams; what lives goes on."""
        tasks = [*(task for binding in self.all for task in binding.tasks), *self._endings]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for binding in self.inbound:
            binding.handler.tunnels.drain()

    def close_tunnels(self) -> None:
        """End those that we have dialled."""
        for handler in (*(binding.handler for binding in self.outbound), *self._retired):
            handler.close()
        self._retired.clear()

    def listen(
        self, address: Address, key: str, take: Callable[[socket.socket], None], undo: contextlib.ExitStack
    ) -> Listener:
        """``key`` names it in messages. Raises ConfigError."""
        name = f"{self._shared.name}: {key}"
        listener = Listener(address, name, self._shared.runtime.clock, take, shared=self._shared.shared)
        undo.callback(listener.close)
        return listener

    def _inbound(
        self, at: int, one: InboundConfig, config: SidecarConfig, undo: contextlib.ExitStack
    ) -> Binding[Inbound]:
        verifier = self._shared.runtime.verifier
        gate = Gate(authorize_one_of(*one.allow), plaintext=one.mode is not Mode.STRICT, verifier=verifier)
        handler = self._inbound_handler(one, config, gate)
        take = partial(self._take_inbound, handler, gate)
        return Binding(gate, handler, self.listen(one.listen, f"inbound[{at}].listen", take, undo))

    def _outbound(
        self, at: int, one: OutboundConfig, config: SidecarConfig, undo: contextlib.ExitStack
    ) -> Binding[Outbound]:
        gate = Gate(authorize_id(one.peer), verifier=self._shared.runtime.verifier)
        handler = self._outbound_handler(one, config, gate)
        take = partial(self._take_outbound, handler, gate)
        return Binding(gate, handler, self.listen(one.listen, f"outbound[{at}].listen", take, undo))

    def _serve(self, binding: _AnyBinding) -> None:
        binding.tasks = [self._shared.tasks.create_task(binding.listener.accept_forever())]
        self._keep_warm(binding)

    def _keep_warm(self, binding: _AnyBinding) -> None:
        if isinstance(binding.handler, Outbound) and binding.handler.warm is not None:
            binding.tasks.append(self._shared.tasks.create_task(binding.handler.warm.keep()))

    def _renew_inbound(
        self, binding: Binding[Inbound], one: InboundConfig, config: SidecarConfig, *, renewed: bool
    ) -> None:
        before = binding.handler.config
        if one == before and not renewed:
            return
        if one.allow != before.allow and one.mode is not Mode.DISABLE:
            binding.gate.replace(authorize_one_of(*one.allow))
        if renewed or changed_keys(before, one) != ("allow",):
            binding.handler.tunnels.drain()
            binding.handler = self._inbound_handler(one, config, binding.gate)
            binding.listener.hand_to(partial(self._take_inbound, binding.handler, binding.gate))
        binding.handler.config = one
        binding.gate.plaintext = one.mode is not Mode.STRICT

    def _renew_outbound(
        self, binding: Binding[Outbound], one: OutboundConfig, config: SidecarConfig, *, renewed: bool
    ) -> None:
        handler, before = binding.handler, binding.handler.config
        if one == before and not renewed:
            return
        for task in binding.tasks[1:]:
            task.cancel()  # warm connections of the older configuration
        del binding.tasks[1:]
        binding.handler = self._outbound_handler(one, config, binding.gate)
        binding.listener.hand_to(partial(self._take_outbound, binding.handler, binding.gate))
        self._keep_warm(binding)
        if one.peer == before.peer:
            self._retire(handler)
        else:
            binding.gate.replace(authorize_id(one.peer))
            handler.close()  # streams of a tunnel to a peer that it must not be any more

    def _remove(self, binding: _AnyBinding, seconds: float) -> None:
        """Accept no more; what lives may end by itself for as long as at a stop."""
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

    def _inbound_handler(self, one: InboundConfig, config: SidecarConfig, gate: Gate) -> Inbound:
        handover = self._handover if _is_gateway(one, config) else None
        return Inbound(one, config.limits, self._shared.runtime, gate, handover=handover)

    def _outbound_handler(self, one: OutboundConfig, config: SidecarConfig, gate: Gate) -> Outbound:
        shared = self._shared
        return Outbound(
            one,
            config.limits,
            shared.runtime,
            gate,
            start=shared.start,
            baggage=baggage_of(config.workload, config.name, config.spiffe_id),
            handover=self._handover,
        )

    def _take_inbound(self, handler: Inbound, gate: Gate, sock: socket.socket) -> None:
        self._shared.take(sock, Direction.INBOUND, peer_of(sock), handler, gate)

    def _take_outbound(self, handler: Outbound, gate: Gate, sock: socket.socket) -> None:
        self._shared.take(sock, Direction.OUTBOUND, str(handler.config.to), handler, gate)


def _is_gateway(one: InboundConfig, config: SidecarConfig) -> bool:
    """Whether a listener's app is a way out of this sidecar."""
    return any(leads_back(one.app, way.listen) for way in config.outbound)
