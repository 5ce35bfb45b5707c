"""An alert proves its cause only with what came before it."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from meshtls.capture.analysis.connection import Connection
from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from meshtls.wire.tls import Alert
from tests.support.tls_capture import Tape, analyzed, closed_by, shaken
from tests.support.tls_wire import Flight, Wire, contexts

SERVER = "the server 10.0.0.2:443"
CLIENT = "the client 10.0.0.1:40001"
UNKNOWN = (
    "sent the alert handshake_failure; not all of the handshake is in the capture, so that its cause is not shown: "
    "nothing in common with the client, or a client without a certificate"
)


def refused(directory: Path, *, certificate: bool) -> Wire:
    """A server of TLS 1.2 that wants a certificate: the client has none, or has no suite in common."""
    client, server = contexts(directory, directory / "keys", mutual=certificate, version=2)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(directory / "web-P-256.ca")
    if certificate:
        client.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # the server's key is of ECDSA
    wire = Wire(client, server)
    with contextlib.suppress(ssl.SSLError):
        assert wire.shake()
    return wire


def whole(frames: list[bytes]) -> list[bytes]:
    return frames


def without_the_beginning(frames: list[bytes]) -> list[bytes]:
    """TCP's handshake, the ClientHello, and the server's answer of two packets."""
    return frames[6:]


def without_the_server_hello(frames: list[bytes]) -> list[bytes]:
    return [*frames[:4], *frames[5:]]


def told(wire: Wire, cut: Callable[[list[bytes]], list[bytes]]) -> Connection:
    """Each flight in packets of 600 bytes."""
    tape = Tape()
    talk = tape.talk()
    tape.frames += talk.handshake()
    for side, data in wire.flights:
        tape.frames += [talk.send(side, data[at : at + 600]) for at in range(0, len(data), 600)]
    tape.frames += [talk.send(Side.SERVER, flags=17), talk.send(Side.CLIENT, flags=17), talk.send(Side.SERVER)]
    tape.frames = cut(tape.frames)
    (found,) = analyzed(tape)
    return found


@pytest.mark.parametrize(
    ("cut", "server"),
    [(without_the_beginning, f"{SERVER} (guessed by the ports)"), (without_the_server_hello, SERVER)],
)
def test_handshake_failure_proves_no_cause_without_what_came_before(
    tmp_path: Path, cut: Callable[[list[bytes]], list[bytes]], server: str
) -> None:
    wire = refused(tmp_path, certificate=False)
    found = told(wire, cut)
    assert [one.name for one in found.alerts] == ["handshake_failure"]
    assert (found.outcome, found.problem) == (None, f"{server} {UNKNOWN}")


@pytest.mark.parametrize("certificate", [False, True])
def test_a_whole_capture_shows_why_a_server_sent_handshake_failure(tmp_path: Path, certificate: bool) -> None:
    found = told(refused(tmp_path, certificate=certificate), whole)
    outcome = Outcome.HANDSHAKE_FAILED if certificate else Outcome.NO_CLIENT_CERTIFICATE
    why = f"it found no cipher suite, group or signature scheme in common with {CLIENT}"
    why = why if certificate else f"{CLIENT} presented no certificate"
    server = SERVER if certificate else f"{SERVER} (spiffe://a.test/web)"
    assert (found.outcome, found.problem) == (outcome, f"{server} sent the alert handshake_failure: {why}")


def in_clear(wire: Wire) -> list[Flight]:
    """The flights of TLS 1.2 without the client's ChangeCipherSpec, and what comes after that."""
    flight = wire.flights[2][1]
    return [*wire.flights[:2], (Side.CLIENT, flight[: flight.index(bytes((20, 3, 3, 0, 1, 1)))])]


@pytest.mark.parametrize(
    ("side", "what", "problem"),
    [
        (
            Side.SERVER,
            Alert.HANDSHAKE_FAILURE,
            f"{SERVER} (spiffe://a.test/web) sent the alert handshake_failure; a cipher suite was agreed on before"
            f" that, and the alert does not say what else of {CLIENT} (spiffe://a.test/client) is not acceptable",
        ),
        (
            Side.CLIENT,
            Alert.HANDSHAKE_FAILURE,
            f"{CLIENT} (spiffe://a.test/client) sent the alert handshake_failure; a cipher suite was agreed on before"
            f" that, and the alert does not say what else of {SERVER} (spiffe://a.test/web) is not acceptable",
        ),
        (
            Side.SERVER,
            Alert.INSUFFICIENT_SECURITY,
            f"{SERVER} (spiffe://a.test/web) sent the alert insufficient_security: what {CLIENT}"
            " (spiffe://a.test/client) offers is too weak for it",
        ),
    ],
)
def test_after_a_server_hello_handshake_failure_is_not_told_as_nothing_in_common(
    tmp_path: Path, side: Side, what: Alert, problem: str
) -> None:
    """The client has presented its certificate."""
    hellos = in_clear(shaken(tmp_path, version=2))
    found = closed_by(side, [*hellos, (side, bytes((21, 3, 3, 0, 2, 2, what)))])
    assert (found.outcome, found.problem) == (Outcome.HANDSHAKE_FAILED, problem)


def test_a_client_without_a_certificate_that_sends_handshake_failure_does_not_miss_one(tmp_path: Path) -> None:
    client, server = contexts(tmp_path, tmp_path / "keys", version=2)
    server.verify_mode = ssl.CERT_OPTIONAL
    server.load_verify_locations(tmp_path / "web-P-256.ca")
    wire = Wire(client, server)
    assert not wire.shake()
    for side, outcome in ((Side.CLIENT, Outcome.HANDSHAKE_FAILED), (Side.SERVER, Outcome.NO_CLIENT_CERTIFICATE)):
        found = closed_by(side, [*in_clear(wire), (side, bytes((21, 3, 3, 0, 2, 2, Alert.HANDSHAKE_FAILURE)))])
        assert found.outcome is outcome
