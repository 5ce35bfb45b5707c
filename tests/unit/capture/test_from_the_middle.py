"""Of a connection that was captured from its middle it is said why a key log does not decrypt it, and that its end
proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from meshtls.capture.session import NO_CLIENT_HELLO
from meshtls.observe.events import Outcome
from tests.support.packets import ACK, FIN, RST, captured, pcap
from tests.support.tls_capture import REQUEST, RESPONSE, Tape, analyzed, shaken


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
    assert told == ("TLS", Outcome.OK if proven else None, "", "" if proven else UNKNOWN)


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
    assert found.unknown_because == (
        f"{UNKNOWN}; the client 10.0.0.1:40001 (guessed by the ports) reset the connection, and it can't be known"
        " whether both sides had sent close_notify"
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
