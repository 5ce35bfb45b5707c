"""Of a connection that was captured from its middle it is said why a key log does not decrypt it, and that its end
proves nothing.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshtls.capture.analysis.row import bytes_of
from meshtls.capture.memory import MemoryPool
from meshtls.capture.midway import MidwayRecords
from meshtls.capture.session import NO_CLIENT_HELLO
from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from tests.support.packets import ACK, FIN, RST, captured, pcap
from tests.support.tls_capture import REQUEST, RESPONSE, Tape, analyzed, shaken
from tests.support.tls_wire import Wire, contexts


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("keys", [True, False])
def test_a_key_log_does_not_help_where_the_client_hello_was_not_captured(
    version: int, keys: bool, tmp_path: Path
) -> None:
    tape = Tape()
    wire = shaken(tmp_path, version=version)
    tape.wire(wire)
    whole = analyzed(tape, tmp_path / "keys" if keys else None)
    # The handshakes of TCP and TLS are missing: what is left begins with application data.
    del tape.frames[: 3 + len(wire.flights) - 4]
    (found,) = analyzed(tape, tmp_path / "keys" if keys else None)
    assert (found.protocol, found.from_start, found.requests) == ("TLS", False, ())
    assert found.troubles == ((f"captured from its middle: {NO_CLIENT_HELLO}",) if keys else ())
    # The twin with its beginning.
    assert (len(whole[0].requests), whole[0].troubles) == (int(keys), ())


MIDDLE = "the connection was captured from its middle: "
UNKNOWN = f"{MIDDLE}it can't be known whether the server accepted the client"
SHAPED = {
    side: f", the last one of the {side} has the length of an alert" for side in (Side.CLIENT.value, Side.SERVER.value)
}
BOTH_CLOSED = f"{SHAPED['client']}{SHAPED['server']}: likely both closed"
#: What the records show without the ServerHello, or also without the client's Finished, by whether the server accepted.
SEEN = {
    (5, True): "6 records (1 change cipher spec, 5 application data) of the client and 4 records (4 application data)"
    f" of the server are seen{BOTH_CLOSED}",
    (5, False): "4 records (1 change cipher spec, 3 application data) of the client and 1 record (1 application data)"
    f" of the server are seen{SHAPED['server']}",
    (6, True): "2 records (2 application data) of the client and 4 records (4 application data) of the server are seen"
    f"{BOTH_CLOSED}",
}


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("missing", [4, 5, 6])
def test_a_refused_connection_is_not_ok_because_its_beginning_is_missing(
    missing: int, trusted: bool, tmp_path: Path
) -> None:
    """Without the ClientHello, the ServerHello, and the client's Finished."""
    tape = Tape()
    tape.wire(shaken(tmp_path, trusted=trusted))
    [whole] = analyzed(tape)
    assert (whole.outcome, "likely it refused" in whole.problem) == ((Outcome.OK, False) if trusted else (None, True))
    del tape.frames[:missing]
    [found] = analyzed(tape)
    # With the ServerHello, data after the handshake can be told from it.
    proven = trusted and missing == 4
    told = (found.protocol, found.outcome, found.problem, found.unknown_because)
    seen = SEEN.get((missing, trusted), "")
    unknown = f"{UNKNOWN}; {seen}" if seen else UNKNOWN
    assert told == ("TLS", Outcome.OK if proven else None, "", "" if proven else unknown)


@pytest.mark.parametrize("version", [2, 3])
def test_a_reset_after_a_close_that_began_before_the_capture_is_no_failure(version: int, tmp_path: Path) -> None:
    """The client sends close_notify and closes; the server's close_notify gets a RST."""
    wire = shaken(tmp_path, version=version)
    tape = Tape()
    talk = tape.talk()
    *flights, last = wire.flights
    tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in flights)]
    tape.frames += [talk.client(flags=FIN | ACK), talk.send(*last), talk.client(flags=RST | ACK)]
    [whole] = analyzed(tape)
    assert (whole.outcome, whole.problem) == (Outcome.OK, "")
    del tape.frames[: 3 + len(flights) - 3]
    [found] = analyzed(tape)
    assert (found.protocol, found.from_start, found.outcome, found.problem, found.advice) == (
        "TLS",
        False,
        None,
        "",
        "",
    )
    sent = "2 records (1 alert, 1 application data)" if version == 2 else "2 records (2 application data)"
    ends = ", the last one of the client is an alert, the last one of the server is an alert: likely both closed"
    seen = f"{sent} of the client and {sent} of the server are seen{ends if version == 2 else BOTH_CLOSED}"
    assert found.unknown_because == (
        f"{UNKNOWN}; {seen}; the client 10.0.0.1:40001 (guessed by the ports) reset the connection, and it can't be"
        " known whether both sides had sent close_notify"
    )


