"""An outcome is what a capture proves. What records of TLS 1.3 only suggest, without keys, is told in words."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from meshtls.capture.analysis.connection import Connection
from meshtls.capture.session import MOST_EVENTS
from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from meshtls.wire.tls import Alert
from tests.support.packets import ACK, FIN, RST, SYN, Talk
from tests.support.tls_capture import REQUEST, RESPONSE, Tape, analyzed, shaken
from tests.support.tls_wire import Flight, Wire, contexts, files_of

C, S = Side.CLIENT, Side.SERVER
CLIENT, SERVER = "the client 10.0.0.1:40001", "the server 10.0.0.2:443"
SHAPED = "an encrypted record of the length of an alert"
NO_DATA = "and no application data that can be told from session tickets"
KEYS = "the keys (--keylog FILE) show it"
WARNING, FATAL = 1, 2


def mutual(directory: Path, *, version: int = 3, ciphers: str = "") -> Wire:
    """Both have shaken hands."""
    wire = Wire(*contexts(directory, directory / "keys", mutual=True, version=version, ciphers=ciphers))
    assert not wire.shake()
    return wire


def close_notify(wire: Wire, side: Side) -> None:
    end = wire.client if side is C else wire.server
    with contextlib.suppress(ssl.SSLWantReadError):
        end.unwrap()
    wire.carry(side)


def taped(flights: Sequence[Flight], *, first: Side = S, how: int = FIN | ACK, before_last: int = 0) -> Tape:
    """The flights of a connection that ``first`` closes, and then the other side. ``before_last``: so many milliseconds
    pass before the last flight.
    """
    tape = Tape()
    talk = tape.talk()
    tape.frames += talk.handshake()
    for number, (side, data) in enumerate(flights, 1):
        if before_last and number == len(flights):
            tape.wait(before_last)
        tape.frames.append(talk.send(side, data))
    tape.frames.append(talk.send(first, flags=how))
    if how & FIN:
        tape.frames += [talk.send(first.other, flags=FIN | ACK), talk.send(first)]
    return tape


def told(tape: Tape, keys: Path | None = None) -> Connection:
    (found,) = analyzed(tape, keys)
    return found


def idle(wire: Wire) -> None:
    close_notify(wire, S)


def greeting(wire: Wire) -> None:
    wire.send(S, b"220 mail.test ESMTP at your service\r\n")
    close_notify(wire, S)


def short_answer(wire: Wire) -> None:
    wire.send(C, REQUEST)
    wire.send(S, b"ok")


def long_answer(wire: Wire) -> None:
    wire.send(C, REQUEST)
    wire.send(S, RESPONSE)
    close_notify(wire, S)


def download(wire: Wire) -> None:
    """More than session tickets have."""
    wire.send(S, bytes(3000))
    close_notify(wire, S)


@pytest.mark.parametrize("version", [3, 2])
@pytest.mark.parametrize("what", [idle, greeting, short_answer, long_answer, download])
def test_a_good_connection_is_never_told_as_failed(what: Callable[[Wire], None], version: int, tmp_path: Path) -> None:
    wire = mutual(tmp_path, version=version)
    what(wire)
    tape = taped(wire.flights)
    assert told(tape, tmp_path / "keys").outcome is Outcome.OK
    found = told(tape)
    proven = what in (long_answer, download) or (version == 2 and what is not idle)
    assert (found.outcome, bool(found.unknown_because or found.problem)) == (
        (Outcome.OK, False) if proven else (None, True)
    )


def test_the_first_records_of_a_server_are_not_all_session_tickets(tmp_path: Path) -> None:
    wire = mutual(tmp_path)
    download(wire)
    found = told(taped(wire.flights))
    assert (found.client.application_bytes, found.server.application_bytes) == (0, 3000)


def _records(flight: bytes) -> list[bytes]:
    found = []
    while flight:
        end = 5 + int.from_bytes(flight[3:5], "big")
        found.append(flight[:end])
        flight = flight[end:]
    return found


@pytest.mark.parametrize("packets", ["one", "two", "around the request"])
@pytest.mark.parametrize("answered", [True, False])
def test_session_tickets_are_no_data_however_they_and_the_request_are_ordered(
    tmp_path: Path, packets: str, answered: bool
) -> None:
    wire = mutual(tmp_path)
    wire.send(C, REQUEST)
    *shake, (side, tickets), request = wire.flights
    assert (side, len(_records(tickets))) == (S, 2)
    first, second = _records(tickets)
    orders = {
        "one": [request, (S, tickets)],
        "two": [request, (S, first), (S, second)],
        "around the request": [(S, first), request, (S, second)],
    }
    del wire.flights[:]
    if answered:
        wire.send(S, RESPONSE)
    close_notify(wire, S)
    tape = taped([*shake, *orders[packets], *wire.flights])
    found = told(tape)
    assert found.client.application_bytes == len(REQUEST)
    assert found.server.application_bytes == (len(RESPONSE) if answered else 0)
    assert found.outcome is (Outcome.OK if answered else None)
    assert ("likely it refused the client" in found.problem) is not answered
    assert told(tape, tmp_path / "keys").outcome is Outcome.OK


@pytest.mark.parametrize("version", [2, 3])
def test_the_servers_finished_of_tls_1_2_shows_that_it_accepted_the_client(tmp_path: Path, version: int) -> None:
    wire = mutual(tmp_path, version=version)
    close_notify(wire, C)
    found = told(taped(wire.flights, first=C))
    assert found.outcome is (Outcome.OK if version == 2 else None)


@pytest.mark.parametrize(
    ("waited", "problem", "unknown_because"),
    [
        (0, "{}: likely it refused the client's certificate or identity; {}", ""),
        (5000, "", "{}: likely it closed an idle connection; {}"),
    ],
)
def test_how_soon_a_server_ends_a_connection_suggests_why(
    tmp_path: Path, waited: int, problem: str, unknown_because: str
) -> None:
    wire = mutual(tmp_path)
    idle(wire)
    found = told(taped(wire.flights, before_last=waited))
    seen = f"{SERVER} sent {SHAPED} {waited + 2}.0 ms after the client's Finished, {NO_DATA}"
    assert (found.outcome, found.problem, found.unknown_because) == (
        None,
        problem.format(seen, KEYS),
        unknown_because.format(seen, KEYS),
    )


def test_a_key_log_of_another_run_is_told_and_not_asked_for(tmp_path: Path) -> None:
    wire = mutual(tmp_path)
    idle(wire)
    own, other = tmp_path / "keys", tmp_path / "other"
    random = wire.flights[0][1][11:43].hex()
    other.write_text(own.read_text("ascii").replace(random, "00" * 32), "ascii")
    lacks = "the key log has no secrets of this connection"
    plain, wrong, right = (told(taped(wire.flights), keys) for keys in (None, other, own))
    assert [one.troubles for one in (plain, wrong, right)] == [(), (lacks,), ()]
    assert plain.problem.endswith(f"; {KEYS}")
    assert wrong.problem == plain.problem.replace(KEYS, f"{lacks}, which would show it")
    ask = f"`meshtls explain connection {wrong.connection_id} --sidecar FILE` has a sidecar's own words"
    assert wrong.advice == f"give the keys of this run (--keylog FILE): each connection has its own; {ask}"


def test_a_server_whose_alert_is_answered_did_not_refuse(tmp_path: Path) -> None:
    wire = mutual(tmp_path)
    close_notify(wire, S)
    close_notify(wire, C)
    found = told(taped(wire.flights))
    assert (found.outcome, found.problem) == (None, "")
    assert "likely it closed an idle connection" in found.unknown_because


def test_a_client_that_only_probes_is_not_told_as_refused(tmp_path: Path) -> None:
    wire = mutual(tmp_path)
    close_notify(wire, C)
    tape = taped(wire.flights, first=C)
    assert told(tape, tmp_path / "keys").outcome is Outcome.OK
    found = told(tape)
    assert (found.outcome, found.problem, found.unknown_because) == (
        None,
        "",
        f"{CLIENT} sent {SHAPED} 2.0 ms after its Finished, and neither side sent application data: likely it only "
        f"probed the server, or refused its identity; {KEYS}",
    )


@pytest.mark.parametrize("last", [C, S])
def test_a_client_that_only_sends_ends_ok_unless_the_server_may_have_refused_it(tmp_path: Path, last: Side) -> None:
    wire = mutual(tmp_path)
    wire.send(C, REQUEST)
    close_notify(wire, C)
    if last is S:
        close_notify(wire, S)
    found = told(taped(wire.flights, first=C))
    unknown = f"{SERVER} sent no application data that can be told from session tickets, and {SHAPED}: {KEYS}"
    if last is C:
        assert (found.outcome, found.unknown_because) == (Outcome.OK, "")
    else:
        assert (found.outcome, found.problem) == (None, "")
        assert found.unknown_because.startswith((unknown, f"{SERVER} sent {SHAPED}"))


@pytest.mark.parametrize("label", ["CLIENT", "SERVER"])
def test_a_handshake_is_complete_with_the_keys_of_one_side(tmp_path: Path, label: str) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path))
    lines = (tmp_path / "keys").read_text("ascii").splitlines(keepends=True)
    half = tmp_path / "half"
    half.write_text("".join(line for line in lines if line.startswith(label)), "ascii")
    found = told(tape, half)
    assert found.handshake is not None
    assert (found.handshake.complete, found.handshake.round_trips, found.handshake.ms) == (True, 1, 2.0)
    assert (found.client.application_bytes, found.server.application_bytes) == (len(REQUEST), len(RESPONSE))
    assert (found.outcome, found.estimated) == (Outcome.OK, True)


def test_the_flight_of_a_client_may_come_in_many_packets(tmp_path: Path) -> None:
    wire = shaken(tmp_path)
    pieces = [(side, data[at : at + 300]) for side, data in wire.flights for at in range(0, len(data), 300)]
    found = told(taped(pieces))
    assert (found.client.application_bytes, found.server.application_bytes) == (len(REQUEST), len(RESPONSE))


@pytest.mark.parametrize(
    "suite",
    [
        *("ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        "ECDHE-ECDSA-CAMELLIA128-SHA256",
    ],
)
def test_bytes_of_a_suite_that_is_not_decrypted_are_an_estimate(tmp_path: Path, suite: str) -> None:
    wire = mutual(tmp_path, version=2, ciphers=suite)
    wire.send(C, REQUEST)
    wire.send(S, RESPONSE)
    for keys in (None, tmp_path / "keys"):
        found = told(taped(wire.flights), keys)
        decrypted = keys is not None and "CAMELLIA" not in suite
        most = 0 if decrypted or "GCM" in suite else 8  # half of a block
        assert found.estimated is not decrypted
        assert abs(found.client.application_bytes - len(REQUEST)) <= most
        assert abs(found.server.application_bytes - len(RESPONSE)) <= most


def alert(level: int, what: Alert) -> bytes:
    return bytes((21, 3, 3, 0, 2, level, what))


@pytest.mark.parametrize(
    ("level", "outcome", "problem"),
    [
        (WARNING, Outcome.OK, ""),
        (
            FATAL,
            Outcome.HANDSHAKE_FAILED,
            f"{SERVER} (spiffe://a.test/web) sent the alert unrecognized_name: it does not know the server name that"
            f" {CLIENT} (spiffe://a.test/client) asks for",
        ),
    ],
)
def test_a_warning_of_tls_1_2_ends_nothing(tmp_path: Path, level: int, outcome: Outcome, problem: str) -> None:
    wire = shaken(tmp_path, version=2)
    flights = list(wire.flights)
    flights[1] = (S, alert(level, Alert.UNRECOGNIZED_NAME) + flights[1][1])
    found = told(taped(flights), tmp_path / "keys")
    assert (found.outcome, found.problem) == (outcome, problem)
    assert (found.alerts[0].name, found.alerts[0].fatal) == ("unrecognized_name", level == FATAL)


@pytest.mark.parametrize(("version", "fatal"), [(3, True), (2, False)])
def test_the_level_of_an_alert_means_nothing_in_tls_1_3(tmp_path: Path, version: int, fatal: bool) -> None:
    """A client that warns of the server's certificate, and closes, has refused it in either version."""
    wire = shaken(tmp_path, version=version)
    flights = [*wire.flights[:2], (C, alert(WARNING, Alert.BAD_CERTIFICATE))]
    found = told(taped(flights, first=C))
    assert [one.fatal for one in found.alerts] == [fatal]
    assert found.outcome is Outcome.PEER_CERT_INVALID
    assert found.problem.startswith(f"{CLIENT} sent the alert bad_certificate: it takes the certificate of {SERVER}")


