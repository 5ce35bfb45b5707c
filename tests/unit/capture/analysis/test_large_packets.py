"""A handshake whose large packets don't arrive, as where an MTU is smaller than both ends assume."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from meshtls.capture.analysis.connection import Connection
from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from tests.support.packets import ACK, FIN, RST
from tests.support.tls_capture import Tape, analyzed
from tests.support.tls_wire import Flight, Wire, contexts

C, S = Side.CLIENT, Side.SERVER
CLIENT = "the client 10.0.0.1:40001"
MTU = "compare the MTU of both hosts and of all links between them, such as tunnels: "


def begun(directory: Path, version: int) -> list[Flight]:
    """A ClientHello, and what the server answers, which wants a certificate; and its alert when the client leaves."""
    wire = Wire(*contexts(directory, directory / "keys", mutual=True, version=version))
    for end, side in ((wire.client, C), (wire.server, S)):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
        wire.carry(side)
    wire.end(C)
    assert [side for side, _ in wire.flights] == [C, S, S]
    return wire.flights


def sent(flights: Sequence[Flight], *, arrives: bool, closes: Side, waited: int, again: bool) -> Connection:
    """At the server: its answer, ``again`` after a while, until a side closes."""
    (_, hello), (_, answer), (_, alert) = flights
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), talk.client(hello), talk.server(flags=ACK)]
    at = talk.next[S]
    tape.frames.append(talk.server(answer))
    got = at + len(answer) if arrives else at
    if again:
        tape.wait(200)
        tape.frames.append(talk.server(answer, seq=at))
    tape.frames.append(talk.send(C, ack=got))
    tape.wait(waited)
    if closes is C:
        tape.frames += [talk.send(C, flags=FIN | ACK, ack=got), talk.server(alert), talk.client(flags=RST)]
    else:
        tape.frames += [talk.server(flags=FIN | ACK), talk.send(C, flags=FIN | ACK, ack=got)]
    (found,) = analyzed(tape)
    return found


@pytest.mark.parametrize("closes", [C, S])
@pytest.mark.parametrize("version", [2, 3])
def test_an_answer_that_is_sent_again_and_never_acknowledged_did_not_arrive(
    tmp_path: Path, version: int, closes: Side
) -> None:
    flights = begun(tmp_path, version)
    found = sent(flights, arrives=False, closes=closes, waited=4000, again=True)
    point, server = "ServerHello", "the server 10.0.0.2:443"
    if version == 2:
        point, server = "ServerHelloDone", f"{server} (spiffe://a.test/web)"
    ended = CLIENT if closes is C else server
    count = sum(len(data) for side, data in flights[: 3 if closes is C else 2] if side is S)
    assert (found.outcome, found.problem) == (
        Outcome.HANDSHAKE_TIMEOUT,
        f"{CLIENT} did not acknowledge {count} bytes of {server}, which sent some of them again during the handshake, "
        f"after the server's {point}, and {ended} closed the connection after 4.2 s: likely large packets "
        "of the server do not arrive",
    )
    assert found.advice.startswith(MTU)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("arrives", "waited", "again"), [(True, 4000, True), (True, 4000, False), (False, 0, True), (False, 4000, False)]
)
def test_an_answer_that_arrived_or_was_not_awaited_is_not_told_so(
    tmp_path: Path, version: int, arrives: bool, waited: int, again: bool
) -> None:
    found = sent(begun(tmp_path, version), arrives=arrives, closes=C, waited=waited, again=again)
    assert found.outcome is Outcome.CLOSED_EARLY
    assert not found.advice.startswith(MTU)


@pytest.mark.parametrize("waited", [4000, 0])
@pytest.mark.parametrize("cut", [True, False])
def test_a_record_of_the_server_that_is_not_whole_is_its_turn(tmp_path: Path, cut: bool, waited: int) -> None:
    """At the client, where the rest of it does not arrive."""
    (_, hello), (_, answer), _ = begun(tmp_path, 3)
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), talk.client(hello), talk.server(answer[: -400 if cut else None])]
    tape.wait(waited)
    tape.frames += [talk.client(flags=FIN | ACK), talk.client(flags=RST)]
    (found,) = analyzed(tape)
    point = "after the server's ServerHello"
    if cut:
        point = f"{point} and a part of its next record"
    if cut and waited:
        assert (found.outcome, found.problem) == (
            Outcome.HANDSHAKE_TIMEOUT,
            f"the server 10.0.0.2:443 did not go on with the handshake {point}, and {CLIENT} closed the connection "
            "after 4.0 s: likely large packets of the server do not arrive",
        )
        assert found.advice.startswith(MTU)
    else:
        assert (found.outcome, found.problem) == (
            Outcome.CLOSED_EARLY,
            f"{CLIENT} closed the connection during the handshake, {point}, without an alert",
        )
