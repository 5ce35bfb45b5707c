"""A gRPC listener whose every call passes the gate before its method runs, and whose end cuts every connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from grpclib.events import RecvRequest
from grpclib.server import Stream

from meshtls.errors import AccessError, MeshtlsError
from meshtls.logs import logger
from meshtls.rpc.calls import grpc_error
from meshtls.rpc.grpc_listener import Listening, SetLimits, serve_grpc
from meshtls.rpc.limits import Limits
from meshtls.rpc.peer_credentials import credentials_of
from meshtls.rpc.shedding import CountedLog, Refusals
from meshtls.rpc.turns import Turns
from meshtls.server.access import Caller, Door, Gate, Role, may_call
from meshtls.svid.verify import VerifiedPeer

if TYPE_CHECKING:
    from grpclib._typing import IServable, IServerMethodFunc

__all__ = ["Shared", "current_caller", "open_door"]

log = logger("meshtls.server")

_CALLER: ContextVar[Caller] = ContextVar("caller")
_TRANSPORT: ContextVar[asyncio.BaseTransport] = ContextVar("transport")
_NAMES = {Door.SOCKET: "admin socket", Door.MTLS: "server port", Door.ATTESTATION: "attestation port"}
_MOST_ADMINISTRATORS = 256


def current_caller() -> Caller:
    """Who called the method that runs here. Raises LookupError outside of one."""
    return _CALLER.get()


@dataclass(frozen=True, slots=True)
class Shared:
    """What a server's listeners share: its limits, its event loop's turns, the counts of what was refused."""

    limits: Limits
    turns: Turns
    refusals: Refusals


@asynccontextmanager
async def open_door(
    door: Door,
    services: Collection[IServable],
    gate: Gate,
    listener: socket.socket,
    shared: Shared,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[SetLimits]:
    """Answer on ``listener`` while the body runs; then every connection is cut. The body gets what sets other limits,
    which are the server's.
    """
    listening = Listening(
        name=_NAMES[door],
        limits=_limits_of(door, shared.limits),
        turns=shared.turns,
        refusals=shared.refusals,
        identify=_proven_caller,
    )
    guard = _Guard(door, gate)
    async with serve_grpc(services, listener, _entered, listening, admit=guard.admit, context=context) as set_limits:
        yield lambda limits: set_limits(_limits_of(door, limits))


def _limits_of(door: Door, limits: Limits) -> Limits:
    if door is Door.SOCKET:
        return replace(limits, connections=min(limits.connections, _MOST_ADMINISTRATORS), message_bytes=2**24)
    if door is Door.MTLS:
        return replace(limits, message_bytes=2**22)
    # Little for the anonymous: one attestation is one call of a few kilobytes.
    return replace(
        limits,
        connections=max(1, limits.connections // 4),
        connections_per_caller=min(limits.connections_per_caller, 64),
        streams_per_connection=16,
        streams_per_caller=min(limits.streams_per_caller, 64),
        calls_per_second=limits.attestations_per_second,
        message_bytes=2**17,
        idle_timeout=min(limits.idle_timeout, 30.0),
        call_timeout=30.0,
    )


def _proven_caller(transport: asyncio.BaseTransport) -> str | None:
    peer = _peer(transport)
    return str(peer.spiffe_id) if peer is not None else None


def _peer(transport: asyncio.BaseTransport) -> VerifiedPeer | None:
    peer = getattr(transport.get_extra_info("ssl_object"), "peer", None)
    return peer if isinstance(peer, VerifiedPeer) else None


def _entered(transport: asyncio.BaseTransport) -> Callable[[], None]:
    _TRANSPORT.set(transport)
    return lambda: None


class _Guard:
    """Stands before each method of one door."""

    def __init__(self, door: Door, gate: Gate) -> None:
        self._door = door
        self._gate = gate
        self._log = CountedLog(log)

    async def admit(self, event: RecvRequest) -> None:
        try:
            caller = await self._caller()
            if not may_call(caller.role, event.method_name):
                raise AccessError(f"{event.method_name} is not for {caller.role.value} ({caller.name})")
        except MeshtlsError as error:
            # Of a name that has proven itself each is told; the others are told of together.
            peer = _proven_caller(_TRANSPORT.get())
            self._log.warning((peer, type(error)), f"refused {event.method_name} through {self._door.value}: {error}")
            raise grpc_error(error) from error
        _CALLER.set(caller)
        event.method_func = _translated(event.method_func, event.method_name, caller, self._log)

    async def _caller(self) -> Caller:
        transport = _TRANSPORT.get()
        uid = credentials_of(transport.get_extra_info("socket")).uid if self._door is Door.SOCKET else None
        return await self._gate.caller(self._door, _peer(transport), uid)


def _translated(method: IServerMethodFunc, name: str, caller: Caller, failures: CountedLog) -> IServerMethodFunc:
    async def call(stream: Stream[Any, Any]) -> None:
        try:
            await method(stream)
        except MeshtlsError as error:
            failures.warning((name, caller.name, type(error)), f"{name} by {caller.name} failed: {error}")
            raise grpc_error(error) from error
        if caller.role is Role.ADMIN:
            log.info("%s by %s", name, caller.name)

    return call