@pytest.mark.parametrize("what", [Alert.CLOSE_NOTIFY, Alert.USER_CANCELED])
def test_a_client_that_cancels_closed_early(tmp_path: Path, what: Alert) -> None:
    wire = shaken(tmp_path)
    found = told(taped([*wire.flights[:2], (C, alert(FATAL, what))], first=C))
    assert (found.outcome, found.problem) == (
        Outcome.CLOSED_EARLY,
        f"{CLIENT} closed the connection during the handshake, after the server's ServerHello, with the alert"
        f" {what.name.lower()}",
    )


SYSLOG = b"<34>1 2026-01-01T00:00:00Z host app - - - one line\n"


def test_plaintext_that_is_only_received_is_not_refused(tmp_path: Path) -> None:
    tape = Tape()
    tape.plaintext(SYSLOG)
    found = told(tape)
    assert (found.outcome, found.problem, found.unknown_because) == (
        None,
        "",
        f"{CLIENT} sent plaintext that starts with '<34>1 …', and the server closed the connection without a byte, as a"
        " port that only receives does, and one that wants TLS",
    )
    tape = Tape()
    tape.plaintext(SYSLOG, alert(FATAL, Alert.UNEXPECTED_MESSAGE))
    assert told(tape).outcome is Outcome.PLAINTEXT_REFUSED


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request: token=SECRET\r\n\r\n", "plaintext that starts with 'HTTP/1.1 400'"),
        (b"HTTP/1.0 302\r\n\r\n", "plaintext that starts with 'HTTP/1.0 302'"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "plaintext that starts with 'SSH-2.0-OpenSSH_9.2'"),
        (b"220 mail.test SECRET\r\n", "plaintext that starts with '220 …'"),
        (b"\0\0\x12\4\0\0\0\0\0\0\3SECRET", "bytes that are not TLS and start with 00 00 12 04 00 00 00 00"),
        (b"\xff\xfe", "bytes that are not TLS and start with ff fe"),
    ],
)
def test_a_server_that_answers_tls_in_plaintext_is_told_with_what_it_said(
    tmp_path: Path, answer: bytes, words: str
) -> None:
    found = told(taped([shaken(tmp_path).flights[0], (S, answer)]))
    assert (found.outcome, found.problem) == (
        Outcome.HANDSHAKE_FAILED,
        f"{SERVER} answered the ClientHello with {words}",
    )
    assert found.advice == (
        "this port speaks plaintext: call it without TLS, or call the port of its sidecar; `meshtls x509 inspect"
        " 10.0.0.2:443` says what a port answers"
    )


