"""One line of JSON for each connection."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from meshtls.observe.access_log import REFUSALS_PER_SECOND, AccessLog
from meshtls.observe.events import ConnectionResult, Direction, Outcome, Phases, Verdict
from meshtls.spiffeid import SpiffeId
from tests.support.clock import ManualClock

STARTED = datetime(2030, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def test_a_log_line_holds_every_known_field() -> None:
    stream = io.StringIO()
    AccessLog(stream)(
        ConnectionResult(
            sidecar="b",
            direction=Direction.INBOUND,
            outcome=Outcome.OK,
            detail="closed by both sides",
            started=STARTED,
            remote="127.0.0.1:4711",
            source_id=SpiffeId.parse("spiffe://example.org/a"),
            destination_id=SpiffeId.parse("spiffe://example.org/b"),
            tls_version="TLSv1.3",
            cipher_suite="TLS_AES_256_GCM_SHA384",
            local_serial="0b",
            peer_serial="0a",
            generation=7,
            baggage="service.name=a",
            bytes_in=3,
            bytes_out=4,
            phases=Phases(handshake_ms=1.23456, connect_ms=0.5, total_ms=2.0),
        )
    )
    assert stream.getvalue() == (
        '{"time":"2030-05-01T12:00:00.123456Z","sidecar":"b","direction":"inbound","verdict":"allowed","outcome":"OK",'
        '"reason":"the connection was allowed and closed by both sides","detail":"closed by both sides",'
        '"source_id":"spiffe://example.org/a","destination_id":"spiffe://example.org/b","remote":"127.0.0.1:4711",'
        '"tls_version":"TLSv1.3","cipher_suite":"TLS_AES_256_GCM_SHA384","local_serial":"0b","peer_serial":"0a",'
        '"generation":7,"tunnel":false,"resumed":false,"bytes_in":3,"bytes_out":4,"handshake_ms":1.235,"connect_ms":0.5,"total_ms":2.0,'
        '"traceparent":null,"baggage":"service.name=a","forwarded":null}\n'
    )


def test_unknown_fields_are_null_and_each_connection_is_one_line() -> None:
    stream = io.StringIO()
    log = AccessLog(stream)
    for _ in range(2):
        log(
            ConnectionResult(
                sidecar="b",
                direction=Direction.INBOUND,
                outcome=Outcome.PLAINTEXT_REFUSED,
                detail="got b'a\n'",
                started=STARTED,
                remote="127.0.0.1:4711",
            )
        )
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 2
    assert (lines[0]["verdict"], lines[0]["source_id"], lines[0]["handshake_ms"]) == ("denied", None, None)


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_is_allowed_exactly_when_its_verdict_says_so(outcome: Outcome) -> None:
    assert outcome.allowed is (outcome.verdict is Verdict.ALLOWED)


def test_a_peers_text_is_escaped_and_forges_no_log_line() -> None:
    stream = io.StringIO()
    AccessLog(stream)(
        ConnectionResult(
            sidecar="b\x9b",
            direction=Direction.INBOUND,
            outcome=Outcome.HANDSHAKE_FAILED,
            detail="got \ud800\x1b[2J\x85\u2028\u202e",
            started=STARTED,
            remote="127.0.0.1:4711",
        )
    )
    line, end = stream.getvalue()[:-1], stream.getvalue()[-1]
    assert (line.isprintable(), end) == (True, "\n")
    assert json.loads(line)["sidecar"] == "b\x9b"
    assert json.loads(line)["detail"] == r"got \ud800\x1b[2J\x85\u2028\u202e"


def test_a_peers_claims_about_itself_are_shortened() -> None:
    stream = io.StringIO()
    AccessLog(stream)(
        ConnectionResult(
            sidecar="b",
            direction=Direction.INBOUND,
            outcome=Outcome.OK,
            detail="",
            started=STARTED,
            remote="127.0.0.1:4711",
            baggage="b" * 4096,
            forwarded="f" * 256,
        )
    )
    line = json.loads(stream.getvalue())
    assert (line["baggage"], line["forwarded"]) == ("b" * 256 + "...", "f" * 256)


def result(direction: Direction, outcome: Outcome) -> ConnectionResult:
    return ConnectionResult(
        sidecar="b", direction=direction, outcome=outcome, detail="", started=STARTED, remote="192.0.2.1:4711"
    )


def test_lines_of_connections_that_were_not_let_in_have_a_rate_and_all_others_are_written(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, stream = ManualClock(), io.StringIO()
    log = AccessLog(stream, clock.monotonic)
    most = int(10 * REFUSALS_PER_SECOND)

    def written(direction: Direction, outcome: Outcome, count: int) -> int:
        before = stream.getvalue().count("\n")
        for _ in range(count):
            log(result(direction, outcome))
        return stream.getvalue().count("\n") - before

    assert written(Direction.INBOUND, Outcome.HANDSHAKE_TIMEOUT, most) == most
    assert written(Direction.INBOUND, Outcome.POLICY_DENIED, 70) == 0
    assert written(Direction.INBOUND, Outcome.OK, 70) == 70
    assert written(Direction.OUTBOUND, Outcome.PEER_UNTRUSTED, 70) == 70
    clock.advance(1)
    assert written(Direction.INBOUND, Outcome.HANDSHAKE_FAILED, 150) == REFUSALS_PER_SECOND
    clock.advance(10)
    assert written(Direction.INBOUND, Outcome.OK, 1) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "sidecar b: access log: 1 lines of refused inbound connections left out, above 100 a second",
        "sidecar b: access log: 119 lines of refused inbound connections left out, above 100 a second",
    ]
