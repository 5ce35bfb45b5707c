"""A wrong secret, an altered byte, a cut and lost bytes: each is told with its offset, and all else is decrypted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from meshtls.capture.events import ApplicationBytes, MessageSeen, Trouble
from meshtls.capture.keylog import KeyLog
from meshtls.capture.session import MOST_FAILURES, TlsSession
from meshtls.wire.side import Side
from tests.support.tls_wire import Wire, contexts

WORDS = [f"message {number} ".encode() * 20 for number in range(12)]
ALTERED = "no key opens this record: it was altered, or the key log's secret is not this connection's"


class Said:
    """A connection on which the server said WORDS and the client one word; what each side sent, and its records."""

    def __init__(self, directory: Path, version: int, words: list[bytes] = WORDS) -> None:
        self.keylog = directory / "keys.log"
        wire = Wire(*contexts(directory, self.keylog, mutual=True, version=version))
        assert wire.shake() == {}
        wire.send(Side.CLIENT, b"begin")
        for word in words:
            wire.send(Side.SERVER, word)
        wire.send(Side.CLIENT, b"end")
        wire.close()
        self.flights = wire.flights
        self.keys = KeyLog(self.keylog.read_bytes())

    def records(self, side: Side) -> list[tuple[int, int]]:
        """Where each record begins and ends."""
        data, at, found = b"".join(data for sender, data in self.flights if sender is side), 0, []
        while at < len(data):
            end = at + 5 + int.from_bytes(data[at + 3 : at + 5], "big")
            found.append((at, end))
            at = end
        return found

    def words(self) -> list[tuple[int, int]]:
        """The server's records of WORDS; close_notify comes after them."""
        return self.records(Side.SERVER)[-len(WORDS) - 1 : -1]

    def session(
        self, change: Callable[[int, bytes], bytes | None] | None = None, *, keys: KeyLog | None = None
    ) -> TlsSession:
        """Fed in pieces; ``change`` may alter, shorten, or lose as None, what the server sent at an offset."""
        session = TlsSession(keys or self.keys)
        offset = 0
        for side, data in self.flights:
            if side is Side.CLIENT or change is None:
                session.feed(side, data, 1)
                continue
            changed = change(offset, data)
            offset += len(data)
            if changed is None:
                session.gap(side, len(data))
            else:
                session.feed(side, changed, 1)
                if len(changed) < len(data):
                    session.gap(side, len(data) - len(changed))
        return session


def text(session: TlsSession, side: Side) -> list[bytes]:
    return [one.plaintext or b"" for one in session.events if isinstance(one, ApplicationBytes) and one.side is side]


def troubles(session: TlsSession) -> list[Trouble]:
    return [one for one in session.events if isinstance(one, Trouble)]


@pytest.fixture(params=[2, 3])
def said(request: pytest.FixtureRequest, tmp_path: Path) -> Said:
    return Said(tmp_path, request.param)


def test_a_whole_session_has_no_troubles(said: Said) -> None:
    session = said.session()
    assert (troubles(session), text(session, Side.SERVER)) == ([], WORDS)


def test_an_altered_byte_costs_one_record(said: Said) -> None:
    start, end = said.words()[4]

    def altered(offset: int, data: bytes) -> bytes:
        if not offset <= start < offset + len(data):
            return data
        changed = bytearray(data)
        changed[end - 1 - offset] ^= 1
        return bytes(changed)

    session = said.session(altered)
    assert troubles(session) == [Trouble(Side.SERVER, start, ALTERED)]
    assert text(session, Side.SERVER) == WORDS[:4] + WORDS[5:]
    assert text(session, Side.CLIENT) == [b"begin", b"end"]


@pytest.mark.parametrize("count", [1, 5])
def test_after_lost_records_the_number_of_the_next_is_found(said: Said, count: int) -> None:
    lost = said.words()[3 : 3 + count]
    session = said.session(lambda offset, data: None if any(start == offset for start, _ in lost) else data)
    size = lost[0][1] - lost[0][0]
    assert [one.reason for one in troubles(session)] == [f"{size} bytes are lost"] * count
    assert text(session, Side.SERVER) == WORDS[:3] + WORDS[3 + count :]
    assert text(session, Side.CLIENT) == [b"begin", b"end"]


def test_lost_bytes_within_a_record_cost_that_record(said: Said) -> None:
    start, end = said.words()[4]
    session = TlsSession(said.keys)
    offset = 0
    for side, data in said.flights:
        if side is Side.SERVER and offset == start:
            session.feed(side, data[:20], 1)
            session.gap(side, 30)
            session.feed(side, data[50:], 1)
        else:
            session.feed(side, data, 1)
        offset += len(data) if side is Side.SERVER else 0
    assert troubles(session) == [Trouble(Side.SERVER, start, "30 bytes of a record are missing")]
    assert text(session, Side.SERVER) == WORDS[:4] + WORDS[5:]
    assert end - start > 50


