"""HTTP/1.1 between one client and one app: each request is judged, then written anew for the app. Pure.

What the app gets holds no byte of a request's head or of a chunk's frame as the client sent it, so the two cannot read
it differently. Requests go on, and answers come back, in the order of the requests. An answer passes as the app sent
it; it is read only to know where it ends, since the next may be ours.

A client that breaks a rule is answered in its turn, and the connection ends. If the rule is broken in a body whose
beginning the app has already, the app sees a request that ends in the middle, never a whole one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum

from meshtls.memo import Memo
from meshtls.wire.http import Forward, HttpLimits, HttpRequest, Judge, OnUnjudged, Refuse, UnjudgedRequest
from meshtls.wire.http1.chunked import ChunkedBody
from meshtls.wire.http1.exchange import Exchange, Stage
from meshtls.wire.http1.fields import END, Field, MessageError, check_partial, trailers_of
from meshtls.wire.http1.request import CHUNKED, LINE_BEYOND_TARGET, RequestHead, beginning_of, request_of
from meshtls.wire.http1.response import TO_THE_END, TUNNEL, ResponseHead, response_of
from meshtls.wire.http1.writing import answer_bytes, field_lines, request_bytes, trailer_bytes

__all__ = ["Http1Filter"]

#: Untaken bytes for one side from which on the other is not read.
_HIGH_WATER = 1 << 18
#: Bytes that a chunked answer of the app may have beside its content, over all of its chunks.
_APP_EXTENSIONS, _APP_TRAILERS = 1 << 16, 1 << 16
#: Heads of each side that are remembered, and the longest of them in bytes.
_REMEMBERED, _LONGEST_REMEMBERED = 8, 1024


_LINE_END = len(END) // 2
_ANSWER_BEGINS = b"HTTP/1."
_UNREACHABLE = Refuse(503, "the app can't be reached\n")
_BAD_ANSWER = Refuse(502, "the app's answer is malformed\n")
_NO_ANSWER = Refuse(502, "the app ended the connection without an answer\n")
_NO_HTTP = Refuse(
    502,
    "the app did not answer with HTTP/1.1: let the listener's `app` be a port where it serves HTTP without TLS, or set"
    " `protocol: tcp`\n",
)


class Reads(IntEnum):
    """What comes next from the client.

    - HEAD: a request's head.
    - BODY: the rest of a body for the app.
    - DROPPED_BODY: the rest of a refused request's body.
    - RULING: nothing, until the ruling is there.
    - SWITCH: nothing, until it is known whether the connection becomes a tunnel.
    - TUNNEL: bytes for the app.
    - NOTHING: it said that its last request was the last, or it broke a rule. Bytes are dropped.
    """

    HEAD = 0
    BODY = 1
    DROPPED_BODY = 2
    RULING = 3
    SWITCH = 4
    TUNNEL = 5
    NOTHING = 6


_HEAD, _BODY, _DROPPED_BODY, _RULING = Reads.HEAD, Reads.BODY, Reads.DROPPED_BODY, Reads.RULING
_SWITCH, _TUNNEL, _NOTHING = Reads.SWITCH, Reads.TUNNEL, Reads.NOTHING
_JUDGED, _FORWARDED, _ANSWERING, _REFUSED = Stage.JUDGED, Stage.FORWARDED, Stage.ANSWERING, Stage.REFUSED


class Http1Filter:
    """An ``HttpFilter`` (see ``meshtls.wire.http``) for one connection.

    It never raises for what a client or an app sends. If ``judge`` raises, nothing is forwarded, and the caller has to
    end the connection.
    """

    def __init__(
        self,
        judge: Judge,
        on_change: Callable[[], None],
        limits: HttpLimits | None = None,
        on_unjudged: OnUnjudged | None = None,
    ) -> None:
        self.wants_app = False
        self.reads_client = True
        self.reads_app = False
        self.app_finished = False
        self.client_finished = False
        self.app_fault = ""
        self.unwritable = ""
        self._judge = judge
        self._on_change = on_change
        self._on_unjudged = on_unjudged
        self._limits = HttpLimits() if limits is None else limits
        self._queue: deque[Exchange] = deque()

        #: Whole heads that were read before; those of the app with what else decides about their meaning.
        self._client_heads: Memo[bytes, RequestHead] = Memo(_REMEMBERED)
        self._app_heads: Memo[tuple[bytes, str, bool, bool], ResponseHead] = Memo(_REMEMBERED)
        #: Fields that were read before: see ``read_field``.
        self._client_fields: dict[str, Field] = {}
        self._app_fields: dict[str, Field] = {}
        #: What comes next, and what of it came too early or is not complete.
        self._reads: Reads = _HEAD
        self._held = bytearray()
        #: Up to here there is no END in an unfinished head.
        self._scanned = 0
        self._skipped_line = False
        self._client_ended = False
        self._dropped = 0
        #: The request whose body is being read, its bytes that are missing, or its chunks.
        self._current: Exchange | None = None
        self._remaining = 0
        self._chunks: ChunkedBody | None = None

        self.queued_for_app: list[bytes] = []
        self._for_app_size = 0
        #: The app is connected. Until then the first allowed request waits.
        self._app_begun = False
        #: Where the current request begins in ``queued_for_app``; None if the app has its beginning already.
        self._begins_at: int | None = None
        self._was_wanted = False

        self.queued_for_client: list[bytes] = []
        self._for_client_size = 0
        self._app_held = bytearray()
        #: Of the answer that is passing: None before its head; and what of its body is missing.
        self._answer: ResponseHead | None = None
        self._answer_remaining = 0
        self._answer_chunks: ChunkedBody | None = None
        self._any_answered = False
        #: The app has sent what may become an answer.
        self._speaks_http = False
        self._running = False

    def __repr__(self) -> str:
        return f"<Http1Filter reads {self._reads.name}, {len(self._queue)} unanswered>"

    # -- what the caller takes --

    def for_app(self) -> bytes:
        if not self._app_begun and self.wants_app:
            self._begin_app()
        taken = self.queued_for_app
        if not taken:
            return b""
        self.queued_for_app = []
        self._begins_at = None
        if self._for_app_size >= _HIGH_WATER:
            self._for_app_size = 0
            self._settle()
        self._for_app_size = 0
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def for_client(self) -> bytes:
        taken = self.queued_for_client
        if not taken:
            return b""
        self.queued_for_client = []
        if self._for_client_size >= _HIGH_WATER:
            self._for_client_size = 0
            self._settle()
        self._for_client_size = 0
        return taken[0] if len(taken) == 1 else b"".join(taken)

    # -- from the client --

    def from_client(self, data: bytes | memoryview) -> None:
        self._run(bytes(data))
        self._settle()

    def client_ended(self) -> None:
        self._client_ended = True
        if self._reads is _TUNNEL:
            self.app_finished = True
        self._settle()

    def _run(self, data: bytes) -> None:
        """Read as far as possible. What is left is held."""
        if self._running:
            self._held += data
            return
        self._running = True
        try:
            if self._held:
                self._held += data
                if not self._can_go_on():
                    return
                data = bytes(self._held)
                self._held.clear()
            at = self._consume(data)
            if at < len(data):
                self._held += data[at:] if at else data
        finally:
            self._running = False

    def _can_go_on(self) -> bool:
        """Whether what is held is worth another look. It is not copied for each byte that arrives."""
        if self._reads is not _HEAD:
            return self._reads is not _RULING and self._reads is not _SWITCH
        if len(self._queue) >= self._limits.pipelined:
            return False
        if self._held.find(END, self._scanned) >= 0 or (not self._skipped_line and self._held.startswith(b"\r\n")):
            return True
        self._check_unfinished(self._held)
        return False

    def _consume(self, data: bytes) -> int:
        """Returns the place of the first byte that can't be used yet."""
        at, size = 0, len(data)
        while at < size:
            reads = self._reads
            if reads is _HEAD:
                if len(self._queue) >= self._limits.pipelined:
                    return at
                end = data.find(END, at)
                section = data[at:end]
                head = self._client_heads.get(section) if end >= 0 else None
                if head is not None:  # seen before, so it begins with no empty line
                    self._scanned, self._skipped_line = 0, False
                    self._take_head(head)
                    at = end + len(END)
                elif data.startswith(b"\r\n", at) and not self._skipped_line:
                    self._scanned, self._skipped_line = 0, True  # RFC 9112, section 2.2
                    at += 2
                elif end < 0:
                    self._check_unfinished(data[at:])
                    return size if self._reads is _NOTHING else at
                else:
                    self._scanned, self._skipped_line = 0, False
                    self._read_head(section)
                    at = end + len(END)
            elif reads is _BODY:
                at = self._take_body(data, at)
            elif reads is _DROPPED_BODY:
                at = self._drop_body(data, at)
            elif reads is _TUNNEL:
                self._put_app(data[at:] if at else data)
                return size
            elif reads is _NOTHING:
                self._dropped += size - at
                return size
            else:
                return at
        return at

    def _check_unfinished(self, section: bytes | bytearray) -> None:
        limits = self._limits
        longest = limits.uri_length + LINE_BEYOND_TARGET
        try:
            check_partial(section, limits.header_bytes, first_line=longest, start=self._scanned)
        except MessageError as error:
            self._break(error, section)
            return
        self._scanned = max(len(section) - len(END) + 1, 0)

    def _read_head(self, section: bytes) -> None:
        try:
            head = request_of(section, self._limits, self._client_fields)
        except MessageError as error:
            self._break(error, section)
            return
        if len(section) <= _LONGEST_REMEMBERED:
            self._client_heads.keep(section, head)
        self._take_head(head)

    def _take_head(self, head: RequestHead) -> None:
        exchange = Exchange(head, self._ruled, not head.persists)
        self._queue.append(exchange)
        self._reads = _RULING
        self._judge(head.request, exchange.rule)

    def _ruled(self, exchange: Exchange) -> None:
        """The ruling is there: within the call of the judge, or later."""
        ruling = exchange.ruling
        if self._reads is not _RULING or exchange is not self._queue[-1]:
            if isinstance(ruling, Forward) and ruling.answered is not None:
                ruling.answered(0)
            return
        if isinstance(ruling, Forward):
            if self._app_begun:
                self._forward(exchange, ruling)
            else:
                exchange.stage, exchange.answered = _FORWARDED, ruling.answered
                self.wants_app = True
        elif ruling is not None:
            self._refuse(exchange, ruling)
        if not self._running:
            self._run(b"")
            self._settle()
            self._on_change()

    def _begin_app(self) -> None:
        """The app is connected: the request that waited for it goes on, if its ruling still stands."""
        self._app_begun = True
        exchange = self._queue[-1] if self._queue else None
        ruling = exchange.ruling if exchange is not None else None
        if self._reads is not _RULING or exchange is None or not isinstance(ruling, Forward):
            return
        # Its body may still break a rule before a byte is taken, and then the app has got nothing.
        self.wants_app = False
        if ruling.stands is not None and not ruling.stands():
            exchange.stage, exchange.ruling, exchange.answered = _JUDGED, None, None
            self._judge(exchange.head.request, exchange.rule)
            return
        self._forward(exchange, ruling)
        self._run(b"")
        self._settle()

    def _forward(self, exchange: Exchange, ruling: Forward) -> None:
        head = exchange.head
        exchange.answered = ruling.answered
        if ruling.added:
            exchange.added = field_lines(ruling.added)
        try:
            data = request_bytes(head, ruling.request)
        except MessageError as error:
            self.unwritable = str(error)
            exchange.tell(error.status)
            self.unwritable = ""
            self._refuse(exchange, Refuse(error.status, f"{error}\n"))
            return
        exchange.stage = _FORWARDED
        self._begins_at, self._was_wanted = len(self.queued_for_app), self.wants_app
        self._put_app(data)
        self.wants_app = True
        if head.length:
            self._current = exchange
            if head.length == CHUNKED:
                exchange.sent_names = frozenset([name for name, _ in ruling.request.headers])
            self._await_body(_BODY, head.length)
        elif head.switches:
            self._reads = _SWITCH
        else:
            self._reads = _HEAD if head.persists else _NOTHING

    def _await_body(self, reads: Reads, length: int) -> None:
        self._reads = reads
        self._remaining = length
        limits = self._limits
        self._chunks = ChunkedBody(limits.extension_bytes, limits.trailer_bytes) if length == CHUNKED else None

    def _end_body(self, exchange: Exchange) -> None:
        self._current = self._chunks = None
        self._reads = _NOTHING if exchange.closes else _HEAD

    # -- a body for the app --

    def _take_body(self, data: bytes, at: int) -> int:
        exchange = self._current
        if exchange is None:
            raise AssertionError("a body has a request")
        if self._chunks is not None:
            return self._take_chunks(exchange, self._chunks, data, at)
        piece = data[at : at + self._remaining]
        self._put_app(piece)
        self._remaining -= len(piece)
        if not self._remaining:
            self._end_body(exchange)
        return at + len(piece)

    def _take_chunks(self, exchange: Exchange, chunks: ChunkedBody, data: bytes, at: int) -> int:
        """What arrived together is one chunk for the app."""
        pieces: list[bytes] = []
        limits = self._limits
        trailers: list[tuple[str, str]] = []
        try:
            at = chunks.feed(data, at, pieces)
            if chunks.done:
                most, names = limits.header_count, exchange.sent_names
                trailers = trailers_of(chunks.trailers, names, underscores=limits.underscore_names, most=most)
        except MessageError as error:
            self._break_body(error)
            return len(data)
        size = sum(map(len, pieces))
        if size:
            self._put_app(b"%x\r\n%b\r\n" % (size, b"".join(pieces)))
        if chunks.done:
            self._put_app(trailer_bytes(trailers if limits.pass_trailers else []))
            self._end_body(exchange)
        return at

    # -- refusals --

    def _refuse(self, exchange: Exchange, refuse: Refuse) -> None:
        """Answer in the app's place, in the request's turn. Its body is dropped, if it is short; if it is long, or the
        client may not send it at all (RFC 9110, section 10.1.1), the connection ends.
        """
        head = exchange.head
        exchange.closes = not head.persists or head.expects or head.length > self._limits.dropped_bytes
        exchange.refusal = answer_bytes(refuse, method=head.request.method, closes=exchange.closes, old=head.old)
        exchange.stage = _REFUSED
        if exchange.closes or not head.length:
            self._reads = _NOTHING if exchange.closes else _HEAD
        else:
            self._current, self._dropped = exchange, 0
            self._await_body(_DROPPED_BODY, head.length)
        self._flush_refusals()

    def _drop_body(self, data: bytes, at: int) -> int:
        exchange = self._current
        if exchange is None:
            raise AssertionError("a body has a request")
        start = at
        if self._chunks is None:
            at += min(self._remaining, len(data) - at)
            self._remaining -= at - start
            done = not self._remaining
        else:
            try:
                at = self._chunks.feed(data, at, None)
            except MessageError:
                self._stop_dropping(exchange)
                return len(data)
            done = self._chunks.done
        self._dropped += at - start
        if done:
            self._dropped = 0
            self._end_body(exchange)
        elif self._dropped > self._limits.dropped_bytes:
            self._stop_dropping(exchange)
        return at

    def _stop_dropping(self, exchange: Exchange) -> None:
        """The connection ends after the refusal, which the client may have already."""
        self._reads, self._current, self._chunks = _NOTHING, None, None
        exchange.closes = True
        if exchange not in self._queue:
            self._finish()

    def _break(self, error: MessageError, section: bytes | bytearray) -> None:
        """The client broke a rule in a head: answer in its turn, and read nothing more."""
        if self._on_unjudged is not None:
            method, target = beginning_of(section)
            self._on_unjudged(UnjudgedRequest.of(method, "", target, error.status, str(error)))
        exchange = Exchange(_UNREADABLE, self._ruled, True)
        exchange.refusal, exchange.stage = _answer_to(error), _REFUSED
        self._reads = _NOTHING
        self._held.clear()
        self._dropped = 0
        self._queue.append(exchange)
        self._flush_refusals()

    def _break_body(self, error: MessageError) -> None:
        """The client broke a rule in a body for the app. No byte of the request goes on if none has been taken."""
        exchange, self._current, self._chunks = self._current, None, None
        self._reads = _NOTHING
        self._dropped = 0
        if exchange is None or exchange not in self._queue or exchange.stage is _ANSWERING:
            self._finish()
            return
        if self._begins_at is not None:
            del self.queued_for_app[self._begins_at :]
            self._for_app_size = sum(map(len, self.queued_for_app))
            self.wants_app = self._was_wanted
        exchange.tell(error.status)
        exchange.refusal, exchange.stage, exchange.closes = _answer_to(error), _REFUSED, True
        self._flush_refusals()

    def _flush_refusals(self) -> None:
        """Our answers, up to the first request that the app has to answer."""
        queue = self._queue
        while queue and queue[0].stage is _REFUSED:
            exchange = queue.popleft()
            self._put_client(exchange.refusal)
            if exchange.closes:
                self._finish()
                return

    # -- from the app --

    def from_app(self, data: bytes | memoryview) -> None:
        data = bytes(data)
        if self._reads is _TUNNEL:
            self._put_client(data)
        elif not self.client_finished:
            try:
                self._take_answers(self._with_held(data) if self._app_held else data)
            except MessageError:
                self._break_answer(_BAD_ANSWER if self._speaks_http else _NO_HTTP)
            if self._held:
                self._run(b"")
        self._settle()

    def app_ended(self) -> None:
        if self._reads is _TUNNEL:
            self.client_finished = True
        elif not self.client_finished:
            answer = self._answer
            if answer is not None and answer.length == TO_THE_END:
                self._end_answer(False)
            elif answer is None and self._queue and not self._any_answered:
                self._break_answer(_NO_ANSWER)
            # A connection on which answers came is closed without one, as the app did: the client may try again.
            self._finish()
        self._settle()

    def app_broke(self) -> bool:
        if self.client_finished:
            return True
        # One on which answers came is closed without one, so that the client may try again.
        answers = bool(self._queue) and self._answer is None and not self._any_answered and self._reads is not _TUNNEL
        if answers:
            self.app_ended()
        return answers

    def app_failed(self) -> None:
        """The app can't be reached: the requests that it has are answered with 503, and the connection ends."""
        if self._reads is not _TUNNEL and not self.client_finished and self._answer is None:
            self._answer_for_app(_UNREACHABLE)
        self._finish()
        self._settle()

    def _break_answer(self, refuse: Refuse) -> None:
        """The app sent what is no answer, or none. It is told to the client if nothing of it went there."""
        self.app_fault = refuse.text.rstrip()
        if self._answer is None:
            self._answer_for_app(refuse)
        self._finish()

    def _answer_for_app(self, refuse: Refuse) -> None:
        waiting = [exchange for exchange in self._queue if exchange.stage is not _JUDGED]
        for exchange in waiting:
            if exchange.stage is _FORWARDED:
                head, last = exchange.head, exchange is waiting[-1]
                exchange.tell(refuse.status)
                exchange.refusal = answer_bytes(refuse, method=head.request.method, closes=last, old=head.old)
            self._put_client(exchange.refusal)

    def _take_answers(self, data: bytes) -> None:
        """Pass on what the app sent. Raises MessageError if it is no answer to a request that the app has."""
        at, size = 0, len(data)
        #: From here on nothing was passed on yet.
        start = 0
        while at < size:
            answer = self._answer
            if answer is None:
                if not self._awaits_answer():
                    raise MessageError("wanted nothing of the app, since no request is unanswered")
                end = data.find(END, at)
                if end < 0:
                    self._hold_answer(data[at:])
                    return
                at = end + len(END)
                if not self._take_answer_head(data[start:end]):
                    start = at
                    continue
                answer = self._answer
                if answer is None:
                    self._put_client(data[start:at])
                    start = at
                    continue
                added = self._queue[0].added
                if added:
                    self._put_client(data[start : at - _LINE_END] + added + END[-_LINE_END:])
                    start = at
                if answer.length == TUNNEL:
                    self._put_client(data[start:])
                    self._switch()
                    return
            if self._answer_chunks is not None:
                at = self._answer_chunks.feed(data, at, None)
                done = self._answer_chunks.done
            elif answer.length == TO_THE_END:
                at, done = size, False
            else:
                left = self._answer_remaining - (size - at)
                done = left <= 0
                at = size + left if done else size
                self._answer_remaining = left
            if done:
                self._put_client(data[start:at] if at - start < size else data)
                start = at
                self._end_answer(answer.persists)
                if self.client_finished:
                    return
        if start < size:
            self._put_client(data[start:] if start else data)

    def _awaits_answer(self) -> bool:
        """Whether the app has a request, or a part of one, that it has not answered."""
        queue = self._queue
        return (
            bool(queue)
            and self._app_begun
            and queue[0].stage is _FORWARDED
            and (self._begins_at is None or len(queue) > 1 or self._reads is _RULING)
        )

    def _with_held(self, data: bytes) -> bytes:
        """What was held of an unfinished head and ``data``; nothing while the head is still unfinished."""
        before = len(self._app_held)
        self._app_held += data
        self._check_beginning(self._app_held)
        if self._app_held.find(END, max(before - len(END) + 1, 0)) < 0:
            check_partial(self._app_held, self._limits.header_bytes, start=before)
            return b""
        whole = bytes(self._app_held)
        self._app_held.clear()
        return whole

    def _hold_answer(self, rest: bytes) -> None:
        self._check_beginning(rest)
        check_partial(rest, self._limits.header_bytes)
        self._app_held += rest

    def _check_beginning(self, section: bytes | bytearray) -> None:
        """Raise MessageError if no answer begins so: an app of another protocol may never send the end of a head."""
        if not section.startswith(_ANSWER_BEGINS[: len(section)]):
            raise MessageError("wanted an answer of HTTP/1, got something else")
        self._speaks_http = self._speaks_http or len(section) >= len(_ANSWER_BEGINS)

    def _take_answer_head(self, section: bytes) -> bool:
        """Read a head; a final one becomes ``_answer``. Returns whether it is passed on."""
        if not self._speaks_http:
            self._check_beginning(section)
        exchange = self._queue[0]
        head = exchange.head
        method, old, upgrade = head.request.method, head.old, head.upgrade
        key = section, method, old, upgrade
        answer = self._app_heads.get(key)
        if answer is None:
            answer = response_of(section, method, self._app_fields, old=old, upgrade=upgrade)
            if len(section) <= _LONGEST_REMEMBERED:
                self._app_heads.keep(key, answer)
        if not answer.final:
            return not head.old
        exchange.stage = _ANSWERING
        if exchange.answered is not None:
            exchange.tell(answer.status)
        self._answer = answer
        if answer.length == CHUNKED:
            self._answer_chunks = ChunkedBody(_APP_EXTENSIONS, _APP_TRAILERS)
        else:
            self._answer_remaining = answer.length
        return True

    def _end_answer(self, persists: bool) -> None:
        """The answer is complete: the next may be ours, or the connection ends."""
        exchange = self._queue.popleft()
        self._answer = self._answer_chunks = None
        self._any_answered = True
        if not persists or exchange.closes:
            self._finish()
            return
        if self._queue:
            self._flush_refusals()
        elif self._reads is _SWITCH:  # the last that was read is the one that asked to switch
            self._reads = _HEAD

    def _switch(self) -> None:
        """The connection is a tunnel from here on."""
        self._queue.clear()
        self._answer = None
        self._reads = _TUNNEL
        if self._client_ended:
            self.app_finished = True

    # -- both --

    def _put_app(self, data: bytes) -> None:
        self.queued_for_app.append(data)
        self._for_app_size += len(data)

    def _put_client(self, data: bytes) -> None:
        self.queued_for_client.append(data)
        self._for_client_size += len(data)

    def _finish(self) -> None:
        """Nothing more is written to either side than what is there to be taken."""
        self.client_finished = self.app_finished = True
        self._reads = _NOTHING
        self._held.clear()
        self._app_held.clear()
        for exchange in self._queue:
            exchange.tell(0)
        self._queue.clear()

    def _settle(self) -> None:
        """Bring what the caller reads up to date."""
        reads = self._reads
        if self._client_ended and not self.client_finished and reads is not _TUNNEL:
            self._settle_client_end()
            reads = self._reads
        if reads is _HEAD:
            may = len(self._queue) < self._limits.pipelined
        elif reads is _NOTHING:
            may = self._dropped <= self._limits.dropped_bytes
        else:
            may = reads is not _RULING and reads is not _SWITCH
        # Refusals are for the client at once: one that sends requests and reads nothing must not fill our memory.
        room = self._for_client_size < _HIGH_WATER
        self.reads_client = may and room and self._for_app_size < _HIGH_WATER and not self._client_ended
        self.reads_app = room and self.wants_app and not self.client_finished

    def _settle_client_end(self) -> None:
        """The client has ended: wait for the answers. Many apps take the end of a connection for its failure, so the
        app's end comes after them.
        """
        if self._reads is _BODY:
            self._break_body(MessageError("the client's connection ended within a request's body"))
        elif self._reads is _HEAD and self._held and len(self._queue) < self._limits.pipelined:
            self._break(MessageError("the client's connection ended within a request's head"), self._held)
        elif not self._queue and self._reads is not _RULING:
            self._finish()


def _answer_to(error: MessageError) -> bytes:
    return answer_bytes(Refuse(error.status, f"{error}\n"))


#: Stands for the head of a request that could not be read.
_UNREADABLE = RequestHead(HttpRequest("", "", ""), persists=False)
