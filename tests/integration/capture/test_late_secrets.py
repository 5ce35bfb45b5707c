"""Secrets that come after what they decrypt decrypt it all the same; what waits for them is bounded."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.connection import Connection
from meshtls.capture.application import Conversation
from meshtls.capture.events import Event
from meshtls.capture.exchange import InsideBudget
from meshtls.capture.files.pcapng import SECTION_HEADER
from meshtls.capture.files.secrets_ahead import most_secrets
from meshtls.capture.files.writing import PcapngWriter
from meshtls.capture.keylog import KeyLog
from meshtls.capture.live.blocks import Captured
from meshtls.capture.live.capturing import Piece
from meshtls.capture.live.following import LATE_NS, Following, Told
from meshtls.capture.memory import MemoryPool
from meshtls.capture.session import TlsSession
from meshtls.wire.side import Side
from tests.support.packets import EPOCH, MS, pcap
from tests.support.tls_capture import Tape, shaken
from tests.support.tls_wire import Flight

AWAITED = 1 << 20


def lines_of(directory: Path) -> list[bytes]:
    return [line for line in (directory / "keys").read_bytes().splitlines(keepends=True) if not line.startswith(b"#")]


def played(flights: Sequence[Flight], keys: KeyLog | None, late: dict[int, bytes] | None = None) -> list[Event]:
    """The events of a session; ``late``: secrets that the key log gets before this flight, or after the last."""
    session = TlsSession(keys)
    for number, (side, data) in enumerate([*flights, (Side.CLIENT, b"")]):
        if late and number in late and keys is not None:
            keys.feed(late[number])
        if data:
            session.feed(side, data, EPOCH + number)
    session.look_again()
    for side in Side:
        session.end(side)
    session.settle()
    assert not session.waiting
    assert set(session.ended_at) == set(Side)
    return session.events


@pytest.mark.parametrize("version", [2, 3])
def test_secrets_that_come_at_any_time_decrypt_the_same(version: int, tmp_path: Path) -> None:
    flights = shaken(tmp_path, version=version).flights
    text = b"".join(lines_of(tmp_path))
    wanted = played(flights, KeyLog(text))
    assert any(getattr(one, "decrypted", False) for one in wanted)
    for at in range(len(flights) + 1):
        assert played(flights, KeyLog(awaited=AWAITED), {at: text}) == wanted, at


def test_secrets_that_come_one_by_one_decrypt_the_same(tmp_path: Path) -> None:
    flights = shaken(tmp_path).flights
    lines = lines_of(tmp_path)
    wanted = played(flights, KeyLog(b"".join(lines)))
    for first in range(len(flights)):
        late = {min(first + number, len(flights)): b"" for number in range(len(lines))}
        for number, line in enumerate(lines):
            late[min(first + number, len(flights))] += line
        assert played(flights, KeyLog(awaited=AWAITED), late) == wanted, first


def test_a_key_log_that_is_complete_is_not_waited_for(tmp_path: Path) -> None:
    complete, growing = TlsSession(KeyLog()), TlsSession(KeyLog(awaited=AWAITED))
    for side, data in shaken(tmp_path).flights:
        complete.feed(side, data, EPOCH)
        growing.feed(side, data, EPOCH)
    assert (complete.waiting, growing.waiting) == (False, True)


def test_without_secrets_the_events_are_those_of_lengths(tmp_path: Path) -> None:
    flights = shaken(tmp_path).flights
    assert played(flights, KeyLog(awaited=AWAITED)) == played(flights, None)


def test_a_gap_while_it_waits_is_read_as_if_it_had_not_waited(tmp_path: Path) -> None:
    flights = shaken(tmp_path).flights
    text = b"".join(lines_of(tmp_path))
    found = []
    for keys, late in ((KeyLog(text), b""), (KeyLog(awaited=AWAITED), text)):
        session = TlsSession(keys)
        *first, (side, data), last = flights
        for sender, sent in first:
            session.feed(sender, sent, EPOCH)
        session.feed(side, data[:3], EPOCH)
        session.gap(side, len(data) - 3)
        session.feed(*last, EPOCH)
        keys.feed(late)
        session.settle()
        found.append(session.events)
    assert found[0] == found[1]


@pytest.mark.parametrize(("awaited", "most"), [(2000, MemoryPool().most), (AWAITED, 6000)])
def test_waiting_records_have_a_bound_and_are_then_read_by_their_lengths(
    awaited: int, most: int, tmp_path: Path
) -> None:
    wire = shaken(tmp_path)
    keys = KeyLog(awaited=awaited)
    pool = MemoryPool(most)
    session = TlsSession(keys, memory=pool.share())
    for side, data in wire.flights:
        session.feed(side, data, EPOCH)
        assert pool.most - pool.left <= most
    assert not session.waiting
    keys.feed(b"".join(lines_of(tmp_path)))
    session.settle()
    assert not any(session.direction(side).decrypted for side in Side)
    assert all(session.direction(side).records for side in Side)


def test_the_conversation_inside_is_read_once_the_secrets_are_there(tmp_path: Path) -> None:
    keys = KeyLog(awaited=AWAITED)
    talk = Conversation(keys, budget=InsideBudget(memory=MemoryPool().share()))
    for side, data in shaken(tmp_path).flights:
        talk.feed(side, data, EPOCH)
    assert talk.waiting
    keys.feed(b"".join(lines_of(tmp_path)))
    talk.look_again()
    assert not talk.waiting
    assert talk.inside is not None
    assert [(one.path, one.status) for one in talk.inside.exchanges] == [("/pay?(12 bytes)", 200)]


@pytest.mark.parametrize("after", [0, 4, 6, 9, 99])
def test_secrets_that_a_file_has_after_its_packets_are_used(after: int, tmp_path: Path) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path))
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.interface(1)
    for number, frame in enumerate(tape.frames):
        if number == after:
            writer.secrets(b"".join(lines_of(tmp_path)))
        writer.packet(0, EPOCH + number * MS, frame)
    stream.seek(0)
    (found,) = Analysis(stream)
    told = (found.handshake is not None and found.handshake.decrypted, [one.status for one in found.requests])
    assert told == ((True, [200]) if after < len(tape.frames) else (False, []))
    assert found.outcome is not None
    assert found.outcome.name == "OK"


def pieces(tape: Tape) -> list[Captured]:
    return [Captured(EPOCH + number * MS, frame, len(frame)) for number, frame in enumerate(tape.frames)]


class Followed:
    """What is told of a live capture."""

    def __init__(self, most_late: int = 10) -> None:
        self.ended: list[Connection] = []
        self.following = Following(1, Told(lambda flow: None, self.ended.append), keys=True, most_late=most_late)

    def take(self, packets: list[Captured], secrets: bytes = b"", *, after_ns: int = 0) -> None:
        self.following.take(Piece(packets, secrets, EPOCH + after_ns))

    @property
    def decrypted(self) -> list[bool]:
        return [one.handshake is not None and one.handshake.decrypted for one in self.ended]


def test_a_live_connection_whose_secrets_come_after_its_end_is_told_then(tmp_path: Path) -> None:
    tape, seen = Tape(), Followed()
    tape.wire(shaken(tmp_path))
    seen.take(pieces(tape))
    assert seen.ended == []
    seen.take([], b"".join(lines_of(tmp_path)), after_ns=1)
    assert seen.decrypted == [True]


def test_a_live_connection_whose_secrets_do_not_come_is_told_a_moment_later(tmp_path: Path) -> None:
    tape, seen = Tape(), Followed()
    tape.wire(shaken(tmp_path))
    seen.take(pieces(tape))
    seen.take([], after_ns=LATE_NS - 1)
    assert seen.ended == []
    seen.take([], after_ns=LATE_NS)
    assert seen.decrypted == [False]


def test_a_live_connection_that_is_told_already_is_so_when_it_is_over(tmp_path: Path) -> None:
    tape, seen = Tape(), Followed()
    tape.wire(shaken(tmp_path))
    tape.plaintext(b"hello\r\n", b"goodbye\r\n")
    seen.take(pieces(tape), b"".join(lines_of(tmp_path)))
    assert seen.decrypted == [True, False]


def test_live_connections_that_wait_are_bounded_and_none_is_lost(tmp_path: Path) -> None:
    wire, seen = shaken(tmp_path), Followed(most_late=3)
    for port in range(5):
        tape = Tape(connections=port)
        tape.wire(wire)
        seen.take(pieces(tape))
    assert len(seen.ended) == 2
    seen.following.finish()
    assert [one.number for one in seen.ended] == [1, 2, 3, 4, 5]


def file_of(frames: Sequence[bytes], secrets: dict[int, bytes]) -> bytes:
    """A pcapng file, with these secrets before the frames of these numbers, or at its end."""
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.interface(1)
    for number, frame in enumerate([*frames, b""]):
        if number in secrets:
            writer.secrets(secrets[number])
        if frame:
            writer.packet(0, EPOCH + number * MS, frame)
    return stream.getvalue()


OTHERS = b"CLIENT_RANDOM " + b"00" * 32 + b" " + b"00" * 48 + b"\n"


@pytest.mark.parametrize(
    ("secrets", "request_bytes", "waits"),
    [
        ({}, b"hello", False),
        ({0: OTHERS}, b"hello", False),
        ({0: OTHERS, 5: OTHERS}, b"hello", False),
        ({0: OTHERS, -1: OTHERS}, b"hello", True),
        # What looks like the type of such a block.
        ({}, b"KSLT", True),
        ({}, b"TLSK", True),
    ],
)
def test_nothing_waits_for_secrets_that_a_file_does_not_have(
    secrets: dict[int, bytes], request_bytes: bytes, waits: bool, tmp_path: Path
) -> None:
    tape = Tape()
    tape.plaintext(request_bytes)
    tape.wire(shaken(tmp_path))
    last = len(tape.frames)
    data = file_of(tape.frames, {number if number >= 0 else last: text for number, text in secrets.items()})
    waited: list[bool] = []
    found = list(Analysis(io.BytesIO(data), keep=lambda watched: waited.append(watched.conversation.waiting)))
    assert sorted(waited) == [False, waits]
    # The records are the same as with a pipe, of which nothing is known beforehand.
    pipe = list(Analysis(Pipe(data)))
    assert [one.outcome for one in found] == [one.outcome for one in pipe]
    assert [(one.handshake, one.troubles, one.unknown_because) for one in found] == [
        (one.handshake, one.troubles, one.unknown_because) for one in pipe
    ]


class Pipe(io.BytesIO):
    """Bytes that can only be read forward."""

    def seekable(self) -> bool:
        return False


PIECE = 1 << 20


@pytest.mark.parametrize(
    ("stream", "count"),
    [
        (io.BytesIO(file_of([b"frame"], {})), 0),
        (io.BytesIO(file_of([b"frame"], {0: OTHERS, 1: OTHERS})), 2),
        (io.BytesIO(SECTION_HEADER + b"KSLT and TLSK"), 2),
        *((io.BytesIO(SECTION_HEADER.ljust(PIECE - cut, b".") + b"KSLT"), 1) for cut in range(5)),
        (io.BytesIO(SECTION_HEADER.ljust(PIECE, b".") + b"SLT"), 0),
        (Pipe(file_of([b"frame"], {})), None),
        (io.BytesIO(gzip.compress(file_of([b"frame"], {}))), None),
        (io.BytesIO(pcap([])), None),
        (io.BytesIO(b""), None),
    ],
)
def test_the_blocks_of_secrets_are_counted_before_the_file_is_read(stream: io.BytesIO, count: int | None) -> None:
    assert most_secrets(stream) == count
    assert stream.tell() == 0