def test_a_gap_from_within_a_record_into_another_is_passed(said: Said) -> None:
    first, _ = said.words()[4]
    session = TlsSession(said.keys)
    data = b"".join(data for side, data in said.flights if side is Side.SERVER)
    for side, part in said.flights:
        if side is Side.CLIENT:
            session.feed(side, part, 1)
            if part is said.flights[0][1]:
                session.feed(Side.SERVER, data[: first + 20], 1)
    second, _ = said.words()[6]
    session.gap(Side.SERVER, second + 30 - first - 20)
    session.feed(Side.SERVER, data[second + 30 :], 1)
    assert [one.reason for one in troubles(session)] == [f"{second + 10 - first} bytes are lost"]
    assert text(session, Side.SERVER) == WORDS[:4] + WORDS[7:]


def test_a_gap_of_which_nobody_knows_the_length_is_passed(said: Said) -> None:
    lost = said.words()[3][0]
    session = TlsSession(said.keys)
    offset = 0
    for side, data in said.flights:
        if side is Side.SERVER and offset == lost:
            session.gap(side, 0)
        else:
            session.feed(side, data, 1)
        offset += len(data) if side is Side.SERVER else 0
    assert [one.reason for one in troubles(session)] == ["bytes are lost"]
    assert text(session, Side.SERVER) == WORDS[:3] + WORDS[4:]


def test_a_wrong_master_secret_of_tls_1_2_is_told_for_each_direction(tmp_path: Path) -> None:
    said = Said(tmp_path, 2)
    text_of_file = said.keylog.read_text().rstrip()
    session = said.session(keys=KeyLog(f"{text_of_file[:-4]}0000\n".encode()))
    finished = [(one.side, one.reason) for one in troubles(session)]
    assert finished == [(Side.CLIENT, ALTERED), (Side.SERVER, ALTERED)]
    assert text(session, Side.SERVER) + text(session, Side.CLIENT) == []


def test_a_wrong_secret_is_told_once_and_the_other_direction_goes_on(tmp_path: Path) -> None:
    said = Said(tmp_path, 3)
    lines = said.keylog.read_text().split("\n")
    wrong = [one[:-4] + "0000" if one.startswith("SERVER_TRAFFIC") else one for one in lines]
    session = said.session(keys=KeyLog("\n".join(wrong).encode()))
    # NewSessionTicket is the first message under these keys.
    first = said.words()[0][0]
    ((side, offset, reason),) = troubles(session)
    assert (side, reason) == (Side.SERVER, ALTERED)
    assert offset < first
    assert text(session, Side.SERVER) == []
    assert text(session, Side.CLIENT) == [b"begin", b"end"]
    assert [one.kind for one in session.events if isinstance(one, MessageSeen)][-1] == 20


def test_after_many_failures_only_lengths_are_read(tmp_path: Path) -> None:
    said = Said(tmp_path, 3, [b"word"] * (MOST_FAILURES + 5))
    lines = said.keylog.read_text().split("\n")
    wrong = [one[:-4] + "0000" if one.startswith("SERVER_TRAFFIC") else one for one in lines]
    session = said.session(keys=KeyLog("\n".join(wrong).encode()))
    assert [one.reason for one in troubles(session)] == [
        ALTERED,
        f"{MOST_FAILURES} records in a row can't be decrypted: from here on only lengths are read",
    ]
    assert (session.direction(Side.SERVER).opaque, session.direction(Side.CLIENT).opaque) == (True, False)


def test_a_key_log_without_the_handshake_s_secrets_still_opens_the_data(tmp_path: Path) -> None:
    said = Said(tmp_path, 3)
    lines = said.keylog.read_text().split("\n")
    keys = KeyLog("\n".join(one for one in lines if "HANDSHAKE" not in one).encode())
    session = said.session(keys=keys)
    assert [(one.side, one.reason) for one in troubles(session)] == [
        (side, f"no key opens this record: the key log has no {side.name}_HANDSHAKE_TRAFFIC_SECRET of this connection")
        for side in (Side.SERVER, Side.CLIENT)
    ]
    assert text(session, Side.SERVER) == WORDS
    assert text(session, Side.CLIENT) == [b"begin", b"end"]


def test_a_lost_handshake_flight_still_opens_the_data(tmp_path: Path) -> None:
    said = Said(tmp_path, 3)
    hello_end = said.records(Side.SERVER)[0][1]
    session = said.session(lambda offset, data: data[:hello_end] if offset == 0 else data)
    assert text(session, Side.SERVER) == WORDS


def test_a_cut_record_is_told(said: Said) -> None:
    session = TlsSession(said.keys)
    for side, data in said.flights[:-1]:
        session.feed(side, data, 1)
    side, data = said.flights[-1]
    session.feed(side, data[:-1], 1)
    session.end(side)
    start, _ = said.records(side)[-1]
    assert troubles(session) == [Trouble(side, start, "the connection ends within this record")]
