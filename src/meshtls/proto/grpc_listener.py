"""A gRPC server whose calls know the connection that they came by, and whose end cuts every connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.message import DecodeError
from grpclib import GRPCError, Status
from grpclib.config import Configuration
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import RecvRequest, listen
from grpclib.protocol import H2Protocol
from grpclib.server import Server

if TYPE_CHECKING:
    from grpclib._typing import IProtoMessage, IServable

__all__ = ["Admit", "Enter", "serve_grpc"]

#: Called with each new connection, in the context that all its calls will have; gives what to call when it has ended.
Enter = Callable[[asyncio.BaseTransport], Callable[[], None]]
#: Called before each method; a GRPCError that it raises is the answer.
Admit = Callable[[RecvRequest], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serve_grpc(
    services: Collection[IServable],
    listener: socket.socket,
    enter: Enter,
    *,
    longest_message: int,
    admit: Admit | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Answer on ``listener``, which listens, while the body runs; then every connection is cut.

    A message of more than ``longest_message`` bytes never arrives whole, and so never takes room.
    """
    server = _Server(services, enter, longest_message)
    if admit is not None:
        listen(server, RecvRequest, admit)
    await server.start(sock=listener, ssl=context)
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
    def __init__(self, services: Collection[IServable], enter: Enter, longest_message: int) -> None:
        windows = Configuration(http2_connection_window_size=longest_message, http2_stream_window_size=longest_message)
        super().__init__(services, codec=_Codec(), config=windows)
        self._enter = enter
        self._connections: set[asyncio.BaseTransport] = set()

    def close(self) -> None:
        super().close()
        # grpclib cuts none, and from Python 3.12 on waits for all.
        for transport in tuple(self._connections):
            # uvloop's are of no class of asyncio's.
            cast("asyncio.WriteTransport", transport).abort()

    def _protocol_factory(self) -> H2Protocol:
        return _Protocol(super()._protocol_factory(), self._enter, self._connections)


class _Protocol(H2Protocol):
    def __init__(self, plain: H2Protocol, enter: Enter, connections: set[asyncio.BaseTransport]) -> None:
        super().__init__(plain.handler, plain.config, plain.h2_config)
        self._enter = enter
        self._connections = connections
        self._context = copy_context()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._connections.add(transport)
        self._leave = self._context.run(self._enter, transport)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        # Calls are started from here, as tasks that inherit this context.
        self._context.run(super().data_received, data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._leave()
        self._connections.discard(self._transport)
        super().connection_lost(exc)
