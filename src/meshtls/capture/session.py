"""One TLS connection: the bytes of both directions, from which come messages, alerts and application data. Pure.

What makes a record readable is found by what it authenticates under, not by what is expected alone. A record that
does not open under the current keys is tried with those that may come next: of the next epoch, or after a KeyUpdate.
So early data, a rejection of it, a lost Finished and a key log that lacks some secrets need no rules of their own. How
often that is tried is bounded.

Secrets may come later than what they protect: a program writes them while its handshake goes on. While the key log
lacks those of a connection and may still get them, all that comes of it waits, up to a bound; what is then made of it
is the same as if the secrets had been there before.

Without keys only lengths are kept: the payload of application data is neither copied nor looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum

from meshtls.capture.aead import SuiteAead, aead_of_suite, suites_of_secret
from meshtls.capture.cbc_protection import CbcProtection, cbc_of_suite
from meshtls.capture.early_data import EarlyData
from meshtls.capture.event_index import EventIndex
from meshtls.capture.events import (
    UNKNOWN,
    AlertSeen,
    ApplicationBytes,
    ByteSink,
    Event,
    MessageSeen,
    RecordSeen,
    Trouble,
)
from meshtls.capture.key_schedule import keys_of_master, keys_of_secret, next_secret
from meshtls.capture.keylog import ConnectionSecrets, KeyLabel, KeyLog
from meshtls.capture.memory import MemoryPool, MemoryShare
from meshtls.capture.record_protection import NumberedRecords, RecordProtection
from meshtls.capture.record_search import RecordSearch
from meshtls.capture.server_hello import ServerHelloFacts, accepts_early_data, server_hello_facts
from meshtls.capture.waiting import Waiting, WaitingQueue
from meshtls.wire.side import CLIENT, SERVER, Side
from meshtls.wire.tls import TLS_1_3, ContentType, HandshakeType, client_random_of_message
from meshtls.wire.tls.assembling import MESSAGE_HEADER, MessageAssembler
from meshtls.wire.tls.names import VERSIONS
from meshtls.wire.tls.records import RECORD_HEADER, Record, RecordReader
from meshtls.wire.tls.suites import CIPHER_SUITES

__all__ = [
    "KEPT_PLAINTEXT",
    "MOST_EVENTS",
    "MOST_FAILURES",
    "MOST_SKIPPED",
    "NO_CLIENT_HELLO",
    "Direction",
    "TlsSession",
]

#: Events that a session keeps; records and application data get half of them. Others are counted.
MOST_EVENTS = 2048
_MOST_NOTED = MOST_EVENTS // 2
#: Bytes of handshake messages, and of plaintext, in the events of a session.
_KEPT_MESSAGES, KEPT_PLAINTEXT = 1 << 20, 1 << 16
#: Records that may be missing in a gap so that the next one's number is still found.
MOST_SKIPPED = 256
#: Records in a row that don't open, after which a direction's lengths only are read.
MOST_FAILURES = 32
#: Trials of a session for numbers of records: each decrypts up to 16 KiB.
_MOST_TRIALS = 1 << 14
#: The least record that is protected: one byte of content, its type, a tag (RFC 8446, section 5.2).
_LEAST_RECORD = RECORD_HEADER + 10
_LONGEST_AFTER_LOSS = 1 << 16
#: Memory of an event, besides its bytes.
_EVENT_BYTES = 160
_TLS_1_2 = 0x0303
_CLIENT_HELLO, _SERVER_HELLO = int(HandshakeType.CLIENT_HELLO), int(HandshakeType.SERVER_HELLO)
_CLOSE_NOTIFY = 0
_ALERT_BYTES = 2
_APPLICATION_DATA, _HANDSHAKE = int(ContentType.APPLICATION_DATA), int(ContentType.HANDSHAKE)
_ALERT, _CHANGE_CIPHER_SPEC = int(ContentType.ALERT), int(ContentType.CHANGE_CIPHER_SPEC)
_KNOWN_MESSAGES = frozenset(int(one) for one in HandshakeType)


class Epoch(IntEnum):
    """Which keys protect a direction's records (RFC 8446, section 7.1). TLS 1.2 has the first and the last."""

    CLEAR = 0
    EARLY = 1
    HANDSHAKE = 2
    APPLICATION = 3


