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

__all__ = ["Listeners", "Place", "Surroundings", "Take"]

D = TypeVar("D", Inbound, Outbound)


class Take(Protocol):
    """Takes what a listener has accepted. ``remote`` is the address of the end that speaks TLS."""

    def __call__(
        self, sock: socket.socket, direction: Direction, remote: str, door: Inbound | Outbound, gate: Gate, /
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
class Place(Generic[D]):
    """A listener, what is behind it now, who may come through it, and the tasks that serve it: first the listener's."""

    gate: Gate
    door: D
    listener: Listener
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


_AnyPlace = Place[Inbound] | Place[Outbound]


class Listeners:
    """``inbound`` and ``outbound`` are in the order of the configuration. ``bind``, then ``serve``, then ``renew`` as
    often as the configuration changes.
    """

    def __init__(self, shared: Surroundings) -> None:
        self.inbound: list[Place[Inbound]] = []
        self.outbound: list[Place[Outbound]] = []
        #: Those of an older configuration, whose tunnels live until their last stream ends.
        self._retired: list[Outbound] = []
        #: They end what lives of removed listeners.
        self._endings: set[asyncio.Task[None]] = set()
        self._shared = shared
        #: What goes from an inbound listener to an outbound one that is its app: the sidecar is a gateway then.
        self._handover = Handover()

    @property
    def all(self) -> list[_AnyPlace]:
        return [*self.inbound, *self.outbound]

    def bind(self, config: SidecarConfig) -> None:
        """Raises ConfigError where an address can't be bound; none is then."""
        with contextlib.ExitStack() as undo:
            self.inbound = [self._inbound(at, one, config, undo) for at, one in enumerate(config.inbound)]
            self.outbound = [self._outbound(at, one, config, undo) for at, one in enumerate(config.outbound)]
            undo.pop_all()

    def serve(self) -> None:
        """Accept, within the running task group."""
        for place in self.all:
            self._serve(place)

    def renew(self, running: SidecarConfig, config: SidecarConfig) -> None:
        """Go on with this configuration; ``Registry.recheck`` then ends what it forbids.

        Raises ConfigError where an address can't be bound; nothing has changed then.
        """
        limits = config.limits
        with contextlib.ExitStack() as undo:
            inbound = [
                self._inbound(at, one, config, undo) if place is None else self.inbound[place]
                for at, (one, place) in enumerate(
                    zip(config.inbound, matched(running.inbound, config.inbound), strict=True)
                )
            ]
            outbound = [
                self._outbound(at, one, config, undo) if place is None else self.outbound[place]
                for at, (one, place) in enumerate(
                    zip(config.outbound, matched(running.outbound, config.outbound), strict=True)
                )
            ]
            undo.pop_all()
        before = self.all
        self.inbound, self.outbound = inbound, outbound
        self._shared.runtime.memory.size = limits.tunnel_memory
        for place in before:
            if place not in self.all:
                self._remove(place, limits.drain)
        for place in self.all:
            if place not in before:
                self._serve(place)
        renewed = limits != running.limits
        said = renewed or config.workload != running.workload
        for way, there in zip(config.outbound, outbound, strict=True):
            self._renew_outbound(there, way, config, renewed=said)
        for one, place in zip(config.inbound, inbound, strict=True):
            turned = _is_gateway(one, running) != _is_gateway(one, config)
            self._renew_inbound(place, one, config, renewed=renewed or turned)

    async def stop(self) -> None:
        """Accept no more, and take no more streams; what lives goes on."""
        tasks = [*(task for place in self.all for task in place.tasks), *self._endings]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for place in self.inbound:
            place.door.tunnels.drain()

    def close_tunnels(self) -> None:
        """End those that we have dialled."""
        for door in (*(place.door for place in self.outbound), *self._retired):
            door.close()
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
    ) -> Place[Inbound]:
        gate = Gate(authorize_one_of(*one.allow), plaintext=one.mode is not Mode.STRICT)
        door = self._inbound_door(one, config, gate)
        take = partial(self._take_inbound, door, gate)
        return Place(gate, door, self.listen(one.listen, f"inbound[{at}].listen", take, undo))

    def _outbound(
        self, at: int, one: OutboundConfig, config: SidecarConfig, undo: contextlib.ExitStack
    ) -> Place[Outbound]:
        gate = Gate(authorize_id(one.peer))
        door = self._outbound_door(one, config, gate)
        take = partial(self._take_outbound, door, gate)
        return Place(gate, door, self.listen(one.listen, f"outbound[{at}].listen", take, undo))

    def _serve(self, place: _AnyPlace) -> None:
        place.tasks = [self._shared.tasks.create_task(place.listener.accept_forever())]
        self._keep_warm(place)

    def _keep_warm(self, place: _AnyPlace) -> None:
        if isinstance(place.door, Outbound) and place.door.warm is not None:
            place.tasks.append(self._shared.tasks.create_task(place.door.warm.keep()))

    def _renew_inbound(
        self, place: Place[Inbound], one: InboundConfig, config: SidecarConfig, *, renewed: bool
    ) -> None:
        before = place.door.config
        if one == before and not renewed:
            return
        if one.allow != before.allow and one.mode is not Mode.DISABLE:
            place.gate.replace(authorize_one_of(*one.allow))
        if renewed or changed_keys(before, one) != ("allow",):
            place.door.tunnels.drain()
            place.door = self._inbound_door(one, config, place.gate)
            place.listener.hand_to(partial(self._take_inbound, place.door, place.gate))
        place.door.config = one
        place.gate.plaintext = one.mode is not Mode.STRICT

    def _renew_outbound(
        self, place: Place[Outbound], one: OutboundConfig, config: SidecarConfig, *, renewed: bool
    ) -> None:
        door, before = place.door, place.door.config
        if one == before and not renewed:
            return
        for task in place.tasks[1:]:
            task.cancel()  # warm connections of the older configuration
        del place.tasks[1:]
        place.door = self._outbound_door(one, config, place.gate)
        place.listener.hand_to(partial(self._take_outbound, place.door, place.gate))
        self._keep_warm(place)
        if one.peer == before.peer:
            self._retire(door)
        else:
            place.gate.replace(authorize_id(one.peer))
            door.close()  # streams of a tunnel to a peer that it must not be any more

    def _remove(self, place: _AnyPlace, seconds: float) -> None:
        """Accept no more; what lives may end by itself for as long as at a stop."""
        for task in place.tasks:
            task.cancel()
        if isinstance(place.door, Inbound):
            place.door.tunnels.drain()
        else:
            self._retire(place.door)
        ending = self._shared.tasks.create_task(self._end_later(place, seconds))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def _retire(self, door: Outbound) -> None:
        door.drain()
        self._retired = [one for one in (*self._retired, door) if one.has_tunnels]

    async def _end_later(self, place: _AnyPlace, seconds: float) -> None:
        await self._shared.runtime.clock.sleep(seconds)
        for connection in self._shared.runtime.registry.of(place.gate):
            connection.end(Outcome.DRAINED, f"its listener was removed {seconds:g} s ago")

    def _inbound_door(self, one: InboundConfig, config: SidecarConfig, gate: Gate) -> Inbound:
        handover = self._handover if _is_gateway(one, config) else None
        return Inbound(one, config.limits, self._shared.runtime, gate, handover=handover)

    def _outbound_door(self, one: OutboundConfig, config: SidecarConfig, gate: Gate) -> Outbound:
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

    def _take_inbound(self, door: Inbound, gate: Gate, sock: socket.socket) -> None:
        self._shared.take(sock, Direction.INBOUND, peer_of(sock), door, gate)

    def _take_outbound(self, door: Outbound, gate: Gate, sock: socket.socket) -> None:
        self._shared.take(sock, Direction.OUTBOUND, str(door.config.to), door, gate)


def _is_gateway(one: InboundConfig, config: SidecarConfig) -> bool:
    """Whether a listener's app is a way out of this sidecar."""
    return any(leads_back(one.app, way.listen) for way in config.outbound)
