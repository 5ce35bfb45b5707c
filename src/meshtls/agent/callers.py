"""A gRPC server on a Unix socket whose handlers know who calls.

grpclib tells a handler the peer's address, which for a Unix socket is empty. The socket itself is at hand when a
connection is made; what is learnt from it there goes with every call of that connection, in a context variable.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import DecodeError
from grpclib import GRPCError, Status
from grpclib.config import Configuration
from grpclib.encoding.proto import ProtoCodec
from grpclib.protocol import H2Protocol
from grpclib.server import Server

from meshtls.agent.attest.attestor import Caller

if TYPE_CHECKING:
    from grpclib._typing import IProtoMessage, IServable

__all__ = ["current_caller", "serve_grpc"]

M = TypeVar("M", bound="IProtoMessage")
_CALLER: ContextVar[Caller] = ContextVar("caller")
# Requests are short. A message longer than this never arrives, and so never takes room.
_LONGEST_MESSAGE = 2**18


def current_caller() -> Caller:
    """Who called the method that runs here. Raises LookupError outside of one."""
    return _CALLER.get()


@asynccontextmanager
async def serve_grpc(services: Collection[IServable], listener: socket.socket) -> AsyncIterator[None]:
    """Answer on ``listener``, a Unix socket that listens, while the body runs; then every connection is cut."""
    server = _Server(services)
    await server.start(sock=listener)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


class _Codec(ProtoCodec):
    def decode(self, data: bytes, message_type: type[IProtoMessage]) -> IProtoMessage:
        try:
            return super().decode(data, message_type)
        except DecodeError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"the request is no {message_type.__name__}: {error}") from error


class _Server(Server):
    def __init__(self, services: Collection[IServable]) -> None:
        windows = Configuration(
            http2_connection_window_size=_LONGEST_MESSAGE, http2_stream_window_size=_LONGEST_MESSAGE
        )
        super().__init__(services, codec=_Codec(), config=windows)
        self._connections: set[asyncio.BaseTransport] = set()

    def close(self) -> None:
        super().close()
        # grpclib cuts none, and from Python 3.12 on waits for all.
        for transport in tuple(self._connections):
            transport.close()

    def _protocol_factory(self) -> H2Protocol:
        plain = super()._protocol_factory()
        return _Protocol(plain, self._connections)


class _Protocol(H2Protocol):
    def __init__(self, plain: H2Protocol, connections: set[asyncio.BaseTransport]) -> None:
        super().__init__(plain.handler, plain.config, plain.h2_config)
        self._connections = connections
        self._context = copy_context()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connections.add(transport)
        self._caller = Caller.of(transport.get_extra_info("socket"))
        self._context.run(_CALLER.set, self._caller)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        # Calls are started from here, as tasks that inherit this context.
        self._context.run(super().data_received, data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._caller.close()
        self._connections.discard(self._transport)
        super().connection_lost(exc)