def stalled(flights: Sequence[Flight], gives_up: Side, milliseconds: int, how: bytes = b"") -> Connection:
    """After these flights nothing is sent for so long, and then one side gives up, with these bytes."""
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in flights)]
    tape.wait(milliseconds - 1)
    if how:
        tape.frames.append(talk.send(gives_up, how))
    tape.frames += [talk.send(gives_up, flags=FIN | ACK), talk.send(gives_up.other, flags=FIN | ACK)]
    return told(tape)


BEFORE_HELLO = f"{CLIENT} did not go on with the handshake before a whole ClientHello, and {SERVER}"
AFTER_ANSWER = f"{CLIENT} did not go on with the handshake after the server's ServerHello, and {SERVER}"


@pytest.mark.parametrize("version", [3, 2])
def test_a_side_that_waits_in_vain_and_gives_up_timed_out(tmp_path: Path, version: int) -> None:
    hello, answer, *_ = shaken(tmp_path, version=version).flights
    cut = (C, hello[1][:100])
    point = "ServerHello" if version == 3 else "ServerHelloDone"
    after = f"{CLIENT} did not go on with the handshake after the server's {point}, and {SERVER}"
    sent = alert(FATAL, Alert.UNEXPECTED_MESSAGE)
    for flights, gives_up, how, problem in (
        ([cut], S, b"", f"{BEFORE_HELLO} closed the connection after 5.0 s"),
        ([hello, answer], S, b"", f"{after} closed the connection after 5.0 s"),
        ([hello, answer], S, sent, f"{after} sent the alert unexpected_message after 5.0 s"),
        (
            [hello],
            C,
            b"",
            f"{SERVER} did not go on with the handshake after the ClientHello, and {CLIENT} closed the connection after"
            " 5.0 s",
        ),
    ):
        found = stalled(flights, gives_up, 5000, how)
        words = problem if version == 3 else problem.replace("10.0.0.2:443", "10.0.0.2:443 (spiffe://a.test/web)")
        if answer not in flights:
            words = problem
        assert (found.outcome, found.problem) == (Outcome.HANDSHAKE_TIMEOUT, words)


