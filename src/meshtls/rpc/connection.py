"""One connection of a gRPC listener: bytes pass the frame guard to h2, calls start, and each phase has a deadline.

grpclib runs the calls. Its server and protocol classes are not used: they have no bounds, forget to release a stream
whose call was reset before its task had begun, and end with a traceback on frames that they don't know.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Coroutine, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, cast

import grpclib.protocol
from grpclib import Status
from grpclib.config import Configuration
from grpclib.const import Handler
from grpclib.encoding.proto import ProtoCodec
from grpclib.events import RecvRequest, _DispatchServerEvents
from grpclib.metadata import encode_grpc_message
from grpclib.protocol import AbstractHandler, EventsProcessor
from grpclib.server import request_handler
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from meshtls.errors import MeshtlsError
from meshtls.rpc.admission import Admission, CallerBudgets
from meshtls.rpc.frame_guard import FloodError, FrameGuard
from meshtls.rpc.inbox import Inbox
from meshtls.rpc.request_head import refusal_of
from meshtls.rpc.shedding import Refusal
from meshtls.rpc.tls_link import TlsLink
from meshtls.rpc.turns import Turns
from meshtls.wire.http2.frames import ErrorCode, goaway_frame

__all__ = ["Connection", "Enter", "Intercept", "Service"]

#: Called with each new connection, in the context of all its calls; returns what to call when the connection ends.
Enter = Callable[[asyncio.BaseTransport], Callable[[], None]]

#: Called before each method with the transport of its connection. A GRPCError that it raises is the response.
Intercept = Callable[[asyncio.BaseTransport, RecvRequest], Coroutine[Any, Any, None]]

#: Frames of one connection that are handled in one turn; see ``frame_guard.CALL_COST``.
_STEP = 48
#: Reading pauses while this many bytes wait for their turn.
_MOST_WAITING = 1 << 16
_WRITE_BUFFER = 1 << 16
#: How long the peer has to read our GOAWAY.
_PARTING_SECONDS = 0.5
#: A connection's window before the first WINDOW_UPDATE (RFC 9113, section 6.9.2).
_FIRST_WINDOW = (1 << 16) - 1
_H2 = H2Configuration(client_side=False, header_encoding="ascii")


class State(Enum):
    """The phase of a connection."""

    HANDSHAKE = "TLS handshake"
    OPEN = "open"
    PARTING = "GOAWAY sent"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Service:
    """Shared by the connections of one listener.

    ``identify`` returns the name of a caller that its handshake has authenticated, None to leave the caller as it is.
    ``proven``: every caller of this listener is authenticated.
    """

    mapping: Mapping[str, Handler]
    codec: ProtoCodec
    intercept: Intercept | None
    admission: Admission
    turns: Turns
    enter: Enter
    identify: Callable[[asyncio.BaseTransport], str | None]
    proven: bool
    #: None for plaintext.
    context: ssl.SSLContext | None
    #: Counts and logs a refusal: its reason, the caller, and details where there are any.
    refused: Callable[[Refusal, str, str], None]
    received: memoryview
    now: Callable[[], float]


class Connection(asyncio.BufferedProtocol):
    """Created when a socket is accepted, and admitted before it is handed to the event loop."""

    caller: CallerBudgets

    def __init__(self, service: Service) -> None:
        self.state = State.HANDSHAKE
        self.proven = service.proven
        self.service = service
        self._since = service.now()
        self._made = False
        self._tls: TlsLink | None = None
        #: Received bytes that have not been handled yet; with TLS their plaintext is in ``_plain``.
        self._waiting, self._plain = bytearray(), bytearray()
        self._enqueued = self._reading_paused = False
        self._blocked_since: float | None = None
        self._idle_since = self._since
        self._context = copy_context()
        self._leave: Callable[[], None] | None = None
        self._transport: asyncio.Transport
        self.guard: FrameGuard
        self.http: _Http
        self._calls: _Calls | None = None
        self._events: _Events

    # -- for the listener --

    @property
    def busy(self) -> bool:
        return self._calls is not None and bool(self._calls.tasks)

    @property
    def over(self) -> bool:
        """Whether the connection is closed and all its calls have ended."""
        return self.state is State.CLOSED and not self.tasks

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        return {task for task, _ in self._calls.tasks.values()} if self._calls is not None else set()

    def note(self, refusal: Refusal, detail: str = "") -> None:
        """Count and log a refusal."""
        self.service.refused(refusal, self.caller.name, detail)

    def evict(self, refusal: Refusal) -> None:
        self.note(refusal)
        self.end(ErrorCode.ENHANCE_YOUR_CALM, refusal.value)

    def end(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: str = "") -> None:
        """Cancel the calls, send GOAWAY, and close soon. The slot is free at once."""
        if self.state is State.HANDSHAKE:
            self._shut_down()
        elif self.state is State.OPEN:
            with contextlib.suppress(ssl.SSLError):  # TLS is broken and can't send the alert
                self._transport.write(goaway_frame(code, self.guard.highest, reason))
            self._part()

    def abort(self) -> None:
        """Abort the connection now."""
        if self.state is State.HANDSHAKE:
            self._shut_down()
        elif self.state is not State.CLOSED:
            self._release()
            self._cancel_calls()
            self._transport.abort()

    def tick(self, now: float) -> None:
        """End the connection if a phase has exceeded its deadline."""
        limits = self.service.admission.limits
        if self.state is State.HANDSHAKE:
            if now - self._since > limits.handshake_timeout:
                self._late(Refusal.HANDSHAKE_TIMEOUT)
        elif self.state is State.OPEN:
            guard = self.guard
            unfinished = guard.unfinished_since
            if not guard.greeted and now - self._since > limits.handshake_timeout:
                self._late(Refusal.HANDSHAKE_TIMEOUT)
            elif unfinished is not None and not self._enqueued and now - unfinished > limits.request_timeout:
                self._late(Refusal.REQUEST_TIMEOUT)
            elif self._blocked_since is not None and now - self._blocked_since > limits.write_timeout:
                self._late(Refusal.WRITE_TIMEOUT)
                self._transport.abort()
            elif self._calls is not None and self._calls.tasks:
                self._idle_since = now
                self._calls.end_late(now)
            elif now - self._idle_since > limits.idle_timeout:
                # This is normal: no log line.
                self.end(ErrorCode.NO_ERROR, Refusal.IDLE_TIMEOUT.value)

    # -- for asyncio --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._made = True
        if self.state is not State.HANDSHAKE:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(_WRITE_BUFFER)
        if self.service.context is None:
            self._opened()
            return
        try:
            self._transport = self._tls = TlsLink(self._transport, self.service.context)
        except MeshtlsError as error:
            self._refuse(Refusal.TLS, str(error))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.service.received

    def buffer_updated(self, nbytes: int) -> None:
        if not self._takes_bytes():
            return
        self._waiting += self.service.received[:nbytes]
        if len(self._waiting) >= _MOST_WAITING:
            self._pause_reading()
        self._enqueue()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._blocked_since = self.service.now()
        if self.state is State.OPEN:
            self.http.pause_writing()

    def resume_writing(self) -> None:
        self._blocked_since = None
        if self.state is State.OPEN:
            self.http.resume_writing()
        self._enqueue()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.state = State.CLOSED
        self._release()
        self._cancel_calls()
        self._waiting.clear()

    # -- received bytes --

    def step(self) -> bool:
        """Handle some of the waiting bytes. Called by Turns."""
        # Stop reading from a peer that does not read: each of its PINGs would add to the unsent output.
        if self._blocked_since is None:
            try:
                self._advance()
            except FloodError as flood:
                self._refuse(flood.refusal, code=flood.code)
            except (H2Error, UnicodeDecodeError) as error:
                self._refuse(Refusal.PROTOCOL, type(error).__name__, code=ErrorCode.PROTOCOL_ERROR)
            except (ssl.SSLError, MeshtlsError) as error:
                self._refuse(Refusal.TLS, str(error))
            except BaseException:
                # A bug in our code: end this connection; the event loop reports the exception.
                self._transport.abort()
                raise
        if self._reading_paused and self._takes_bytes() and len(self._waiting) < _MOST_WAITING // 2:
            self._reading_paused = False
            self._transport.resume_reading()
        self._enqueued = self._takes_bytes() and self._blocked_since is None and bool(self._waiting or self._plain)
        return self._enqueued

    def _advance(self) -> None:
        if self.state is State.HANDSHAKE:
            if self._tls is not None and self._tls.handshake(self._take_waiting()):
                self._opened()
                # Data that followed the client's Finished is in the TLS object already.
                self._plain += self._tls.read(b"")
        elif self.state is State.OPEN:
            if self._tls is not None and not self._plain:
                self._plain += self._tls.read(self._take_waiting())
            self._handle(self._waiting if self._tls is None else self._plain)
            if self._tls is not None and self._tls.peer_closed:
                self.abort()

    def _take_waiting(self) -> bytes:
        data = bytes(self._waiting)
        self._waiting.clear()
        return data

    def _handle(self, plain: bytearray) -> None:
        # h2 buffers what is incomplete: at most one frame and one header block.
        taken = self.guard.scan(plain, _STEP, self.service.now())
        data = bytes(plain[:taken])
        del plain[:taken]
        if data:
            self._context.run(self._feed, data)

    def _opened(self) -> None:
        """Begin HTTP/2, after the TLS handshake if there is one."""
        service, now, transport = self.service, self.service.now(), self._transport
        try:
            self._leave = self._context.run(service.enter, transport)
        except OSError as error:
            self._refuse(Refusal.RESOURCES, str(error))
            return
        name = service.identify(transport)
        if name is not None and (refusal := service.admission.prove(self, name, now)) is not None:
            self._refuse(refusal)
            return
        self.state, self._since, self._idle_since = State.OPEN, now, now
        self.guard = FrameGuard(self.caller, service.admission.limits, now)
        self._begin()

    def _takes_bytes(self) -> bool:
        return self.state in (State.HANDSHAKE, State.OPEN)

    def _begin(self) -> None:
        limits = self.service.admission.limits
        http = _H2Connection(_H2)
        http.decoder.max_header_list_size = limits.header_bytes
        http.local_settings[SettingCodes.MAX_HEADER_LIST_SIZE] = limits.header_bytes
        http.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.streams_per_connection
        http.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = limits.window
        http.local_settings.acknowledge()
        http.initiate_connection()
        if limits.window > _FIRST_WINDOW:
            http.increment_flow_control_window(limits.window - _FIRST_WINDOW)
        self.http = _Http(http, self._transport, self)
        self.http.flush()
        self._calls = _Calls(self, self._transport)
        self._events = _Events(self._calls, self.http)

    def _feed(self, data: bytes) -> None:
        events = self.http.feed(data)
        self.http.flush()
        for event in events:
            self._events.process(event)
        self.http.flush()

    def _enqueue(self) -> None:
        if not self._enqueued and (self._waiting or self._plain):
            self._enqueued = True
            self.service.turns.enqueue(self, self.caller, proven=self.proven)

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    # -- closing --

    def _refuse(self, refusal: Refusal, detail: str = "", *, code: ErrorCode = ErrorCode.ENHANCE_YOUR_CALM) -> None:
        self.note(refusal, detail)
        if self.state is State.HANDSHAKE and self._made:
            # TLS has already sent its alert, if any.
            self._part()
        else:
            self.end(code, refusal.value)

    def _part(self) -> None:
        """Stop reading, and close after a moment for the peer to read our last frames."""
        self.state = State.PARTING
        self._release()
        self._cancel_calls()
        self._waiting.clear()
        self._plain.clear()
        self._pause_reading()
        asyncio.get_running_loop().call_later(_PARTING_SECONDS, self._transport.abort)

    def _late(self, refusal: Refusal) -> None:
        self.note(refusal)
        self.end(ErrorCode.ENHANCE_YOUR_CALM, refusal.value)

    def _shut_down(self) -> None:
        """End the connection before HTTP/2 has begun."""
        self.state = State.CLOSED
        self._release()
        if self._made:
            self._transport.abort()

    def _cancel_calls(self) -> None:
        if self._calls is not None:
            self._calls.close()

    def _release(self) -> None:
        self.service.admission.leave(self)
        if self._leave is not None:
            self._leave()
            self._leave = None

    def __repr__(self) -> str:
        return f"<Connection of {self.caller.name}: {self.state.value}>"


class _H2Connection(H2Connection):
    #: The number of closed streams whose state is kept. h2's default is 65,536, some 6 MB a connection.
    MAX_CLOSED_STREAMS = 1000


class _Http(grpclib.protocol.Connection):
    """grpclib's connection, which reports sent frames to the guard and gives its streams a bounded inbox."""

    def __init__(self, http: H2Connection, transport: asyncio.Transport, owner: Connection) -> None:
        super().__init__(http, transport, config=_CONFIGURATION)
        self.h2 = http
        self.owner = owner

    def create_stream(self, *, stream_id: int | None = None, wrapper: Any = None) -> grpclib.protocol.Stream:
        return _Stream(self, self._connection, self._transport, stream_id=stream_id, wrapper=wrapper)

    def data_send_process(self) -> None:
        super().data_send_process()
        self.owner.guard.sent_data()


