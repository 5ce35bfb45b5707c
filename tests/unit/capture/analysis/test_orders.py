"""Packets of the two directions that were captured in another order than they were sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.capture.analysis.orders import legal_in_another_order
from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from meshtls.wire.tls_states import Event, Step
from tests.support.tls_capture import Tape, analyzed, shaken

C, S, E = Side.CLIENT, Side.SERVER, Event
TO_FINISHED: list[Step] = [
    (C, E.CLIENT_HELLO),
    (S, E.SERVER_HELLO),
    (S, E.CHOOSES_1_3),
    (S, E.ENCRYPTED_EXTENSIONS),
    (S, E.CERTIFICATE_REQUEST),
    (S, E.CERTIFICATE),
    (S, E.CERTIFICATE_VERIFY),
    (S, E.FINISHED),
]
ANSWER: list[Step] = [(C, E.CERTIFICATE), (C, E.CERTIFICATE_VERIFY), (C, E.FINISHED)]
TICKET: Step = (S, E.NEW_SESSION_TICKET)


@pytest.mark.parametrize(
    ("steps", "legal"),
    [
        ([*TO_FINISHED, *ANSWER, TICKET], True),
        ([*TO_FINISHED, TICKET, *ANSWER], True),
        ([*TO_FINISHED, ANSWER[0], TICKET, *ANSWER[1:]], True),
        ([*TO_FINISHED[1:], TO_FINISHED[0], *ANSWER, TICKET], True),
        # The client's Finished never comes.
        ([*TO_FINISHED, TICKET, *ANSWER[:2]], False),
        # The client answers what it received.
        ([*TO_FINISHED, TICKET, (C, E.FATAL)], False),
        # Within one direction.
        ([*TO_FINISHED[:6], TO_FINISHED[7], TO_FINISHED[6], *ANSWER], False),
        ([*TO_FINISHED, *ANSWER[1:]], False),
        # What a message decides is not put off.
        ([*TO_FINISHED[:2], (S, E.IS_EMPTY), *ANSWER], False),
    ],
)
def test_only_the_order_within_a_direction_makes_steps_illegal(steps: list[Step], legal: bool) -> None:
    assert legal_in_another_order(steps) is legal


@pytest.mark.parametrize("swapped", [False, True])
def test_a_ticket_captured_before_the_clients_finished_is_not_told_as_illegal(tmp_path: Path, swapped: bool) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path))
    finished, tickets = 5, 6
    if swapped:
        tape.frames[finished], tape.frames[tickets] = tape.frames[tickets], tape.frames[finished]
    (found,) = analyzed(tape, tmp_path / "keys")
    assert found.handshake is not None
    assert (found.outcome, found.problem) == (Outcome.OK, "")
    if not swapped:
        assert (found.handshake.state, found.handshake.legal) == ("CLOSED", True)
        return
    assert found.handshake.legal is None
    assert found.handshake.state == (
        "not judged: only the order of the two sides in the capture makes it illegal: in TLS13_SERVER_FINISHED_ASKED "
        "came NewSessionTicket of the server; expected of the client: Certificate or ChangeCipherSpec; of the server: "
        "KeyUpdate or application data"
    )