_LABELS: Mapping[Side, Mapping[Epoch, KeyLabel]] = {
    CLIENT: {
        Epoch.EARLY: KeyLabel.CLIENT_EARLY,
        Epoch.HANDSHAKE: KeyLabel.CLIENT_HANDSHAKE,
        Epoch.APPLICATION: KeyLabel.CLIENT_TRAFFIC,
    },
    SERVER: {Epoch.HANDSHAKE: KeyLabel.SERVER_HANDSHAKE, Epoch.APPLICATION: KeyLabel.SERVER_TRAFFIC},
}
#: Why no key is tried.
NO_CLIENT_HELLO = "the ClientHello was not captured, by which a key log names a connection: nothing can be decrypted"
_LOST_SHORT = "bytes of a record are missing"


class Direction:
    """What one side has sent so far.

    - ``records``, ``record_bytes``: counted with headers; ``decrypted``: records of them that were.
    - ``application_bytes``: plaintext where it was decrypted, without early data that was not accepted; else payloads
      of application data.
    - ``opaque``: only lengths are read from here on.
    """

    __slots__ = (
        *("_assembler", "_failures", "_found_error", "_kept", "_reader", "_search", "_secret", "_suspect", "_unsure"),
        *("application_bytes", "decrypted", "encrypted", "epoch", "opaque", "protection", "record_bytes"),
        *("records", "side"),
    )

    def __init__(self, side: Side) -> None:
        self.side = side
        self.records = self.record_bytes = self.decrypted = self.application_bytes = 0
        self.epoch = Epoch.CLEAR
        #: TLS 1.2: whatever the type of a record, its payload is encrypted.
        self.encrypted = False
        self.opaque = False
        self.protection: NumberedRecords | None = None
        self._reader = RecordReader(side)
        self._assembler = MessageAssembler()
        self._search: RecordSearch | None = None
        #: The traffic secret of the current keys.
        self._secret = b""
        self._failures = 0
        #: Records that may have been lost before the next one.
        self._unsure = 0
        #: Handshake data was lost: the next may be the middle of a message.
        self._suspect = False
        self._found_error = False
        #: Bytes of the record and of the message that are not whole.
        self._kept = 0

    @property
    def kept(self) -> int:
        """Bytes of what is not whole."""
        searched = self._search.held if self._search is not None else 0
        return self._reader.kept + self._assembler.kept + searched

    def __repr__(self) -> str:
        keys = "lengths only" if self.opaque else self.epoch.name.lower()
        return f"<Direction {self.side.value} [{self.records} records, {keys}]>"