def reset(flights: Sequence[Flight], *ends: tuple[Side, int]) -> Tape:
    """These flights, and then packets with these flags."""
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in flights)]
    tape.frames += [talk.send(side, flags=flags) for side, flags in ends]
    return tape


@pytest.mark.parametrize("version", [3, 2])
@pytest.mark.parametrize(
    "ends", [[(C, FIN | ACK), (S, RST | ACK)], [(S, RST | ACK)], [(S, FIN | ACK), (S, RST | ACK)], [(C, RST | ACK)]]
)
def test_a_reset_after_close_notify_of_both_sides_is_no_failure(
    tmp_path: Path, version: int, ends: list[tuple[Side, int]]
) -> None:
    tape = reset(shaken(tmp_path, version=version).flights, *ends)
    by = SERVER if ends[-1][0] is S else CLIENT
    for keys in (tmp_path / "keys", None):
        found = told(tape, keys)
        assert (found.problem, found.advice) == ("", "")
        assert "reset" in f"{found.client.ending} {found.server.ending}"
        # Where a side resets that had not closed, the last record of each may be data as well.
        proven = keys is not None or version == 2 or (ends[-1][0], FIN | ACK) in ends
        assert (found.outcome, found.unknown_because) == (
            (Outcome.OK, "")
            if proven
            else (
                None,
                f"{by} reset the connection; before that came {SHAPED}, which may be close_notify or not: {KEYS}",
            )
        )


