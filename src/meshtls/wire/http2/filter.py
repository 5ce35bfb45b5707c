"""HTTP/2 between one client and one app: every request is judged before a byte of it goes on. Sans-IO. Pure.

The two sides are connections of their own, each with its own table, windows and numbers of streams. A head is read
strictly and written anew; bodies pass through flows (``flow``). What ends a stream at one side ends it at the other
with the same code, and what ends the app's connection drains the client's, which then comes back with a new one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from meshtls.wire.http import Forward, HttpLimits, Judge, OnUnjudged, Refuse, Ruling, UnjudgedRequest
from meshtls.wire.http2.downstream import Downstream
from meshtls.wire.http2.exchange import Exchange, Phase, Turn
from meshtls.wire.http2.flow import FULL, Flow
from meshtls.wire.http2.frames import ErrorCode, ProtocolError, check_flood
from meshtls.wire.http2.requests import RequestHead, forward_block
from meshtls.wire.http2.responses import FIRST_FINAL, ResponseHead, refusal_block
from meshtls.wire.http2.side import HttpStream
from meshtls.wire.http2.states import Expects
from meshtls.wire.http2.upstream import Upstream

__all__ = ["Http2Filter"]

#: Bytes that wait to be written at one side, from which on neither is read.
_MAX_UNSENT = 1 << 19
#: Requests that a client may take back before their response, beyond as many as were answered.
_MAX_TAKEN_BACK = 500
_UNREACHABLE = Refuse(503, "the app can't be reached\n")
_LOST = Refuse(503, "the app ended the connection before its response\n")
_NO_HTTP2 = Refuse(
    502,
    "the app did not answer with HTTP/2, which requests over HTTP/2 need: let it accept HTTP/2 without TLS"
    " (prior knowledge, h2c), or send the requests over HTTP/1.1\n",
)
_BAD_RESPONSE = Refuse(502, "the app's response is malformed\n")
_NO_PROTOCOL = Refuse(501, "the app takes no extended CONNECT\n")
_UNWRITABLE = Refuse(500, "the request can't be written for the app\n")
_NO_CONTENT, _FIRST_REDIRECT, _NOT_MODIFIED = 204, 300, 304
# Members that each request needs: reading one from its enum takes longer than a call (until Python 3.12).
_JUDGING, _SENT = Phase.JUDGING, Phase.SENT
_ALLOWED, _OPENED, _RESPONDED = Turn.ALLOWED, Turn.OPENED, Turn.RESPONDED
#: Bytes of one receive up to which they are copied at once: a frame is then cut out as bytes, and not as a view, whose
#: object costs more than copying so few.
_FEW = 1 << 14


class Http2Filter:
    """An HttpFilter. After what ``for_app`` or ``for_client`` gave is written, call it again, until it gives nothing.

    An extended CONNECT (RFC 8441) is judged as the GET with Upgrade that it stands for, and refused with 501 if the app
    does not take it.
    """

    def __init__(
        self,
        judge: Judge,
        on_change: Callable[[], None],
        limits: HttpLimits | None = None,
        on_unjudged: OnUnjudged | None = None,
    ) -> None:
        self._judge = judge
        self._on_change = on_change
        self._on_unjudged = on_unjudged
        self._limits = limits or HttpLimits()
        self._client = Downstream(_FromClient(self), self._limits)
        self._app = Upstream(_FromApp(self), self._limits)
        self.queued_for_client, self.queued_for_app = self._client.outgoing, self._app.outgoing
        #: Allowed requests for which the app's connection has no room yet.
        self._waiting: deque[Exchange] = deque()
        self._taken_back = self._answered = 0
        self._inside = False
        self.wants_app = False
        self.reads_client = self.reads_app = True
        self.app_finished = self.client_finished = False
        self.app_fault = ""
        self.unwritable = ""
        #: The app is connected.
        self._app_begun = False

    # -- the caller's side --

    def from_client(self, data: bytes | memoryview) -> None:
        if self.client_finished:
            return
        self._inside = True
        try:
            self._client.feed(bytes(data) if len(data) <= _FEW else memoryview(data))
        except ProtocolError as error:
            self._unjudged(UnjudgedRequest("", "", "", 0, f"{error.code.name}: {error}"))
            self._lose_client()
        finally:
            self._inside = False
        self._settle()

    def from_app(self, data: bytes | memoryview) -> None:
        if self.app_finished:
            return
        self._inside = True
        try:
            self._app.feed(bytes(data) if len(data) <= _FEW else memoryview(data))
        except ProtocolError:
            self._lose_app(self._fault_or(_BAD_RESPONSE))
        finally:
            self._inside = False
        self._settle()

    def client_ended(self) -> None:
        """The client's clean end: what it still had open is cancelled."""
        if not self.client_finished:
            self._lose_client()

    def app_ended(self) -> None:
        """The app's clean end: requests without a response get 503, unfinished responses are reset."""
        if not self.app_finished:
            self._lose_app(self._fault_or(_LOST))
            self._settle()

    def app_broke(self) -> bool:
        if not self.app_finished and not self._client.streams:
            return False
        self.app_ended()
        return True

    def app_failed(self) -> None:
        """The app can't be reached: waiting requests are answered with 503, and the client's connection is drained."""
        if not self.app_finished:
            self._lose_app(_UNREACHABLE)
            self._settle()

    def for_app(self) -> bytes:
        """Take what is to be written to the app."""
        side = self._app
        if not self.wants_app:
            return b""
        if not self._app_begun:
            self._app_begun = True
            self._open_waiting()
        if not side.outgoing:
            return b""
        data = bytes(side.outgoing)
        side.outgoing.clear()
        self._after_taking(side)
        return data

    def for_client(self) -> bytes:
        """Take what is to be written to the client."""
        side = self._client
        if not side.outgoing:
            return b""
        data = bytes(side.outgoing)
        side.outgoing.clear()
        self._after_taking(side)
        return data

    def _after_taking(self, side: Downstream | Upstream) -> None:
        """Refill it; and settle, if there is anything that waited for room."""
        if side.turns:
            side.advance()
        if self._waiting or not self.reads_client or not self.reads_app or self._client.leaving:
            self._settle()

    def _settle(self) -> None:
        client, app = self._client, self._app
        if self._waiting and (self._app_begun or self.app_finished):
            self._open_waiting()
        if app.leaving and not self.app_finished:
            client.drain()
        if client.leaving and not client.streams and not self.client_finished:
            self._finish()
        reads = len(client.outgoing) < _MAX_UNSENT and len(app.outgoing) < _MAX_UNSENT
        self.reads_client = reads and not self.client_finished
        self.reads_app = reads and not self.app_finished

    def _finish(self) -> None:
        """The client is served: end both connections."""
        self.client_finished = True
        if not self.app_finished:
            self._app.drain()
            self.app_finished = True

    # -- rulings --

    def _requested(self, stream: HttpStream, head: RequestHead, ended: bool) -> None:
        flow = None
        if not ended:
            flow = stream.feeds = Flow(self._client, stream, head.length)
        exchange = stream.exchange = Exchange(stream, head, flow, head.connects)
        if head.refusal is not None:
            request, refusal = head.request, head.refusal
            self._unjudged(
                UnjudgedRequest.of(request.method, request.host, request.path, refusal.status, refusal.text.rstrip())
            )
            self._refuse(exchange, refusal)
        else:
            self._ask(exchange)

    def _unjudged(self, request: UnjudgedRequest) -> None:
        if self._on_unjudged is not None:
            self._on_unjudged(request)

    def _ruled(self, exchange: Exchange, ruling: Ruling) -> None:
        if exchange.cancel is not None:
            exchange.cancel = None
        if exchange.phase is not _JUDGING:
            # It was reset meanwhile, or had its ruling.
            if isinstance(ruling, Forward) and ruling is not exchange.forward and ruling.answered is not None:
                ruling.answered(0)
            return
        if isinstance(ruling, Forward):
            exchange.forward = ruling
            exchange.step(_ALLOWED)
            self.wants_app = True
            if self._waiting or not self._open(exchange, ruling):
                self._waiting.append(exchange)
        else:
            self._refuse(exchange, ruling)
        if not self._inside:
            self._settle()
            self._on_change()

    def _open_waiting(self) -> None:
        before, self._inside = self._inside, True
        try:
            waiting, self._waiting = self._waiting, deque()
            for exchange in waiting:
                forward = exchange.forward
                if exchange.phase is not Phase.WAITING or forward is None:
                    continue
                if forward.stands is not None and not forward.stands():
                    self._judge_again(exchange)
                elif not self._open(exchange, forward):
                    self._waiting.append(exchange)
        finally:
            self._inside = before

    def _judge_again(self, exchange: Exchange) -> None:
        exchange.step(Turn.OUTDATED)
        exchange.forward = None
        self._ask(exchange)

    def _ask(self, exchange: Exchange) -> None:
        cancel = self._judge(exchange.head.request, partial(self._ruled, exchange))
        if cancel is not None:
            exchange.cancel = cancel

    def _open(self, exchange: Exchange, forward: Forward) -> bool:
        """Send the head to the app, or refuse it; False if it has to wait."""
        app, head = self._app, exchange.head
        if self.app_finished:
            self._refuse(exchange, _UNREACHABLE)
            return True
        if app.leaving:
            self._reset_client(exchange, ErrorCode.REFUSED_STREAM)
            return True
        if head.protocol and app.expects is not Expects.SETTINGS and not app.peer.connect_protocol:
            self._refuse(exchange, _NO_PROTOCOL)
            return True
        full = len(app.outgoing) >= FULL
        if not self._app_begun or full or not app.can_open or (head.protocol and not app.peer.connect_protocol):
            return False
        try:
            block = forward_block(head, forward.request, app.writer)
        except ValueError:
            self.unwritable = _UNWRITABLE.text.rstrip()
            self._refuse(exchange, _UNWRITABLE)
            self.unwritable = ""
            return True
        flow = exchange.request
        stream = exchange.app = app.open(block, flow is None)
        stream.exchange = exchange
        exchange.step(_OPENED)
        if flow is not None:
            flow.start(app, stream)
        return True

    def _refuse(self, exchange: Exchange, ruling: Refuse) -> None:
        """Answer in the app's place."""
        exchange.stop(self._limits.dropped_bytes, ruling.status)
        self._reset_app(exchange, ErrorCode.CANCEL)
        client, stream, head = self._client, exchange.client, exchange.head
        if stream.number not in client.streams:
            return
        body = ruling.text.encode()
        try:
            block = refusal_block(ruling, body, client.writer, grpc=head.grpc)
        except ValueError:
            block = refusal_block(Refuse(ruling.status, ruling.text), body, client.writer, grpc=head.grpc)
        if head.grpc or head.request.method == "HEAD" or not body:
            client.send_head(stream, block, True)
            return
        client.send_head(stream, block, False)
        flow = exchange.response = Flow(None, None, None)
        flow.backlog += body
        flow.ended = b""
        flow.start(client, stream)

    # -- responses --

    def _responded(self, stream: HttpStream, head: ResponseHead, ended: bool) -> None:
        exchange, client = stream.exchange, self._client
        forward = exchange.forward
        if exchange.phase is not _SENT or forward is None:
            return
        if head.status < FIRST_FINAL:
            client.send_head(exchange.client, head.block, False)
            return
        exchange.step(_RESPONDED)
        self._answered += 1
        if exchange.connects and head.status >= _FIRST_REDIRECT:
            exchange.connects = False
        if forward.answered is not None:
            tunnel = forward.answered(head.status)
            if tunnel is not None:
                tunnel.is_open = exchange.is_open
        block = head.block
        if forward.added:
            block += client.writer.block((), forward.added)
        client.send_head(exchange.client, block, ended)
        if not ended:
            bodiless = exchange.head.request.method == "HEAD" or head.status in (_NO_CONTENT, _NOT_MODIFIED)
            length = 0 if bodiless else head.length
            # It has nothing to send yet: started as it is made.
            exchange.response = stream.feeds = exchange.client.fed = Flow(
                self._app, stream, length, client, exchange.client
            )

    # -- ends --

    def _client_broke(self, stream: HttpStream, code: ErrorCode, by_peer: bool) -> None:
        """The client's stream is gone."""
        exchange = stream.exchange
        unanswered = exchange.phase < Phase.ANSWERED
        exchange.stop()
        self._reset_app(exchange, code if by_peer and code else ErrorCode.CANCEL)
        if unanswered:
            self._taken_back += 1
            few = self._taken_back <= _MAX_TAKEN_BACK + self._answered
            check_flood(few, "the client takes back more requests than it has answered")

    def _app_broke(self, stream: HttpStream, code: ErrorCode, by_peer: bool) -> None:
        """The app's stream is gone."""
        exchange = stream.exchange
        if exchange.phase is Phase.OVER:
            return
        if exchange.phase is Phase.ANSWERED and by_peer and not stream.receives:
            # The response is complete, and the app wants no more of the request (RFC 9113, section 8.1).
            if exchange.request is not None:
                exchange.request.drop(self._limits.dropped_bytes)
        elif by_peer:
            self._reset_client(exchange, code or ErrorCode.INTERNAL_ERROR)
        elif exchange.phase is Phase.SENT:
            self._refuse(exchange, _BAD_RESPONSE)
        else:
            self._reset_client(exchange, ErrorCode.INTERNAL_ERROR)

    def _reset_client(self, exchange: Exchange, code: ErrorCode) -> None:
        exchange.stop()
        self._client.reset(exchange.client, code)

    def _reset_app(self, exchange: Exchange, code: ErrorCode) -> None:
        if exchange.app is not None and not self.app_finished:
            self._app.reset(exchange.app, code)

    def _lose_client(self) -> None:
        for stream in list(self._client.streams.values()):
            stream.exchange.stop()
            self._reset_app(stream.exchange, ErrorCode.CANCEL)
        self._client.streams.clear()
        self._waiting.clear()
        self._finish()
        self._settle()

    def _fault_or(self, refusal: Refuse) -> Refuse:
        """This refusal, unless the app has not even begun to speak HTTP/2."""
        return _NO_HTTP2 if self._app.expects is Expects.SETTINGS else refusal

    def _lose_app(self, refusal: Refuse) -> None:
        """Nothing more comes from the app. What needs it is refused, and the client is asked to leave."""
        self.app_finished = True
        self.app_fault = refusal.text.rstrip()
        self._app.streams.clear()
        for stream in list(self._client.streams.values()):
            exchange = stream.exchange
            if exchange.phase in (Phase.WAITING, Phase.SENT):
                self._refuse(exchange, refusal)
            elif exchange.phase is Phase.ANSWERED and exchange.app is not None and exchange.app.receives:
                self._reset_client(exchange, ErrorCode.INTERNAL_ERROR)
            elif exchange.phase is Phase.ANSWERED and exchange.request is not None:
                exchange.request.drop(self._limits.dropped_bytes)
        self._client.drain()

    def __repr__(self) -> str:
        return f"<Http2Filter client {self._client!r}, app {self._app!r}, {len(self._waiting)} waiting>"