class TlsSession:
    """Feed it both directions of one connection, from the first byte of each; a ByteSink. ``settle`` it at the end.

    - ``events``: in the order in which they were seen, at most MOST_EVENTS, and at the end the last record of each side
      if it is none of them; ``events_dropped`` counts the others.
    - ``version``, ``suite``: those of the ServerHello, 0 before it. ``client_random``: b"" before a ClientHello.
    - ``retried``: there was a HelloRetryRequest. ``psk``: a pre-shared key was accepted (TLS 1.3).
    - ``early_accepted``: whether the server accepts early data, if the client sends some; None where that is not known.
    - ``has_keys``: the key log has secrets of this connection.
    - ``waiting``: for secrets. ``ended_at``: for each side that has ended, how many events there were.
    - ``left_out``: there was no memory for all events, so that what they say of its course may be wrong.
    """

    __slots__ = (
        *("_alert_length", "_client", "_inside", "_keys", "_left_messages", "_left_plaintext", "_left_trials"),
        *("_dropped", "_early", "_encrypt_then_mac", "_index", "_may_wait", "_memory", "_queue", "_secrets"),
        "_seen_changes",
        "_server",
        *(
            "client_random",
            "early_accepted",
            "ended_at",
            "events",
            "events_dropped",
            "left_out",
            "psk",
            "retried",
            "server_random",
            "suite",
        ),
        "version",
    )

    def __init__(
        self,
        keys: KeyLog | None = None,
        inside: ByteSink | None = None,
        *,
        keep_plaintext: int = KEPT_PLAINTEXT,
        memory: MemoryShare | None = None,
    ) -> None:
        """``inside`` gets the application data. ``keep_plaintext``: bytes of it that events keep."""
        self._memory = memory or MemoryPool().share()
        self._keys = keys
        self._inside = inside
        self._secrets: ConnectionSecrets | None = None
        self._may_wait = keys is not None and keys.awaited > 0
        self._queue: WaitingQueue[Direction] = WaitingQueue(self._memory)
        #: Those of the key log, when it was looked into last.
        self._seen_changes = -1
        self._client, self._server = Direction(CLIENT), Direction(SERVER)
        self._left_messages, self._left_plaintext, self._left_trials = _KEPT_MESSAGES, keep_plaintext, _MOST_TRIALS
        self._early: EarlyData | None = None
        self.early_accepted: bool | None = None
        #: Of an alert's record, if it is encrypted by TLS 1.3.
        self._alert_length = UNKNOWN
        self.events: list[Event] = []
        self._index: EventIndex | None = None
        self.events_dropped = 0
        #: The last record of each side that was not kept, the latest one last.
        self._dropped: dict[Side, RecordSeen] = {}
        self.ended_at: dict[Side, int] = {}
        self.left_out = False
        self.version = self.suite = 0
        self.client_random = self.server_random = b""
        self.retried = self.psk = self._encrypt_then_mac = False

    @property
    def has_keys(self) -> bool:
        """Whether the key log has secrets of this connection."""
        return self._secrets is not None

    @property
    def index(self) -> EventIndex:
        """The events so far by their kinds."""
        index = self._index
        if index is None:
            index = self._index = EventIndex()
        if index.count < len(self.events):
            index.take(self.events)
        return index

    def direction(self, side: Side) -> Direction:
        """What ``side`` has sent so far."""
        return self._client if side is CLIENT else self._server

    @property
    def waiting(self) -> bool:
        """Whether something waits for secrets."""
        return bool(self._queue)

    def skip(self, side: Side, count: int) -> None:
        """So many bytes of ``side`` came before what is read here: offsets count them."""
        self.direction(side)._reader.offset = count

    def feed(self, side: Side, data: bytes, time_ns: int) -> None:
        """What ``side`` sent next. Nothing is raised: what goes wrong is an event."""
        one = self._client if side is CLIENT else self._server
        if self._queue.entries:
            self._wait(Waiting(one, data, time_ns))
        else:
            self._feed(one, data, time_ns)

    def gap(self, side: Side, missing: int) -> None:
        """So many bytes are lost; 0 if nobody knows how many. What follows is read again from the next record on."""
        one = self.direction(side)
        if self._queue.entries:
            self._wait(Waiting(one, missing, 0))
        else:
            self._gap(one, missing)

    def end(self, side: Side) -> None:
        """No more comes from ``side``."""
        one = self.direction(side)
        if self._queue.entries:
            self._wait(Waiting(one, None, 0))
        else:
            self._end(one)

    def look_again(self) -> None:
        """If the key log has got the secrets that something waits for, decrypt it."""
        if not self._queue or self._keys is None or self._keys.changes == self._seen_changes:
            return
        self._seen_changes = self._keys.changes
        one, what, _ = self._queue.first
        if not isinstance(what, list) or not self._lacks_secrets(one, what[0]):
            self._go_on()

    def settle(self) -> None:
        """Wait no longer: what can't be decrypted now is read by its lengths."""
        if self._queue.entries:
            self.look_again()
            if self._queue:
                self._give_up_waiting()
        self._keep_dropped()

    # -- bytes --

    def _feed(self, one: Direction, data: bytes, time_ns: int) -> None:
        if one._search is not None:
            found = one._search.feed(data)
            if found is None:
                if one._search.failed and not one._found_error:
                    one._found_error = True
                    self._trouble(one, one._reader.offset, "no record was found after the gap: nothing more is read")
                self._note_kept(one)
                return
            one._search = None
            one._reader = RecordReader(one.side, keep_application_data=not one.opaque)
            one._reader.offset = found.offset
            data = found.data
        records = one._reader.feed(data)
        if self._may_wait:
            self._until_secrets_lack(one, records, time_ns)
        else:
            for record in records:
                self._record(one, record, time_ns)
        error = one._reader.error
        if error is not None and not one._found_error:
            one._found_error = True
            self._trouble(one, error.offset, error.reason)
        if one._kept or one._reader.beginning:
            self._note_kept(one)

    def _gap(self, one: Direction, missing: int) -> None:
        search = one._search
        if one._found_error:
            return
        begin = search.offset if search is not None else one._reader.offset
        if search is None:
            for record in one._reader.lost(missing):
                self._record(one, record, 0)
            if missing and one._reader.error is None:
                return
        unread = missing + (search.held if search is not None else 0)
        one._unsure = min(one._unsure + unread // _LEAST_RECORD + 1, MOST_SKIPPED) if missing else MOST_SKIPPED
        self._lost_handshake(one)
        one._search = RecordSearch(begin + missing)
        self._trouble(one, begin, f"{missing} bytes are lost" if missing else "bytes are lost")

    def _end(self, one: Direction) -> None:
        self._keep_dropped()
        self.ended_at.setdefault(one.side, len(self.events))
        if one._reader.pending and one._reader.error is None and not one._found_error:
            one._found_error = True
            self._trouble(one, one._reader.offset - one._reader.pending, "the connection ends within this record")
        if self._inside is not None:
            self._inside.end(one.side)
        if one._kept or one.kept:
            one._reader, one._assembler, one._search = RecordReader(one.side), MessageAssembler(), None
            self._note_kept(one)

    # -- waiting for secrets --

    def _until_secrets_lack(self, one: Direction, records: list[Record], time_ns: int) -> None:
        """Read these records, up to one that waits for its secrets with all that comes after it."""
        for at, record in enumerate(records):
            if self._may_wait and self._lacks_secrets(one, record):
                self._wait(Waiting(one, records[at:], time_ns))
                return
            self._record(one, record, time_ns)

    def _lacks_secrets(self, one: Direction, record: Record) -> bool:
        """Whether the key log has none of the secrets that this record needs, and may still get them."""
        if self._keys is None or not self._may_wait or not self.client_random:
            return False
        secrets = self._secrets = self._secrets or self._keys.secrets_of(self.client_random)
        if self.version and self.version < TLS_1_3:
            if record.content_type != _CHANGE_CIPHER_SPEC or one.encrypted or not self._is_decrypted_here():
                return False
            return secrets is None or secrets.get(KeyLabel.MASTER) is None
        if record.content_type != _APPLICATION_DATA:
            return False
        if secrets is None:
            return True
        if not self.version or (one.protection is not None and one.epoch is not Epoch.EARLY):
            return False
        least = max(one.epoch, Epoch.HANDSHAKE)
        return not any(secrets.get(label) for epoch, label in _LABELS[one.side].items() if epoch >= least)

    def _wait(self, entry: Waiting[Direction]) -> None:
        fits = self._queue.add(entry)
        self.look_again()
        if self._queue and self._keys is not None and not (fits and self._queue.bytes <= self._keys.awaited):
            self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        self._may_wait = False
        if self._secrets is None:
            for one in (self._client, self._server):
                self._set_opaque(one, True)
        self._go_on()

    def _go_on(self) -> None:
        """Take what waits, until it has to wait again."""
        taken = self._queue.taken()
        for one, what, time_ns in taken:
            if isinstance(what, list):
                self._until_secrets_lack(one, what, time_ns)
            elif isinstance(what, bytes):
                self._feed(one, what, time_ns)
            elif what is None:
                self._end(one)
            else:
                self._gap(one, what)
            if self._queue:
                self._queue.add(*taken)
                return

    # -- memory --

    def _note_kept(self, one: Direction) -> None:
        """Draw what a direction keeps of unfinished records and messages, or give it back."""
        kept = one.kept
        more = kept - one._kept
        if more < 0:
            self._memory.give_back(-more)
        elif more and not self._memory.take(more):
            self._trouble(one, one._reader.offset, f"{self._memory.words}: nothing more is read")
            one._found_error = True
            one._search = RecordSearch(one._reader.offset)
            one._search.failed = True
            one._reader, one._assembler = RecordReader(one.side), MessageAssembler()
            self._memory.give_back(one._kept)
            kept = 0
        one._kept = kept

    # -- records --

    def _record(self, one: Direction, record: Record, time_ns: int) -> None:
        offset, kind, _, length, payload, missing = record
        one.records += 1
        one.record_bytes += length + RECORD_HEADER
        if kind == _APPLICATION_DATA or one.encrypted:
            if one.opaque:
                self._opaque(one, offset, kind, length, time_ns)
            elif self.version and self.version < TLS_1_3:
                self._protected(one, record, time_ns, self._open_1_2(one, record))
            else:
                self._protected(one, record, time_ns, self._open_1_3(one, record))
            return
        self._note(RecordSeen(one.side, time_ns, offset, kind, length, False, kind))
        if missing:
            self._trouble(one, offset, f"{missing} {_LOST_SHORT}")
            self._lost_handshake(one)
        elif kind == _HANDSHAKE:
            self._handshake(one, record, payload, time_ns, decrypted=False)
        elif kind == _ALERT:
            self._alert(one, record, payload, time_ns, decrypted=False)
        elif kind == _CHANGE_CIPHER_SPEC and self.version and self.version < TLS_1_3:
            self._change_keys(one, record)

    def _opaque(self, one: Direction, offset: int, kind: int, length: int, time_ns: int) -> None:
        """A record of which only the length is known."""
        version = self.version
        inner = kind if version and version < TLS_1_3 else UNKNOWN
        seen = RecordSeen(one.side, time_ns, offset, kind, length, False, inner)
        if length == self._alert_length:
            # It may be the alert that ends the connection, and answer the record before it.
            if self._dropped and not self.left_out and len(self.events) + len(self._dropped) < MOST_EVENTS:
                self._keep_dropped()
            self._keep(seen)
        else:
            self._note(seen)
        if inner == _APPLICATION_DATA:
            one.application_bytes += length
        elif inner == _ALERT:
            self._keep(AlertSeen(one.side, time_ns, UNKNOWN, UNKNOWN, False))

    def _protected(self, one: Direction, record: Record, time_ns: int, opened: tuple[int, bytes] | None) -> None:
        if opened is None:
            self._opaque(one, record.offset, record.content_type, record.length, time_ns)
            if self._inside is not None and one.epoch >= Epoch.APPLICATION:
                self._inside.gap(one.side, 0)
            return
        inner, content = opened
        one.decrypted += 1
        self._note(RecordSeen(one.side, time_ns, record.offset, record.content_type, record.length, True, inner))
        if inner == _APPLICATION_DATA:
            self._application(one, content, time_ns)
        elif inner == _HANDSHAKE:
            self._handshake(one, record, content, time_ns, decrypted=True)
        elif inner == _ALERT:
            self._alert(one, record, content, time_ns, decrypted=True)
        elif inner == _CHANGE_CIPHER_SPEC and self.version < TLS_1_3:
            self._change_keys(one, record)

    def _application(self, one: Direction, content: bytes, time_ns: int) -> None:
        kept = len(content) <= self._left_plaintext
        if kept:
            self._left_plaintext -= len(content)
        early = one.epoch is Epoch.EARLY
        event = ApplicationBytes(one.side, time_ns, content if kept else None, len(content), early)
        self._note(event, len(content) if kept else 0)
        if not early or self.early_accepted:
            self._deliver(one, content, time_ns)
        elif self.early_accepted is None:
            self._early = self._early or EarlyData(self._memory)
            self._early.hold(content, time_ns)

    def _deliver(self, one: Direction, content: bytes, time_ns: int) -> None:
        one.application_bytes += len(content)
        if self._inside is not None:
            self._inside.feed(one.side, content, time_ns)

    def _answer_early(self, accepted: bool) -> None:
        """The server accepts early data, or rejects it (RFC 8446, section 4.2.10)."""
        if self.early_accepted is not None:
            return
        self.early_accepted = accepted
        early, self._early = self._early, None
        if early is None:
            return
        held = early.taken()
        if not accepted:
            return
        for content, time_ns in held:
            self._deliver(self._client, content, time_ns)
        self._client.application_bytes += early.bytes - sum(len(content) for content, _ in held)
        if not early.whole and self._inside is not None:
            self._inside.gap(CLIENT, 0)

    def _alert(self, one: Direction, record: Record, content: bytes, time_ns: int, *, decrypted: bool) -> None:
        if len(content) != 2:
            self._trouble(one, record.offset, f"wanted an alert of 2 bytes, got {len(content)}")
            return
        self._keep(AlertSeen(one.side, time_ns, content[0], content[1], decrypted))
        if content[1] == _CLOSE_NOTIFY and self._inside is not None and decrypted:
            self._inside.end(one.side)

    # -- handshake messages --

    def _handshake(self, one: Direction, record: Record, content: bytes, time_ns: int, *, decrypted: bool) -> None:
        if one._suspect:
            if not _may_begin_message(content):
                self._trouble(one, record.offset, "the rest of a handshake message whose beginning is lost")
                return
            one._suspect = False
        assembler = one._assembler
        broken = assembler.error is not None
        for message in assembler.feed(content):
            self._message(one, record, message, time_ns, decrypted=decrypted)
        if assembler.error is not None and not broken:
            self._trouble(one, record.offset, assembler.error.reason)
        if one._kept or assembler.beginning:
            self._note_kept(one)

    def _lost_handshake(self, one: Direction) -> None:
        if one.epoch is not Epoch.APPLICATION or one._assembler.pending:
            one._suspect = True
            one._assembler = MessageAssembler()

    def _message(self, one: Direction, record: Record, message: bytes, time_ns: int, *, decrypted: bool) -> None:
        kind = message[0]
        if len(message) <= self._left_messages:
            self._left_messages -= len(message)
            self._keep(MessageSeen(one.side, time_ns, kind, message, decrypted), len(message))
        else:
            self.events_dropped += 1
        if kind == _CLIENT_HELLO and one.side is CLIENT:
            self._client_hello(message)
        elif kind == _SERVER_HELLO and one.side is SERVER:
            try:
                self._server_hello(one, record, server_hello_facts(message))
            except ValueError as error:
                self._trouble(one, record.offset, f"ServerHello: {error}")
        elif decrypted and isinstance(one.protection, RecordProtection) and self.version in (0, TLS_1_3):
            if kind == HandshakeType.FINISHED and one.epoch is Epoch.HANDSHAKE:
                self._enter(one, Epoch.APPLICATION)
            elif kind == HandshakeType.ENCRYPTED_EXTENSIONS and one.side is SERVER:
                self._answer_early(accepts_early_data(message))
            elif kind == HandshakeType.END_OF_EARLY_DATA and one.epoch is Epoch.EARLY:
                self._answer_early(True)
                self._enter(one, Epoch.HANDSHAKE)
            elif kind == HandshakeType.KEY_UPDATE and one.epoch is Epoch.APPLICATION:
                self._use(one, Epoch.APPLICATION, one.protection.aead, next_secret(one.protection.aead, one._secret))

    def _client_hello(self, message: bytes) -> None:
        self.client_random = client_random_of_message(message)
        self._secrets = self._keys.secrets_of(self.client_random) if self._keys is not None else None
        for one in (self._client, self._server):
            # In a renegotiation of TLS 1.2 the current keys serve until ChangeCipherSpec.
            if one.protection is None:
                self._set_opaque(one, self._secrets is None and not self._may_wait)

    def _server_hello(self, one: Direction, record: Record, facts: ServerHelloFacts) -> None:
        if facts.retry:
            self.retried = True
            self._answer_early(False)
            return
        self.version, self.suite, self.psk = facts.version, facts.suite, facts.psk
        self.server_random = facts.random
        if not facts.psk:
            self._answer_early(False)
        aead = aead_of_suite(self.suite)
        self._alert_length = _ALERT_BYTES + aead.overhead if aead is not None and self.version == TLS_1_3 else UNKNOWN
        self._encrypt_then_mac = facts.encrypt_then_mac
        name = CIPHER_SUITES.get(self.suite, f"0x{self.suite:04x}")
        if "_WITH_NULL_" in name:
            reason = f"the suite {name} does not encrypt: its data is in clear for everybody on the way"
            self._trouble(one, record.offset, f"{reason}; it is not read here")
        elif self._secrets is not None and not self._is_decrypted_here():
            reason = (
                f"records of the suite {name} in {VERSIONS.get(self.version, 'this version')} are not decrypted here"
            )
            self._trouble(one, record.offset, f"{reason}, with keys neither: only lengths are read")

    def _is_decrypted_here(self) -> bool:
        return aead_of_suite(self.suite) is not None or (
            self.version == _TLS_1_2 and cbc_of_suite(self.suite) is not None
        )

    # -- keys --

    def _set_opaque(self, one: Direction, opaque: bool) -> None:
        one.opaque = opaque
        one._reader.keep_application_data = not opaque

    def _change_keys(self, one: Direction, record: Record) -> None:
        """ChangeCipherSpec of TLS 1.2 (RFC 5246, section 7.1)."""
        aead, cbc = (aead_of_suite(self.suite), cbc_of_suite(self.suite)) if self.version == _TLS_1_2 else (None, None)
        master = self._secrets.get(KeyLabel.MASTER) if self._secrets is not None else None
        one.encrypted = True
        one.epoch = Epoch.APPLICATION
        one.protection = None
        if aead is not None and master is not None:
            keys = keys_of_master(aead, master, self.client_random, self.server_random, one.side)
            one.protection = RecordProtection(_TLS_1_2, aead, keys)
        elif cbc is not None and master is not None:
            randoms, then_mac = (self.client_random, self.server_random), self._encrypt_then_mac
            one.protection = CbcProtection(cbc, master, randoms, one.side, encrypt_then_mac=then_mac)
        elif self._secrets is not None and master is None:
            self._trouble(one, record.offset, f"the key log has no {KeyLabel.MASTER.value} of this connection")
        self._set_opaque(one, one.protection is None)

    def _enter(self, one: Direction, epoch: Epoch) -> None:
        """Use the keys of this epoch. Without its secret, or the suite, what opens a record is found by trial."""
        label = _LABELS[one.side][epoch]
        secret = self._secrets.get(label) if self._secrets is not None else None
        aead = aead_of_suite(self.suite)
        if not self.version and isinstance(one.protection, RecordProtection):
            aead = one.protection.aead
        if secret is None or aead is None or len(secret) != aead.hash_bytes:
            one.epoch, one.protection = epoch, None
        else:
            self._use(one, epoch, aead, secret)

    def _use(self, one: Direction, epoch: Epoch, aead: SuiteAead, secret: bytes) -> None:
        one.epoch, one._secret = epoch, secret
        one.protection = RecordProtection(TLS_1_3, aead, keys_of_secret(aead, secret))

    def _open_1_2(self, one: Direction, record: Record) -> tuple[int, bytes] | None:
        protection = one.protection
        if protection is None:
            return None
        content = self._tried(one, protection, record)
        if content is None:
            self._failed(one, record)
            return None
        self._opened(one, one.epoch)
        return record.content_type, content

    def _open_1_3(self, one: Direction, record: Record) -> tuple[int, bytes] | None:
        """The content type and the content of a record of TLS 1.3 (RFC 8446, section 5.2)."""
        before = one.epoch
        content = self._tried(one, one.protection, record) if one.protection is not None else None
        if content is None and not record.missing:
            content = self._tried_next(one, record)
        if content is None:
            self._failed(one, record)
            return None
        self._opened(one, before)
        content = content.rstrip(b"\0")
        if not content:
            self._trouble(one, record.offset, "a record with nothing but padding")
            return None
        return content[-1], content[:-1]

    def _opened(self, one: Direction, before: Epoch) -> None:
        """A record was opened, in the epoch ``before`` or one after it: tell what is inside if others were lost."""
        # Where it is the first record under the keys of this epoch, nothing was lost that they protect.
        first = before is not Epoch.APPLICATION and one.protection is not None and one.protection.sequence == 1
        if one._unsure and self._inside is not None and one.epoch is Epoch.APPLICATION and not first:
            self._inside.gap(one.side, 0)
        one._failures = one._unsure = 0

    def _tried(self, one: Direction, protection: NumberedRecords, record: Record) -> bytes | None:
        """The content under these keys, also if up to ``_unsure`` records before it were lost."""
        if record.missing:
            return None
        opened = protection.open(record.content_type, record.version, record.payload)
        most = min(one._unsure, self._left_trials)
        if opened is not None or most <= 0:
            return opened
        found = protection.search(record.content_type, record.version, record.payload, most)
        self._left_trials -= most if found is None else found[0]
        return found[1] if found is not None else None

    def _tried_next(self, one: Direction, record: Record) -> bytes | None:
        """The content under the keys that may come next, which are used from here on."""
        for epoch, aead, secret in self._candidates(one):
            protection = RecordProtection(TLS_1_3, aead, keys_of_secret(aead, secret))
            content = self._tried(one, protection, record)
            if content is not None:
                if one.epoch is not epoch:
                    one._assembler = MessageAssembler()
                one.epoch, one._secret, one.protection = epoch, secret, protection
                return content
        return None

    def _candidates(self, one: Direction) -> Iterator[tuple[Epoch, SuiteAead, bytes]]:
        if self._secrets is None:
            return
        if one.epoch is Epoch.APPLICATION and isinstance(one.protection, RecordProtection):
            yield one.epoch, one.protection.aead, next_secret(one.protection.aead, one._secret)
            return
        suite = aead_of_suite(self.suite) if self.version == TLS_1_3 else None
        for epoch, label in _LABELS[one.side].items():
            secret = self._secrets.get(label)
            if secret is None or epoch < one.epoch or (epoch is one.epoch and one.protection is not None):
                continue
            # Early data is protected by the suite of the session that is resumed, and that is not in the hellos.
            for aead in suites_of_secret(len(secret)) if suite is None or epoch is Epoch.EARLY else (suite,):
                if aead.hash_bytes == len(secret):
                    yield epoch, aead, secret

    def _failed(self, one: Direction, record: Record) -> None:
        """A record that nothing opens."""
        self._lost_handshake(one)
        if not self.client_random:
            if self._keys is not None:
                self._trouble(one, record.offset, NO_CLIENT_HELLO)
            for each in (self._client, self._server):
                self._set_opaque(each, True)
            return
        protection = one.protection
        if protection is not None:
            # It counts, whatever was in it: if it is the only one that was altered, the next ones open.
            protection.sequence += 1
        one._failures += 1
        if one._failures == 1:
            self._trouble(one, record.offset, self._why(one, record))
        elif one._failures == MOST_FAILURES:
            reason = f"{MOST_FAILURES} records in a row can't be decrypted: from here on only lengths are read"
            self._trouble(one, record.offset, reason)
            one.protection = None
            self._set_opaque(one, True)

    def _why(self, one: Direction, record: Record) -> str:
        if record.missing:
            return f"{record.missing} {_LOST_SHORT}"
        if one._unsure:
            return f"no key opens this record, also if up to {one._unsure} records were lost before it"
        if one.protection is not None:
            return "no key opens this record: it was altered, or the key log's secret is not this connection's"
        wanted = [label for epoch, label in _LABELS[one.side].items() if epoch >= max(one.epoch, Epoch.HANDSHAKE)]
        missing = [label.value for label in wanted if self._secrets is None or self._secrets.get(label) is None]
        if missing:
            return f"no key opens this record: the key log has no {' and no '.join(missing)} of this connection"
        return "no key opens this record: it was altered, or the key log's secrets are not this connection's"

    # -- events --

    def _note(self, event: Event, length: int = 0) -> None:
        """Keep an event of which there are many."""
        events = self.events
        if len(events) >= _MOST_NOTED:
            self._drop(event)
        elif self._memory.take(_EVENT_BYTES + length):
            events.append(event)
        else:
            self._leave_out(event)

    def _keep(self, event: Event, length: int = 0) -> None:
        """``length``: bytes in it."""
        if len(self.events) >= MOST_EVENTS:
            self._drop(event)
        elif self._memory.take(_EVENT_BYTES + length):
            self.events.append(event)
        else:
            self._leave_out(event)

    def _drop(self, event: Event) -> None:
        self.events_dropped += 1
        if isinstance(event, RecordSeen):
            self._dropped.pop(event.side, None)
            self._dropped[event.side] = event

    def _keep_dropped(self) -> None:
        """What ended a connection is told by its last records: keep those of each side, however many there were."""
        for side, event in self._dropped.items():
            last = self.index.last_record(side)
            if last is None or last.offset < event.offset:
                self._memory.take(_EVENT_BYTES)  # without room for it, too: it is one of two
                self.events.append(event)
                self.events_dropped -= 1
        self._dropped.clear()

    def _leave_out(self, event: Event) -> None:
        self._drop(event)
        if not self.left_out:
            self.left_out = True
            offset = self.direction(event.side)._reader.offset
            reason = f"{self._memory.words}: some of what follows is left out"
            self.events.append(Trouble(event.side, offset, reason))

    def _trouble(self, one: Direction, offset: int, reason: str) -> None:
        self._keep(Trouble(one.side, offset, reason))

    def __repr__(self) -> str:
        return f"<TlsSession [{self._client!r}, {self._server!r}]>"


def _may_begin_message(content: bytes) -> bool:
    if len(content) < MESSAGE_HEADER:
        return False
    return content[0] in _KNOWN_MESSAGES and int.from_bytes(content[1:MESSAGE_HEADER], "big") <= _LONGEST_AFTER_LOSS
