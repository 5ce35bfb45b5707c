"""One line of JSON for each connection."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.observe.access_log import REFUSALS_PER_SECOND, AccessLog, access_line
from meshtls.observe.events import (
    ConnectionResult,
    Direction,
    Outcome,
    Phases,
    RequestContext,
    RequestResult,
    Ruled,
    Security,
    Verdict,
)
from meshtls.observe.request_line import RequestLines
from meshtls.spiffeid import SpiffeId
from tests.support.clock import ManualClock
from tests.support.waiting import until

STARTED = datetime(2030, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def test_a_log_line_holds_every_known_field() -> None:
    stream = io.StringIO()
    AccessLog(stream)(
        ConnectionResult(
            sidecar="b",
            direction=Direction.INBOUND,
            outcome=Outcome.OK,
            words="closed by both sides",
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


def test_the_reason_of_a_denied_caller_in_plaintext_does_not_speak_of_a_certificate() -> None:
    for security, reason in (
        (Security.MUTUAL_TLS, "the identity in the peer's certificate is not allowed here"),
        (Security.PLAINTEXT, "a caller in plaintext, which proves no identity, is not allowed here"),
    ):
        result = ConnectionResult(
            sidecar="b",
            direction=Direction.INBOUND,
            outcome=Outcome.POLICY_DENIED,
            words="no",
            started=STARTED,
            remote="127.0.0.1:4711",
            security=security,
        )
        assert access_line(result).reason == reason


def test_unknown_fields_are_null_and_each_connection_is_one_line() -> None:
    stream = io.StringIO()
    log = AccessLog(stream)
    for _ in range(2):
        log(
            ConnectionResult(
                sidecar="b",
                direction=Direction.INBOUND,
                outcome=Outcome.PLAINTEXT_REFUSED,
                words="got b'a\n'",
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
            words="got \ud800\x1b[2J\x85\u2028\u202e",
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
            words="",
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
        sidecar="b", direction=direction, outcome=outcome, words="", started=STARTED, remote="192.0.2.1:4711"
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
    said = "sidecar b: access log: a line of a refused inbound connection left out, above 100 a second"
    assert [record.getMessage() for record in caplog.records] == [
        said,
        f"{said} (118 more like it)",
    ]


CONTEXT = RequestContext(
    sidecar="b",
    outcome=Outcome.OK,
    detail="allowed by ns[a]-policy[p]-rule[0]",
    remote="127.0.0.1:4711",
    source_id=None,
    destination_id=SpiffeId.parse("spiffe://example.org/b"),
    port=8080,
    security=Security.PLAINTEXT,
    tunnel=False,
    ruled=Ruled("ns[a]-policy[p]", "0"),
)


def a_request(context: RequestContext = CONTEXT, **changes: Any) -> RequestResult:
    given = RequestResult(context, STARTED, "GET", "b", "/x?y", 200, 1.23456)
    return msgspec.structs.replace(given, **changes)


def test_a_request_s_line_holds_what_a_replay_needs() -> None:
    stream = io.StringIO()
    AccessLog(stream).request(a_request())
    assert stream.getvalue() == (
        '{"time":"2030-05-01T12:00:00.123456Z","sidecar":"b","direction":"inbound","verdict":"allowed","outcome":"OK",'
        '"reason":"the HTTP request was allowed, and the app answered it",'
        '"detail":"allowed by ns[a]-policy[p]-rule[0]",'
        '"source_id":null,"destination_id":"spiffe://example.org/b","remote":"127.0.0.1:4711","tunnel":false,'
        '"port":8080,"security":"plaintext","method":"GET","host":"b","path":"/x?…","status":200,"total_ms":1.235,'
        '"policy":"ns[a]-policy[p]","rule":"0"}\n'
    )


def test_refused_requests_are_bounded_as_refused_connections_are_and_allowed_ones_are_not() -> None:
    bound = int(REFUSALS_PER_SECOND * 10)
    for outcome, most in ((Outcome.POLICY_DENIED, bound), (Outcome.REQUEST_REFUSED, bound), (Outcome.OK, 2000)):
        stream, clock = io.StringIO(), ManualClock()
        log = AccessLog(stream, clock.monotonic)
        for _ in range(2000):
            log.request(a_request(msgspec.structs.replace(CONTEXT, outcome=outcome)))
        assert stream.getvalue().count("\n") == most


async def test_lines_of_requests_are_written_together_and_before_those_of_their_connection() -> None:
    writes: list[str] = []

    class Stream:
        def write(self, text: str) -> None:
            writes.append(text)

        def flush(self) -> None:
            pass

    log = AccessLog(Stream())
    for _ in range(3):
        log.request(a_request())
    assert writes == []
    log(
        ConnectionResult(
            sidecar="b", direction=Direction.INBOUND, outcome=Outcome.OK, words="", started=STARTED, remote="x"
        )
    )
    (together,) = writes
    assert ['"method"' in line for line in together.splitlines()] == [True, True, True, False]
    log.request(a_request())
    await until(lambda: len(writes) == 2)


def test_the_longest_path_is_cut() -> None:
    stream = io.StringIO()
    AccessLog(stream).request(a_request(path="/" + "x" * 9000))
    assert len(json.loads(stream.getvalue())["path"]) == 2048


@pytest.mark.parametrize("outcome", [Outcome.OK, Outcome.POLICY_DENIED], ids=str)
def test_lines_of_like_requests_differ_only_in_what_is_their_own(outcome: Outcome) -> None:
    stream = io.StringIO()
    log = AccessLog(stream)
    near = Ruled("ns[a]-policy[p]", "1", 'paths is not "/y"', ("would deny",), ("rule",))
    contexts = [
        msgspec.structs.replace(CONTEXT, outcome=outcome, detail="first \x1b"),
        msgspec.structs.replace(CONTEXT, outcome=outcome, detail="second", remote="127.0.0.1:4712", ruled=near),
        msgspec.structs.replace(CONTEXT, outcome=outcome, ruled=Ruled()),
    ]
    for path in ("/x", "/\x7f\xe4"):
        for context in contexts:
            log.request(a_request(context, path=path))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["path"], line["detail"], line["remote"]) for line in lines] == [
        (path, detail, remote)
        for path in ("/x", "/\x7f\xe4")
        for detail, remote in (
            ("first \\x1b", "127.0.0.1:4711"),
            ("second", "127.0.0.1:4712"),
            (CONTEXT.detail, "127.0.0.1:4711"),
        )
    ]
    ruled = [
        {key: line[key] for key in ("policy", "rule", "clause", "shadow", "audit") if key in line} for line in lines
    ]
    assert (
        ruled[:3]
        == ruled[3:]
        == [
            {"policy": "ns[a]-policy[p]", "rule": "0"},
            {
                "policy": "ns[a]-policy[p]",
                "rule": "1",
                "clause": 'paths is not "/y"',
                "shadow": ["would deny"],
                "audit": ["rule"],
            },
            {},
        ]
    )
    assert stream.getvalue().replace("\n", "").isprintable()


LIKE_REQUESTS = st.builds(
    RequestResult,
    st.just(CONTEXT),
    st.just(STARTED),
    st.sampled_from(["GET", "POST", "GET\x7f", "M" * 99]),
    st.sampled_from(["b", "b:80", "\x1b", "h" * 400]),
    st.sampled_from(["/", "/x", "/x?y", "/\xe4\u202e", "/" + "x" * 1100, "/" + "x" * 3000]) | st.text(max_size=5),
    st.sampled_from([0, 200, 403]),
    st.floats(0, 1e6),
)


@given(st.lists(LIKE_REQUESTS, max_size=100))
def test_a_line_does_not_depend_on_the_requests_before_it(results: list[RequestResult]) -> None:
    lines = RequestLines()
    for result in results:
        line = lines.line(result)
        assert line == RequestLines().line(result)
        read = json.loads(line)
        assert (read["status"], read["total_ms"]) == (result.status, round(result.total_ms, 3))
    assert len(lines._own) <= 64
    assert all(len(text) <= 1024 for text in lines._own.values())