@pytest.mark.parametrize("first", [C, S])
@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("resets", [C, S])
def test_a_short_record_of_each_side_and_a_reset_at_once_are_not_taken_for_a_close(
    tmp_path: Path, first: Side, resets: Side, closes: bool
) -> None:
    wire = mutual(tmp_path)
    wire.send(C, REQUEST)
    wire.send(S, RESPONSE)
    if closes:
        close_notify(wire, first)
        close_notify(wire, first.other)
    else:
        wire.send(first, b"\xc0\0")
        wire.send(first.other, b"\xd0\0")
    tape = reset(wire.flights, (resets, RST | ACK))
    assert told(tape, tmp_path / "keys").outcome is (Outcome.OK if closes else Outcome.RESET)
    found = told(tape)
    by = CLIENT if resets is C else SERVER
    assert (found.outcome, found.problem, found.unknown_because) == (
        None,
        "",
        f"{by} reset the connection; before that came {SHAPED}, which may be close_notify or not: {KEYS}",
    )


@pytest.mark.parametrize("closes", [True, False])
def test_short_data_before_a_reset_is_not_taken_for_close_notify(tmp_path: Path, closes: bool) -> None:
    """Pings of MQTT have two bytes, as alerts do."""
    wire = mutual(tmp_path)
    wire.send(C, REQUEST)
    wire.send(S, RESPONSE)
    wire.send(C, b"\xc0\0")
    wire.send(S, b"\xd0\0")
    if closes:
        wire.close()
    tape = reset(wire.flights, (S, RST | ACK))
    assert told(tape, tmp_path / "keys").outcome is (Outcome.OK if closes else Outcome.RESET)
    found = told(tape)
    assert (found.outcome, found.problem) == (None, "")
    assert found.unknown_because.startswith(f"{SERVER} reset the connection; before that came {SHAPED}")