def test_bytes_that_are_no_tls_record_may_be_the_middle_of_one(tmp_path: Path) -> None:
    for said, answer, protocol, outcome in (
        (bytes((200, 1)) * 40, b"\xc3\x01" * 40, "other", None),
        (REQUEST, RESPONSE, "HTTP/1.1", Outcome.OK),
    ):
        tape = Tape()
        tape.plaintext(said, answer)
        [whole] = analyzed(tape)
        assert (whole.protocol, whole.outcome) == (protocol, Outcome.OK)
        del tape.frames[:3]
        [found] = analyzed(tape)
        assert (found.protocol, found.outcome) == (protocol, outcome)
        assert found.unknown_because == ("" if outcome else f"{MIDDLE}it can't be known whether this is TLS")


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize(
    ("lost", "protocol"),
    [((3, 4), "TLS"), ((3, 4, 5), "TLS"), ("headers", "nothing"), ("all", "nothing")],
)
def test_a_refused_connection_is_not_ok_because_the_hellos_are_lost(
    lost: Sequence[int] | str, protocol: str, trusted: bool, version: int, tmp_path: Path
) -> None:
    """The SYN is there. ``headers``: no packet has more than those of TCP. ``all``: what has data is lost."""
    tape = Tape()
    tape.wire(shaken(tmp_path, version=version, trusted=trusted))
    if lost == "all":
        lost = range(3, len(tape.frames) - 3)
    if isinstance(lost, str):
        data = pcap([one._replace(data=one.data[: 14 + 20 + 20]) for one in captured(tape.frames)])
    else:
        for at in reversed(lost):
            del tape.frames[at]
        data = tape.pcapng()
    [found] = analyzed(data)
    told = (found.protocol, found.outcome, found.problem)
    assert told == (protocol, None, "")
    assert found.unknown_because.startswith(MIDDLE)


def test_a_connection_that_is_open_at_the_end_is_reported_with_its_records_so_far(tmp_path: Path) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path), close=False)
    del tape.frames[:6]
    [found] = analyzed(tape)
    assert (found.protocol, found.outcome, found.problem) == ("TLS", None, "")
    assert found.unknown_because == f"the connection was open when the capture ended; {SEEN[6, True]}"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("records", [12, 1])
def test_tls_is_recognized_by_its_records_from_within_one_on(version: int, records: int, tmp_path: Path) -> None:
    """The capture begins within a record of the server's, and is of this connection alone."""
    wire = Wire(*contexts(tmp_path, tmp_path / "keys", mutual=True, version=version))
    assert not wire.shake()
    before, large = len(wire.flights), bytes(9000)
    for _ in range(records):
        wire.send(Side.CLIENT, REQUEST)
        wire.send(Side.SERVER, large)
    flights = [(side, data[at : at + 1000]) for side, data in wire.flights[before:] for at in range(0, len(data), 1000)]
    tape = Tape()
    talk = tape.talk()
    tape.frames += talk.handshake()
    tape.frames += [talk.send(side, data) for side, data in wire.flights[:before]]
    begin = len(tape.frames)
    tape.frames += [talk.send(side, data) for side, data in flights]
    tape.frames += talk.close()
    del tape.frames[: begin + 3]
    [found] = analyzed(tape)
    assert (found.outcome, found.problem, found.from_start) == (None, "", False)
    if records == 1:
        assert (found.protocol, found.unknown_because) == ("other", f"{MIDDLE}it can't be known whether this is TLS")
        return
    sides = {side.value: f"11 records (11 application data) of the {side.value}" for side in Side}
    assert (found.protocol, found.unknown_because) == (
        "TLS",
        f"{UNKNOWN}; {sides['client']} and {sides['server']} are seen",
    )
    assert bytes_of(found) == f"<={found.application_bytes}"
    sent = 11 * len(REQUEST) + 12 * len(large) - 2000
    assert sent < found.application_bytes < sent + 24 * 32
    assert found.client.tls_bytes + found.server.tls_bytes < found.client.tcp_bytes + found.server.tcp_bytes