_CONFIGURATION = Configuration().__for_server__()


class _Stream(grpclib.protocol.Stream):
    def init_stream(self, stream_id: int, connection: grpclib.protocol.Connection) -> None:
        super().init_stream(stream_id, connection)
        owner = cast("_Http", connection).owner
        inbox = Inbox(owner.service.admission, owner.caller, partial(connection.ack, stream_id), owner.note)
        self.buffer = cast("grpclib.protocol.Buffer", inbox)

    async def send_headers(self, headers: list[tuple[str, str]], end_stream: bool = False) -> None:
        await super().send_headers(headers, end_stream)
        if self.id is not None:
            cast("_Http", self.connection).owner.guard.answered(self.id)


class _Events(EventsProcessor):
    def register(self, stream: grpclib.protocol.Stream) -> Callable[[], None]:
        self.streams[_id(stream)] = stream
        return partial(self._ended, stream)

    def process(self, event: Event) -> None:
        # Frames of unknown types are ignored (RFC 9113, section 4.1).
        if event.__class__ in getattr(self, "processors", ()):
            super().process(event)

    def process_connection_terminated(self, event: Any) -> None:
        cast("_Http", self.connection).owner.end()

    def _ended(self, stream: grpclib.protocol.Stream) -> None:
        number = _id(stream)
        self.streams.pop(number, None)
        left = stream.buffer.unacked_size()
        connection = cast("_Http", self.connection)
        connection.owner.guard.ended(number)
        if connection.owner.state is State.OPEN and not connection.is_closing():
            connection.ack(number, left)