#: Records of which a session keeps no event any more.
MANY = MOST_EVENTS


@pytest.mark.parametrize("closes", [True, False])
def test_the_last_records_of_a_long_connection_say_how_it_ended(tmp_path: Path, closes: bool) -> None:
    """Each side has sent a record of two bytes before."""
    wire = mutual(tmp_path)
    wire.send(C, b"\xc0\0")
    wire.send(S, b"\xd0\0")
    for _ in range(MANY // 2):
        wire.send(C, REQUEST)
        wire.send(S, RESPONSE)
    if closes:
        wire.close()
    tape = reset(wire.flights, (S, FIN | ACK), (S, RST | ACK))
    known, found = told(tape, tmp_path / "keys"), told(tape)
    assert known.outcome is (Outcome.OK if closes else Outcome.RESET)
    assert (found.outcome, found.problem) == (
        (None, "") if closes else (Outcome.RESET, f"{SERVER} reset the connection, which it had closed")
    )


@pytest.mark.parametrize("answered", [True, False])
def test_an_alert_that_answers_an_end_without_close_notify_is_not_taken_for_close_notify(
    tmp_path: Path, answered: bool
) -> None:
    """OpenSSL's client answers it with decode_error, which a closed socket answers with RST."""
    wire = mutual(tmp_path)
    wire.send(C, REQUEST)
    if answered:
        wire.send(S, RESPONSE)
    before = len(wire.flights)
    wire.end(S)
    talk = Talk(client=("10.0.0.1", 40001))
    tape = Tape()
    tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in wire.flights[:before])]
    tape.frames += [talk.send(S, flags=FIN | ACK), *(talk.send(side, data) for side, data in wire.flights[before:])]
    tape.frames.append(talk.send(S, flags=RST | ACK))
    assert told(tape, tmp_path / "keys").outcome is None
    found = told(tape)
    assert (found.outcome, found.problem) == (None, "")
    reset_after = f"{SERVER} reset the connection; before that came {SHAPED}"
    assert found.unknown_because.startswith(reset_after if answered else f"{SERVER} sent {NO_DATA[4:]}, and closed")


@pytest.mark.parametrize("tickets", [2, 0])
@pytest.mark.parametrize("asks", [True, False])
def test_a_close_notify_after_a_refusal_does_not_hide_it(tmp_path: Path, tickets: int, asks: bool) -> None:
    """Go's client sends close_notify whenever it closes, also after a fatal alert. A server that sent session tickets
    had accepted the client.
    """
    client, server = contexts(tmp_path, tmp_path / "keys", mutual=True, version=3)
    server.num_tickets = tickets
    wire = Wire(client, server)
    assert not wire.shake()
    if asks:
        wire.send(C, REQUEST)
    close_notify(wire, S)
    close_notify(wire, C)
    found = told(taped(wire.flights))
    assert found.outcome is None
    assert ("likely it refused the client's certificate or identity" in found.problem) is (tickets == 0)
    assert ("likely it closed an idle connection" in found.unknown_because) is (tickets > 0)