DATA = bytes.fromhex("1703030020") + bytes(32)
ENDING = bytes.fromhex("1503030013") + bytes(19)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([DATA, DATA], "2 records (2 application data) of the client are seen"),
        ([b"the rest of a record" + DATA, DATA], "2 records (2 application data) of the client are seen"),
        (
            [DATA[7:], DATA[:9], DATA[9:] + ENDING],
            "2 records (1 alert, 1 application data) of the client are seen, the last one of the client is an alert",
        ),
        # The last record that is whole is not the last one.
        ([DATA, ENDING, DATA[:9]], "2 records (1 alert, 1 application data) of the client are seen"),
        # One record, and what is no record after one.
        ([DATA], ""),
        ([DATA, DATA, b"no record"], ""),
        # A header of another version, and one that is followed by none.
        ([DATA.replace(b"\x03\x03", b"\x03\x09")] * 2, ""),
        ([DATA[:-1] + b"something else", DATA[:30]], ""),
        ([bytes(40_000)], ""),
    ],
)
def test_records_count_where_one_follows_another(pieces: list[bytes], words: str) -> None:
    pool = MemoryPool()
    midway = MidwayRecords(pool.share())
    for piece in pieces:
        midway.feed(Side.CLIENT, piece, 1)
    assert midway.words() == words


def test_records_are_found_again_after_lost_bytes() -> None:
    midway = MidwayRecords(MemoryPool().share())
    midway.feed(Side.SERVER, DATA + DATA[:20], 1)
    midway.gap(Side.SERVER, 5)  # within the record
    midway.feed(Side.SERVER, DATA[25:], 2)
    assert midway.words() == "2 records (2 application data) of the server are seen"
    midway.gap(Side.SERVER, 0)
    midway.feed(Side.SERVER, DATA[9:] + DATA, 3)
    assert midway.words() == "3 records (3 application data) of the server are seen"
    midway.turn()
    assert midway.words() == "3 records (3 application data) of the client are seen"


def test_kept_parts_of_records_are_drawn_from_the_memory_of_all_connections() -> None:
    pool = MemoryPool(1 << 10)
    midway = MidwayRecords(pool.share())
    midway.feed(Side.CLIENT, bytes(500), 1)
    assert pool.left == 524
    midway.feed(Side.SERVER, bytes(600), 1)
    assert (pool.left, pool.refused) == (524, 1)
    # The other side is read on, and once it begins with a record, nothing of it is kept.
    midway.feed(Side.CLIENT, DATA, 1)
    midway.feed(Side.CLIENT, DATA, 1)
    assert (pool.left, midway.words()) == (1024, "2 records (2 application data) of the client are seen")


@pytest.mark.parametrize("missing", [0, 4])
@pytest.mark.parametrize("first", [Side.CLIENT, Side.SERVER])
@pytest.mark.parametrize("fin", [True, False])
def test_a_fin_before_a_reset_counts_also_without_the_beginning(
    first: Side, missing: int, fin: bool, tmp_path: Path
) -> None:
    """One side sends close_notify, the other closes, and the first one resets."""
    wire = Wire(*contexts(tmp_path, tmp_path / "keys", mutual=True, version=2))
    assert not wire.shake()
    wire.send(Side.CLIENT, REQUEST)
    wire.send(Side.SERVER, RESPONSE)
    with contextlib.suppress(ssl.SSLError):
        (wire.client if first is Side.CLIENT else wire.server).unwrap()
    wire.carry(first)
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in wire.flights)]
    tape.frames += [talk.send(first.other, flags=FIN | ACK)] if fin else []
    tape.frames.append(talk.send(first, flags=RST | ACK))
    del tape.frames[:missing]
    [found] = analyzed(tape)
    ends = {Side.CLIENT: found.client.ending, Side.SERVER: found.server.ending}
    assert (ends[first], ends[first.other]) == ("reset", "closed" if fin else "reset by the peer")
    assert found.outcome is (Outcome.OK if fin else Outcome.RESET)
