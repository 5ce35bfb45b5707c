"""What is spoken on a connection, and inside of it: TLS, HTTP/1.1, HTTP/2, and what a CONNECT carries. Bounded. Pure.

A conversation is told apart by its first bytes, as a sidecar does it. A header of the PROXY protocol may come before
them, and other protocols, such as SMTP, change to TLS. Inside of TLS is another conversation, and inside
of each tunnel of HTTP too: HBONE is TLS, HTTP/2, CONNECT, and in it the TLS or HTTP of two workloads.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from meshtls.address import Address
from meshtls.capture.events import ByteSink, Trouble
from meshtls.capture.exchange import HttpExchange, InsideBudget
from meshtls.capture.http1_reader import Http1Reader
from meshtls.capture.http2_reader import Http2Reader
from meshtls.capture.keylog import KeyLog
from meshtls.capture.memory import Level, MemoryShare
from meshtls.capture.midway import MidwayRecords
from meshtls.capture.session import TlsSession
from meshtls.capture.upgrades import Turn, Upgrade, asked_first, may_ask_first, may_greet, upgrade_of_greeting
from meshtls.errors import RequestError
from meshtls.wire.http1.start import MAX_START, HttpStart, http_start_of
from meshtls.wire.http2.frames import HEADER_BYTES, may_begin_settings
from meshtls.wire.proxy_protocol import may_be_proxy_header, read_proxy_header
from meshtls.wire.side import Side
from meshtls.wire.tls import FirstBytes, first_bytes_of

__all__ = ["MAX_DEPTH", "Conversation", "Spoken"]

#: Conversations inside of one another; the bytes of those that are deeper are counted only.
MAX_DEPTH = 6
#: Bytes that are kept until it is known what is spoken.
_MOST_HELD = MAX_START + (1 << 14)
#: Memory of a piece of these, besides its bytes.
_PIECE_BYTES = 128
#: What every record of a server begins with: its ServerHello, or an alert.
_SERVER_RECORDS = (b"\x16\x03", b"\x15\x03")


class Spoken(Enum):
    """What is spoken on a connection."""

    UNDECIDED = "undecided"
    TLS = "TLS"
    HTTP1 = "HTTP/1.1"
    HTTP2 = "HTTP/2"
    OTHER = "other"


class Conversation:
    """A ByteSink for one connection, from its first bytes on.

    - ``spoken``: what it is.
    - ``tls``, ``http1``, ``http2``: what reads it, if it is that.
    - ``inside``: the conversation in the application data of TLS, where there is a key log.
    - ``from_middle``: to be set before the first bytes where these are not the first ones of the connection. What is
      not recognized may then be TLS, whose records ``midway`` has.
    - ``bytes``: of both sides.
    - ``preamble``: what came before what is spoken, in words; "" for nothing. ``skipped``: its bytes.
    - ``troubles``: of this conversation itself; ``all_troubles`` has those of its readers and what is inside of it.
    """

    __slots__ = (
        *("_budget", "_client_start", "_held", "_held_bytes", "_keys", "_level", "_reader"),
        *("_upgrade", "bytes", "depth", "from_middle", "http1", "http2", "inside", "midway", "preamble", "skipped"),
        *("spoken", "tls", "troubles"),
    )

    def __init__(self, keys: KeyLog | None = None, *, budget: InsideBudget | None = None, depth: int = 0) -> None:
        """``budget`` is shared by all conversations inside of this one; ``depth``: how many this one is inside of."""
        self._keys = keys
        self._budget = budget or InsideBudget()
        self._level = Level(self._budget.memory)
        self.depth = depth
        self._reader: ByteSink | None = None
        #: What came before it was known what is spoken: the side, its bytes, their time; None for the end of a side.
        self._held: list[tuple[Side, bytes | None, int]] = []
        self._held_bytes = 0
        self._client_start = b""
        self.skipped: dict[Side, int] = {}
        self._upgrade: Upgrade | None = None
        self.preamble = ""
        self.bytes: dict[Side, int] = {Side.CLIENT: 0, Side.SERVER: 0}
        self.spoken = Spoken.UNDECIDED
        self.tls: TlsSession | None = None
        self.http1: Http1Reader | None = None
        self.http2: Http2Reader | None = None
        self.inside: Conversation | None = None
        self.from_middle = False
        self.midway: MidwayRecords | None = None
        self.troubles: list[Trouble] = []

    @property
    def http(self) -> Http1Reader | Http2Reader | None:
        """The reader of HTTP, of whatever version."""
        return self.http1 or self.http2

    @property
    def memory(self) -> MemoryShare:
        """What it keeps, with all that is inside of it."""
        return self._budget.memory

    @property
    def exchanges(self) -> list[HttpExchange]:
        """The requests of this conversation itself."""
        http = self.http
        return http.exchanges.kept if http is not None else []

    def feed(self, side: Side, data: bytes, time_ns: int) -> None:
        """What ``side`` sent next. Nothing is raised."""
        self.bytes[side] += len(data)
        if self._reader is not None:
            self._reader.feed(side, data, time_ns)
        elif self._upgrade is not None:
            self._follow(self._upgrade, side, data, time_ns)
        elif self.spoken is Spoken.UNDECIDED and data:
            self._held.append((side, data, time_ns))
            self._held_bytes += len(data)
            if side is Side.CLIENT and len(self._client_start) < MAX_START:
                self._client_start += data[: MAX_START - len(self._client_start)]
            self._decide(side)
            if self._held and not self._level.to(self._held_bytes + len(self._held) * _PIECE_BYTES):
                self._other(side, f"{self._budget.memory.words}: nothing is read")

    def gap(self, side: Side, missing: int) -> None:
        """So many bytes are lost; 0 if nobody knows how many."""
        self.bytes[side] += missing
        if self._reader is not None:
            self._reader.gap(side, missing)
        elif self._upgrade is not None:
            self._upgrade = None
        elif self.spoken is Spoken.UNDECIDED:
            self.from_middle = True
            self._other(side, "bytes are lost before it was known what is spoken")
            if self.midway is not None:
                self.midway.gap(side, missing)

    def end(self, side: Side) -> None:
        """No more comes from ``side``."""
        if self._reader is not None:
            self._reader.end(side)
        elif self.spoken is Spoken.UNDECIDED:
            self._held.append((side, None, 0))
            if side is Side.CLIENT:
                self._decide(side, ended=True)

    def turn(self) -> bool:
        """Client and server were taken for each other. False if something is read by their roles already."""
        if self.midway is not None:
            self.midway.turn()
        elif self._reader is not None or self._upgrade is not None:
            return False
        self.bytes = {side.other: count for side, count in self.bytes.items()}
        self.troubles = [Trouble(one.side.other, one.offset, one.reason) for one in self.troubles]
        return True

    @property
    def waiting(self) -> bool:
        """Whether something waits for secrets."""
        return any(one.tls is not None and one.tls.waiting for one in self.walk())

    def look_again(self) -> None:
        """If the key log has got secrets that something waits for, decrypt it."""
        for one in self.walk():
            if one.tls is not None:
                one.tls.look_again()

    def settle(self) -> None:
        """Wait no longer for secrets."""
        for one in self.walk():
            if one.tls is not None:
                one.tls.settle()

    def walk(self) -> Iterator[Conversation]:
        """This conversation and all inside of it, outer ones first."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            yield one
            if one.inside is not None:
                waiting.append(one.inside)
            if one.http is not None:
                tunnels = [exchange.tunnel for exchange in one.exchanges]
                waiting += [tunnel for tunnel in reversed(tunnels) if isinstance(tunnel, Conversation)]

    def all_troubles(self) -> Iterator[tuple[int, Trouble]]:
        """What went wrong, with the depth of the conversation whose offset it has."""
        for one in self.walk():
            http = one.http
            yield from ((one.depth, trouble) for trouble in one.troubles)
            if one.tls is not None:
                yield from ((one.depth, trouble) for trouble in one.tls.index.troubles)
            if http is not None:
                yield from ((one.depth, trouble) for trouble in http.troubles)

    def _decide(self, side: Side, *, ended: bool = False) -> None:
        start = self._client_start
        if not start:
            if side is Side.SERVER and not self._may_be_http2():
                self._server_first()
            elif ended:
                self._other(side, "")
            return
        more_may_come = not ended and self._held_bytes <= _MOST_HELD
        if not self.preamble and may_be_proxy_header(start) and more_may_come and not self._skip_proxy_header(start):
            return
        start = self._client_start
        first = first_bytes_of(start)
        if first is FirstBytes.TLS:
            self._begin_tls()
            return
        upgrade = asked_first(start)
        if upgrade is not None:
            self._follow_held(upgrade)
            return
        if may_ask_first(start) and more_may_come:
            return
        http = HttpStart.UNDECIDED if first is FirstBytes.UNDECIDED else http_start_of(start, ended=ended)
        if http is HttpStart.HTTP1:
            self.spoken = Spoken.HTTP1
            self._begin(Http1Reader(self._budget, self._open))
        elif http is HttpStart.HTTP2:
            self.spoken = Spoken.HTTP2
            self._begin(Http2Reader(self._budget, self._open))
        elif http is HttpStart.OTHER or ended or self._held_bytes > _MOST_HELD:
            self._other(side, "")

    def _may_be_http2(self) -> bool:
        """Whether the server may have sent its SETTINGS before the client's preface (RFC 9113, section 3.4)."""
        return self._held_bytes <= _MOST_HELD and may_begin_settings(self._first_held(HEADER_BYTES))

    def _first_held(self, size: int) -> bytes:
        """The first bytes of what is held."""
        first = b""
        for _, data, _ in self._held:
            if len(first) >= size:
                break
            first += data or b""
        return first[:size]

    def _server_first(self) -> None:
        """The server has sent something, and the client nothing: of TLS or HTTP that is the client's loss."""
        sent = self._first_held(HEADER_BYTES)
        upgrade = upgrade_of_greeting(sent)
        if upgrade is not None:
            self._follow_held(upgrade)
        elif sent[:2] in _SERVER_RECORDS:
            self._begin_tls()
        elif len(sent) >= 2 and not may_greet(sent):
            self._other(Side.SERVER, "")

    # -- what comes before --

    def _skip_proxy_header(self, start: bytes) -> bool:
        """Whether to go on: without the header if there is one, and with it if it is none."""
        try:
            header = read_proxy_header(start)
        except RequestError:
            return True
        if header is None:
            return False
        version = 1 if start.startswith(b"P") else 2
        if header.local:
            about = "of a connection that the proxy opened for itself"
        elif header.source is None:
            about = "without an address"
        else:
            about = f"for the client {Address(*header.source)}"
        self.preamble = f"PROXY protocol, version {version}, {about}"
        left = self.skipped[Side.CLIENT] = header.size
        for at, (side, data, time_ns) in enumerate(self._held):
            if side is Side.CLIENT and data:
                taken = min(left, len(data))
                left -= taken
                self._held[at] = side, data[taken:], time_ns
        sent = b"".join(data for side, data, _ in self._held if data and side is Side.CLIENT)
        self._client_start = sent[:MAX_START]
        return bool(sent)

    def _follow_held(self, upgrade: Upgrade) -> None:
        """What came so far is of a protocol that may change to TLS."""
        self.spoken, self._upgrade = Spoken.OTHER, upgrade
        held, self._held, self._client_start = self._held, [], b""
        self._level.to(0)
        for side, data, time_ns in held:
            if data is None:
                self.end(side)
            elif self._upgrade is not None:
                self._follow(self._upgrade, side, data, time_ns)
            elif self._reader is not None:
                self._reader.feed(side, data, time_ns)

    def _follow(self, upgrade: Upgrade, side: Side, data: bytes, time_ns: int) -> None:
        turn = upgrade.feed(side, data)
        if turn is Turn.CLEAR:
            if not self._level.to(upgrade.held):
                self._upgrade = None
                self._other(side, f"{self._budget.memory.words}: nothing is read")
            return
        self._upgrade = None
        self._level.to(0)
        if turn is Turn.TLS:
            self.preamble = f"{self.preamble}, then {upgrade.words}" if self.preamble else upgrade.words
            self.skipped = {one: self.bytes[one] - len(upgrade.rest[one]) for one in Side}
            self._held = [(one, rest, time_ns) for one, rest in upgrade.rest.items() if rest]
            self._begin_tls()

    def _begin_tls(self) -> None:
        self.spoken = Spoken.TLS
        # Without keys nothing is decrypted, and what is inside never comes.
        self.inside = self._open() if self._keys is not None else None
        self._begin(TlsSession(self._keys, self.inside, keep_plaintext=0, memory=self._budget.memory))

    def _open(self) -> Conversation | None:
        if self.depth + 1 >= MAX_DEPTH or not self._budget.opens():
            return None
        return Conversation(self._keys, budget=self._budget, depth=self.depth + 1)

    def _begin(self, reader: TlsSession | Http1Reader | Http2Reader) -> None:
        if isinstance(reader, TlsSession):
            self.tls = reader
        elif isinstance(reader, Http1Reader):
            self.http1 = reader
        else:
            self.http2 = reader
        self._reader = reader
        for side, count in self.skipped.items():
            reader.skip(side, count)
        held, self._held, self._client_start = self._held, [], b""
        self._level.to(0)
        for side, data, time_ns in held:
            if data is None:
                reader.end(side)
            else:
                reader.feed(side, data, time_ns)

    def _other(self, side: Side, reason: str) -> None:
        self.spoken = Spoken.OTHER
        held, self._held, self._client_start = self._held, [], b""
        self._level.to(0)
        if reason:
            self.troubles.append(Trouble(side, self.bytes[side], reason))
        if self.from_middle and not self.depth and not self.preamble:
            self._reader = self.midway = MidwayRecords(self._budget.memory)
            for one, data, time_ns in held:
                if data:
                    self.midway.feed(one, data, time_ns)

    def __repr__(self) -> str:
        return f"<Conversation [{self.spoken.value}, depth {self.depth}]>"