@pytest.mark.parametrize("records", [0, MANY])
def test_an_alert_after_the_clients_last_record_may_refuse_what_was_asked_for_later(
    records: int, tmp_path: Path
) -> None:
    """A server that asks for a certificate after the handshake (RFC 8446, section 4.6.2), and after many records."""
    _, server = contexts(tmp_path, tmp_path / "keys", version=3)
    authority = tmp_path / "web-P-256.ca"
    for certificate in (False, True):
        client = ssl.create_default_context(cafile=str(authority))
        client.check_hostname, client.post_handshake_auth = False, True
        client.minimum_version = ssl.TLSVersion.TLSv1_3
        client.keylog_filename = str(tmp_path / "keys")
        if certificate:
            ours = files_of(tmp_path, "client")
            client.load_cert_chain(ours.chain, ours.key)
        server.load_verify_locations(authority)
        server.post_handshake_auth = True
        server.verify_mode = ssl.CERT_REQUIRED
        wire = Wire(client, server)
        assert not wire.shake()
        for _ in range(records):
            wire.send(S, RESPONSE)
        wire.send(C, REQUEST)
        wire.server.verify_client_post_handshake()
        with contextlib.suppress(ssl.SSLWantReadError):
            wire.server.do_handshake()
        wire.carry(S)
        with contextlib.suppress(ssl.SSLWantReadError):
            wire.client.read(1)
        wire.carry(C)
        if certificate:
            with contextlib.suppress(ssl.SSLWantReadError):
                wire.server.read(1)
            wire.send(S, RESPONSE)
            close_notify(wire, S)
        else:
            with pytest.raises(ssl.SSLError):
                wire.server.read(1)
            wire.carry(S)
        tape = taped(wire.flights)
        right = Outcome.OK if certificate else Outcome.NO_CLIENT_CERTIFICATE
        assert told(tape, tmp_path / "keys").outcome is right
        found = told(tape)
        assert (found.outcome, found.problem) == (Outcome.OK if certificate else None, "")
        assert found.unknown_because == (
            ""
            if certificate
            else f"{SERVER} answered the client's last record with {SHAPED}, and the client did not answer that: it may"
            " have refused what the client sent, such as a certificate that it asked for after the handshake, or have"
            f" closed the connection; {KEYS}"
        )


@pytest.mark.parametrize(
    ("notified", "ends", "by", "words"),
    [
        ([], [(C, FIN | ACK), (S, RST | ACK)], S, "reset the connection"),
        ([C], [(S, RST | ACK)], S, "reset the connection"),
        ([S], [(S, RST | ACK)], S, "reset the connection"),
        ([C], [(C, FIN | ACK), (C, RST | ACK)], C, "reset the connection, which it had closed"),
    ],
)
def test_a_reset_before_a_side_has_ended_its_data_is_told(
    tmp_path: Path, notified: list[Side], ends: list[tuple[Side, int]], by: Side, words: str
) -> None:
    wire = mutual(tmp_path)
    wire.send(C, REQUEST)
    wire.send(S, RESPONSE)
    for side in notified:
        close_notify(wire, side)
    found = told(reset(wire.flights, *ends), tmp_path / "keys")
    who = f"{CLIENT} (spiffe://a.test/client)" if by is C else f"{SERVER} (spiffe://a.test/web)"
    assert (found.outcome, found.problem) == (Outcome.RESET, f"{who} {words}")


@pytest.mark.parametrize("notified", [False, True])
def test_a_server_that_closes_without_close_notify_did_not_send_a_broken_message(
    tmp_path: Path, notified: bool
) -> None:
    """OpenSSL's client answers such an end with decode_error."""
    wire = mutual(tmp_path)
    wire.send(C, REQUEST)
    wire.send(S, RESPONSE)
    if notified:
        close_notify(wire, S)
    before = len(wire.flights)
    wire.end(S)
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in wire.flights[:before])]
    tape.frames += [talk.send(S, flags=FIN | ACK), *(talk.send(side, data) for side, data in wire.flights[before:])]
    tape.frames += [talk.send(C, flags=FIN | ACK), talk.send(S)]
    found = told(tape, tmp_path / "keys")
    problem = (
        f"{CLIENT} (spiffe://a.test/client) sent the alert decode_error, since {SERVER} (spiffe://a.test/web)"
        " had closed the connection without close_notify: the end may be cut off"
    )
    wanted = (Outcome.OK, "") if notified else (None, problem)
    assert (found.outcome, found.problem) == wanted