class _FromSide:
    """What both sides tell their filter."""

    __slots__ = ("_filter",)

    def __init__(self, owner: Http2Filter) -> None:
        self._filter = owner

    def received(self, stream: HttpStream, data: memoryview | bytes, ended: bool) -> None:
        flow, closed = stream.feeds, ended and not stream.sends
        if flow is not None:
            try:
                flow.push(data, ended)
            except ProtocolError as error:
                self.broken(stream, error.code, False)
                raise
        if closed:
            stream.let_go()

    def trailers(self, stream: HttpStream, block: bytes) -> None:
        flow, closed = stream.feeds, not stream.sends
        if flow is not None:
            try:
                flow.end(block)
            except ProtocolError as error:
                self.broken(stream, error.code, False)
                raise
        if closed:
            stream.let_go()

    def broken(self, stream: HttpStream, code: ErrorCode, by_peer: bool) -> None:
        raise NotImplementedError


class _FromClient(_FromSide):
    __slots__ = ("requested",)

    def __init__(self, owner: Http2Filter) -> None:
        super().__init__(owner)
        self.requested = owner._requested

    def unread(self, beginning: tuple[str, str, str], error: ProtocolError) -> None:
        self._filter._unjudged(UnjudgedRequest.of(*beginning, 0, f"{error.code.name}: {error}"))

    def broken(self, stream: HttpStream, code: ErrorCode, by_peer: bool) -> None:
        self._filter._client_broke(stream, code, by_peer)

    def window_grew(self, stream: HttpStream | None) -> None:
        _grew(self._filter._client, stream)


class _FromApp(_FromSide):
    __slots__ = ()

    def responded(self, stream: HttpStream, head: ResponseHead, ended: bool) -> None:
        closed = ended and not stream.sends
        self._filter._responded(stream, head, ended)
        if closed:
            stream.let_go()

    def broken(self, stream: HttpStream, code: ErrorCode, by_peer: bool) -> None:
        self._filter._app_broke(stream, code, by_peer)

    def window_grew(self, stream: HttpStream | None) -> None:
        _grew(self._filter._app, stream)


def _grew(side: Downstream | Upstream, stream: HttpStream | None) -> None:
    flow = stream.fed if stream is not None else None
    if stream is None:
        side.advance_all()
    elif flow is not None and flow.backlog and not flow.queued:
        side.queue(flow)