class _Calls(AbstractHandler):
    """The tasks of a connection's calls."""

    def __init__(self, owner: Connection, transport: asyncio.Transport) -> None:
        self._owner = owner
        #: Each call's task and start time.
        self.tasks: dict[grpclib.protocol.Stream, tuple[asyncio.Task[None], float]] = {}
        self._dispatch = _DispatchServerEvents()
        if owner.service.intercept is not None:
            self._dispatch.add_listener(RecvRequest, partial(owner.service.intercept, transport))

    def accept(self, stream: grpclib.protocol.Stream, headers: Any, release_stream: Callable[[], None]) -> None:
        owner, service = self._owner, self._owner.service
        caller, limits = owner.caller, service.admission.limits
        refusal = refusal_of(headers)
        if caller.streams >= limits.streams_per_caller:
            owner.note(Refusal.STREAMS_PER_CALLER)
            words = f"{caller.name} has {caller.streams} calls open, wanted at most {limits.streams_per_caller}"
            refusal = (Status.RESOURCE_EXHAUSTED, f"{words} (limits.streams_per_caller)")
        if refusal is not None:
            self._answer(stream, *refusal)
            release_stream()
            return
        work = request_handler(
            cast("dict[str, Handler]", service.mapping),
            stream,
            headers,
            service.codec,
            None,
            self._dispatch,
            _nothing,
        )
        caller.streams += 1
        task = asyncio.get_running_loop().create_task(work)
        self.tasks[stream] = task, service.now()
        # Also called for a task that is cancelled before it has started.
        task.add_done_callback(partial(self._done, stream, caller, release_stream))

    def cancel(self, stream: grpclib.protocol.Stream) -> None:
        found = self.tasks.get(stream)
        if found is not None:
            found[0].cancel()

    def close(self) -> None:
        for task, _ in self.tasks.values():
            task.cancel()

    def end_late(self, now: float) -> None:
        """Reset the calls that have exceeded their deadline."""
        longest = self._owner.service.admission.limits.call_timeout
        if longest is None:
            return
        for stream, (task, begun) in list(self.tasks.items()):
            if now - begun > longest and not task.done():
                if stream.closable:
                    stream.reset_nowait(ErrorCodes.CANCEL)
                task.cancel()

    def _answer(self, stream: grpclib.protocol.Stream, status: Status, message: str) -> None:
        """Send a Trailers-Only response and refuse the rest of the request, unless the caller has reset the stream."""
        if not stream.closable:
            return
        http = self._owner.http.h2
        headers = [
            (":status", "200"),
            ("content-type", "application/grpc+proto"),
            ("grpc-status", str(status.value)),
            ("grpc-message", encode_grpc_message(message)),
        ]
        http.send_headers(_id(stream), headers, end_stream=True)
        if stream.closable:
            http.reset_stream(_id(stream), ErrorCodes.NO_ERROR)

    def _done(
        self,
        stream: grpclib.protocol.Stream,
        caller: CallerBudgets,
        release: Callable[[], None],
        task: asyncio.Task[None],
    ) -> None:
        caller.streams -= 1
        del self.tasks[stream]
        release()
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler({"message": "a call failed", "exception": error, "task": task})


def _nothing() -> None:
    """grpclib's callback to release a stream: here the end of its task does that."""


def _id(stream: grpclib.protocol.Stream) -> int:
    if stream.id is None:
        raise RuntimeError("wanted a stream with its number, got one without")
    return stream.id