def test_a_side_that_did_not_wait_has_not_timed_out(tmp_path: Path) -> None:
    hello, answer, *_ = shaken(tmp_path).flights
    during = "closed the connection during the handshake"
    sent = alert(FATAL, Alert.UNEXPECTED_MESSAGE)
    for flights, gives_up, ms, how, outcome, problem in (
        # It gives up at once.
        ([hello, answer], S, 500, b"", Outcome.HANDSHAKE_FAILED,
         f"{SERVER} {during}, after the server's ServerHello, without an alert"),
        # It was its own turn.
        ([hello], S, 5000, b"", Outcome.HANDSHAKE_FAILED,
         f"{SERVER} {during}, after the ClientHello, without an alert"),
        ([hello, answer], C, 5000, b"", Outcome.CLOSED_EARLY,
         f"{CLIENT} {during}, after the server's ServerHello, without an alert"),
        ([hello, answer], S, 500, sent, Outcome.HANDSHAKE_FAILED,
         f"{SERVER} sent the alert unexpected_message: a message of {CLIENT} was not the one that had to come;"
         " a sidecar also refuses so after the handshake"),
    ):  # fmt: skip
        found = stalled(flights, gives_up, ms, how)
        assert (found.outcome, found.problem) == (outcome, problem)


@pytest.mark.parametrize(
    ("first", "how", "problem", "unknown_because"),
    [
        (S, FIN | ACK, f"{SERVER} closed the connection after 2.0 s, in which neither side sent a byte", ""),
        (S, RST | ACK, f"{SERVER} reset the connection after 2.0 s, in which neither side sent a byte", ""),
        (
            C,
            FIN | ACK,
            "",
            f"{CLIENT} closed the connection after 2.0 s, in which neither side sent a byte: likely it only probed the"
            " port",
        ),
    ],
)
def test_a_connection_without_a_byte_has_no_outcome(first: Side, how: int, problem: str, unknown_because: str) -> None:
    tape = Tape()
    talk = tape.talk()
    tape.frames += talk.handshake()
    tape.wait(1997)
    tape.frames.append(talk.send(first, flags=how))
    if how & FIN:
        tape.frames.append(talk.send(first.other, flags=FIN | ACK))
    found = told(tape)
    assert (found.outcome, found.problem, found.unknown_because) == (None, problem, unknown_because)


@pytest.mark.parametrize("syns", [1, 3])
def test_a_single_syn_without_an_answer_proves_nothing(syns: int) -> None:
    tape = Tape()
    talk = tape.talk()
    for at in range(syns):
        tape.frames.append(talk.client(flags=SYN, seq=1000))
        tape.wait(1000 * 2**at - 1)
    found = told(tape)
    assert (found.outcome, found.problem, found.unknown_because) == (
        (None, "", f"the capture has one SYN of the client, and no answer of {SERVER}")
        if syns == 1
        else (
            Outcome.CONNECT_FAILED,
            f"{SERVER} did not answer the client's SYN: 3 packets of the client in 3.0 s",
            "",
        )
    )


def test_a_connection_that_goes_on_says_why_it_has_no_outcome(tmp_path: Path) -> None:
    tape = Tape()
    tape.wire(shaken(tmp_path), close=False)
    found = told(tape, tmp_path / "keys")
    assert (found.outcome, found.unknown_because) == (None, "the connection was open when the capture ended")


@pytest.mark.parametrize(("tickets", "late", "at_most"), [(1, True, True), (1, False, False), (2, True, False)])
def test_a_single_session_ticket_after_the_clients_data_makes_its_bytes_a_bound(
    tmp_path: Path, tickets: int, late: bool, at_most: bool
) -> None:
    """Go's servers send one."""
    client, server = contexts(tmp_path, tmp_path / "keys", mutual=True, version=3)
    server.num_tickets = tickets
    wire = Wire(client, server)
    assert not wire.shake()
    wire.send(C, REQUEST)
    wire.send(S, RESPONSE)
    *shake, ticket, request, response = wire.flights
    flights = [*shake, request, ticket, response] if late else wire.flights
    known, found = told(taped(flights), tmp_path / "keys"), told(taped(flights))
    assert (known.estimated, known.at_most, known.server.application_bytes) == (False, False, len(RESPONSE))
    assert (found.estimated, found.at_most) == (True, at_most)
    assert (found.server.application_bytes > len(RESPONSE)) is at_most
    assert found.client.application_bytes == len(REQUEST)
