"""A gRPC listener whose every call passes the gate before its method runs, and whose end cuts every connection."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import RecvRequest, listen
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream

from meshtls.errors import AccessError, MeshtlsError
from meshtls.server.access import Caller, Door, Gate, Role, may_call, unix_uid
from meshtls.server.faults import grpc_error
from meshtls.svid.verify import VerifiedPeer

if TYPE_CHECKING:
    from grpclib._typing import IProtoMessage, IServable, IServerMethodFunc

__all__ = ["current_caller", "open_door"]

log = logging.getLogger("meshtls.server")

_CALLER: ContextVar[Caller] = ContextVar("caller")
_TRANSPORT: ContextVar[asyncio.BaseTransport] = ContextVar("transport")
# A message longer than its window never arrives whole, and so never takes room: little for the anonymous.
_LONGEST_MESSAGE = {Door.ATTESTATION: 2**17, Door.MTLS: 2**22, Door.SOCKET: 2**24}


def current_caller() -> Caller:
    """Who called the method that runs here. Raises LookupError outside of one."""
    return _CALLER.get()


@asynccontextmanager
async def open_door(
    door: Door,
    services: Collection[IServable],
    gate: Gate,
    listener: socket.socket,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Answer on ``listener`` while the body runs; then every connection is cut."""
    server = _Server(services, _LONGEST_MESSAGE[door])
    listen(server, RecvRequest, _Guard(door, gate).admit)
    await server.start(sock=listener, ssl=context)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


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
        uid = unix_uid(transport.get_extra_info("socket")) if self._door is Door.SOCKET else None
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


class _Codec(ProtoCodec):
    def decode(self, data: bytes, message_type: type[IProtoMessage]) -> IProtoMessage:
        try:
            return super().decode(data, message_type)
        except DecodeError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"the request is no {message_type.__name__}: {error}") from error


class _Server(Server):
    def __init__(self, services: Collection[IServable], longest_message: int) -> None:
        windows = Configuration(http2_connection_window_size=longest_message, http2_stream_window_size=longest_message)
        super().__init__(services, codec=_Codec(), config=windows)
        self._connections: set[asyncio.BaseTransport] = set()

    def close(self) -> None:
        super().close()
        # grpclib cuts none, and from Python 3.12 on waits for all.
        for transport in tuple(self._connections):
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

    def _protocol_factory(self) -> H2Protocol:
        return _Protocol(super()._protocol_factory(), self._connections)


class _Protocol(H2Protocol):
    def __init__(self, plain: H2Protocol, connections: set[asyncio.BaseTransport]) -> None:
        super().__init__(plain.handler, plain.config, plain.h2_config)
        self._connections = connections
        self._context = copy_context()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connections.add(transport)
        self._context.run(_TRANSPORT.set, transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        # Calls are started from here, as tasks that inherit this context: so they know their connection.
        self._context.run(super().data_received, data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.discard(self._transport)
        super().connection_lost(exc)
