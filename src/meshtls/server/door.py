"""A gRPC listener whose every call passes the gate before its method runs, and whose end cuts every connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from grpclib.events import RecvRequest
from grpclib.server import Stream

from meshtls.errors import AccessError, MeshtlsError
from meshtls.logs import logger
from meshtls.proto.grpc_listener import serve_grpc
from meshtls.proto.peer_credentials import credentials_of
from meshtls.server.access import Caller, Door, Gate, Role, may_call
from meshtls.server.faults import grpc_error
from meshtls.svid.verify import VerifiedPeer

if TYPE_CHECKING:
    from grpclib._typing import IServable, IServerMethodFunc

__all__ = ["current_caller", "open_door"]

log = logger("meshtls.server")

_CALLER: ContextVar[Caller] = ContextVar("caller")
_TRANSPORT: ContextVar[asyncio.BaseTransport] = ContextVar("transport")
# Little for the anonymous.
_LONGEST_MESSAGE = {Door.ATTESTATION: 2**17, Door.MTLS: 2**22, Door.SOCKET: 2**24}


def current_caller() -> Caller:
    """Who called the method that runs here. Raises LookupError outside of one."""
    return _CALLER.get()


def open_door(
    door: Door,
    services: Collection[IServable],
    gate: Gate,
    listener: socket.socket,
    context: ssl.SSLContext | None = None,
) -> AbstractAsyncContextManager[None]:
    """Answer on ``listener`` while the body runs; then every connection is cut."""
    return serve_grpc(
        services,
        listener,
        _entered,
        longest_message=_LONGEST_MESSAGE[door],
        admit=_Guard(door, gate).admit,
        context=context,
    )


def _entered(transport: asyncio.BaseTransport) -> Callable[[], None]:
    _TRANSPORT.set(transport)
    return lambda: None


class _Guard:
    """Stands before each method of one door."""

    def __init__(self, door: Door, gate: Gate) -> None:
        self._door = door
        self._gate = gate

    async def admit(self, event: RecvRequest) -> None:
        try:
            caller = await self._caller()
            if not may_call(caller.role, event.method_name):
                raise AccessError(f"{event.method_name} is not for {caller.role.value} ({caller.name})")
        except MeshtlsError as error:
            log.warning("refused %s through %s: %s", event.method_name, self._door.value, error)
            raise grpc_error(error) from error
        _CALLER.set(caller)
        event.method_func = _translated(event.method_func, event.method_name, caller)

    async def _caller(self) -> Caller:
        transport = _TRANSPORT.get()
        uid = credentials_of(transport.get_extra_info("socket")).uid if self._door is Door.SOCKET else None
        peer = getattr(transport.get_extra_info("ssl_object"), "peer", None)
        return await self._gate.caller(self._door, peer if isinstance(peer, VerifiedPeer) else None, uid)


def _translated(method: IServerMethodFunc, name: str, caller: Caller) -> IServerMethodFunc:
    async def call(stream: Stream[Any, Any]) -> None:
        try:
            await method(stream)
        except MeshtlsError as error:
            log.warning("%s by %s failed: %s", name, caller.name, error)
            raise grpc_error(error) from error
        if caller.role is Role.ADMIN:
            log.info("%s by %s", name, caller.name)

    return call
