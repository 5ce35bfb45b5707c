"""A gRPC server on one listening socket, with limits for each caller and deadlines for each connection."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from grpclib import GRPCError, Status
from grpclib.const import Handler
from grpclib.encoding.proto import ProtoCodec

from meshtls.counted_log import CountedLog
from meshtls.logs import logger
from meshtls.rpc.acceptor import Acceptor
from meshtls.rpc.admission import Admission, address_caller
from meshtls.rpc.connection import Connection, Enter, Intercept, Service
from meshtls.rpc.limits import ListenerLimits
from meshtls.rpc.peer_credentials import credentials_of
from meshtls.rpc.shedding import Refusal, Refusals
from meshtls.rpc.turns import Turns
from meshtls.wire.http2.frames import ErrorCode, Kind, frame, goaway_frame

if TYPE_CHECKING:
    from grpclib._typing import IProtoMessage, IServable

__all__ = ["Listening", "SetLimits", "serve_grpc"]

SetLimits = Callable[[ListenerLimits], None]

_BUFFER = 1 << 16
_EMPTY_SETTINGS = frame(Kind.SETTINGS, 0, 0, b"")
_TICK = 1.0
_TICKS = 4

log = logger("meshtls.rpc")


def _nobody(transport: asyncio.BaseTransport) -> str | None:
    return None


def _enter(transport: asyncio.BaseTransport) -> Callable[[], None]:
    return lambda: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A listener's name and limits. ``identify`` returns the name of a caller that TLS has authenticated, or None.

    ``turns`` and ``refusals`` may be shared by the listeners of a process.
    """

    name: str
    limits: ListenerLimits
    turns: Turns = field(default_factory=Turns)
    refusals: Refusals = field(default_factory=Refusals)
    identify: Callable[[asyncio.BaseTransport], str | None] = _nobody


@asynccontextmanager
async def serve_grpc(
    services: Collection[IServable],
    listener: socket.socket,
    listening: Listening,
    *,
    enter: Enter = _enter,
    intercept: Intercept | None = None,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[SetLimits]:
    """Serve on ``listener``, which is listening already, while the body runs, then abort every connection.

    Yields a function that sets new limits.
    """
    server = _Server(services, listener, listening, enter, intercept, context)
    server.start()
    try:
        yield server.set_limits
    finally:
        await server.close()


class _Codec(ProtoCodec):
    def decode(self, data: bytes, message_type: type[IProtoMessage]) -> IProtoMessage:
        try:
            return super().decode(data, message_type)
        except DecodeError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, f"the request is no {message_type.__name__}: {error}") from error


class _Server:
    def __init__(
        self,
        services: Collection[IServable],
        listener: socket.socket,
        listening: Listening,
        enter: Enter,
        intercept: Intercept | None,
        context: ssl.SSLContext | None,
    ) -> None:
        mapping: dict[str, Handler] = {}
        for service in services:
            mapping |= service.__mapping__()
        self._listener = listener
        self._local = listener.family == socket.AF_UNIX
        self._listening = listening
        self._log = CountedLog(log)
        self._connections: set[Connection] = set()
        self._handovers: set[asyncio.Task[None]] = set()
        self._service = Service(
            mapping=mapping,
            codec=_Codec(),
            intercept=intercept,
            admission=Admission(listening.limits),
            turns=listening.turns,
            enter=enter,
            identify=listening.identify,
            proven=self._local,
            context=context,
            refused=self._refused,
            received=memoryview(bytearray(_BUFFER)),
            now=time.monotonic,
        )

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._acceptor = Acceptor(self._listener, self._take, self._stuck)
        self._set_pace(self._listening.limits)
        self._timer = self._loop.call_later(self._pace, self._tick)

    def set_limits(self, limits: ListenerLimits) -> None:
        self._service.admission.set_limits(limits, self._service.now())
        self._set_pace(limits)

    def _set_pace(self, limits: ListenerLimits) -> None:
        times = (limits.handshake_timeout, limits.request_timeout, limits.write_timeout, limits.idle_timeout)
        self._pace = min(_TICK, min(times) / _TICKS)

    async def close(self) -> None:
        self._acceptor.close()
        self._timer.cancel()
        for connection in list(self._connections):
            connection.abort()
        for handover in self._handovers:
            handover.cancel()
        ending = {task for connection in self._connections for task in connection.tasks} | self._handovers
        if ending:
            await asyncio.wait(ending)
        self._log.flush()

    def _take(self, sock: socket.socket, address: Any) -> bool:
        connection = Connection(self._service)
        try:
            caller = f"uid {credentials_of(sock).uid}" if self._local else address_caller(address[0])
        except OSError:
            sock.close()  # the peer has closed it already
            return False
        refusal = self._service.admission.admit(caller, connection, self._service.now())
        if refusal is not None:
            self._refused(refusal, caller, "")
            self._turn_away(sock, refusal)
            return False
        self._connections.add(connection)
        task = self._loop.create_task(self._hand_over(connection, sock))
        self._handovers.add(task)
        task.add_done_callback(self._handovers.discard)
        return True

    def _turn_away(self, sock: socket.socket, refusal: Refusal) -> None:
        """Send a local caller the reason. For remote callers that would take a TLS handshake."""
        if self._local:
            with contextlib.suppress(OSError):  # the peer has closed it already
                sock.send(_EMPTY_SETTINGS + goaway_frame(ErrorCode.ENHANCE_YOUR_CALM, 0, refusal.value))
        sock.close()

    async def _hand_over(self, connection: Connection, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        except OSError:
            connection.abort()
            sock.close()

    def _stuck(self, error: OSError) -> None:
        self._refused(Refusal.RESOURCES, "the machine", errno.errorcode.get(error.errno or 0, str(error)))

    def _refused(self, refusal: Refusal, caller: str, detail: str) -> None:
        self._listening.refusals.count(self._listening.name, refusal)
        words = f"{self._listening.name}: {caller}: {refusal.value}{f' ({detail})' if detail else ''}"
        self._log.warning(refusal, words)

    def _tick(self) -> None:
        now = self._service.now()
        for connection in list(self._connections):
            connection.tick(now)
        self._connections = {one for one in self._connections if not one.over}
        self._log.flush()
        self._timer = self._loop.call_later(self._pace, self._tick)
