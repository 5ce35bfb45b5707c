"""Lines of an access log as requests to judge, and those that are none."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest

from meshtls.observe.access_log import AccessLog
from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.policy.recorded import LONGEST_LINE, LONGEST_PATH, Recorded, Skipped, read_line
from meshtls.policy.request import HttpRequest
from meshtls.spiffeid import SpiffeId
from tests.unit.policy.recorded_lines import CLIENT, WEB, connection, recorded, request


def test_a_request_has_its_caller_destination_and_head() -> None:
    found = recorded(request("POST", "/a?q=1", host="web:80"))

    assert found.request.source == SpiffeId.parse(CLIENT)
    assert found.request.destination == SpiffeId.parse(WEB)
    assert (found.request.port, found.request.source_ip) == (8080, "10.0.0.1")
    assert found.request.http == HttpRequest("POST", "web:80", "/a?q=1")
    assert (found.allowed, found.time, found.cut) == (True, "2030-01-01T00:00:00Z", False)


def test_a_connection_has_no_http() -> None:
    assert recorded(connection()).request.http is None


def test_plaintext_has_no_source() -> None:
    assert recorded(connection(plaintext=True)).request.source is None


def test_an_ipv6_address_loses_its_brackets() -> None:
    assert recorded(connection(remote="[::1]:9")).request.source_ip == "::1"


def test_a_line_of_a_sidecar_is_read() -> None:
    stream = io.StringIO()
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    AccessLog(stream)(
        ConnectionResult(
            sidecar="web",
            direction=Direction.INBOUND,
            outcome=Outcome.OK,
            words="d",
            started=moment,
            remote="10.0.0.1:40000",
            source_id=SpiffeId.parse(CLIENT),
            destination_id=SpiffeId.parse(WEB),
            tls_version="TLSv1.3",
        )
    )

    found = read_line(stream.getvalue().encode())

    assert isinstance(found, Recorded)
    assert (found.request.source, found.request.port) == (SpiffeId.parse(CLIENT), None)


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"verdict": "allowed", "outcome": "OK"}, True),
        ({"verdict": "allowed", "outcome": "RESET"}, True),
        ({"verdict": "failed", "outcome": "CONNECT_FAILED"}, True),
        ({"verdict": "denied", "outcome": "POLICY_DENIED"}, False),
        ({"verdict": "denied", "outcome": "PLAINTEXT_REFUSED", "source_id": None, "security": "plaintext"}, False),
    ],
)
def test_a_verdict_of_policies_is_one_to_compare(fields: dict[str, Any], allowed: bool) -> None:
    assert recorded(connection(**fields)).allowed is allowed


@pytest.mark.parametrize(
    "line",
    [
        connection(verdict="denied", outcome="PEER_UNTRUSTED"),
        connection(verdict="failed", outcome="HANDSHAKE_FAILED", source_id=None, security=None),
        connection(destination_id=None),
        request(denied=True, status=401),
        request(denied=True, status=400),
        request(denied=True, outcome="TOKEN_REFUSED", status=401),
        request(denied=True, outcome="PATH_REFUSED", status=400),
        request(verdict="failed", outcome="REQUEST_REFUSED", status=414),
        request("", "", verdict="failed", outcome="REQUEST_REFUSED", status=0),
    ],
)
def test_a_refusal_by_something_else_than_a_policy_is_not_judged(line: str) -> None:
    assert read_line(line.encode()) is Skipped.NOT_JUDGED


def test_an_outbound_line_is_told_apart() -> None:
    assert read_line(connection(direction="outbound").encode()) is Skipped.OUTBOUND


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"nonsense",
        b"\xff\xfe",
        b'{"direction": "inbound"}',
        connection(direction="sideways").encode(),
        connection(source_id="http://a.test/web").encode(),
        connection(port="8080").encode(),
        connection(port=0).encode(),
        connection(port=65536).encode(),
        connection(path=3).encode(),
        connection(detail="x" * LONGEST_LINE).encode(),
    ],
)
def test_a_line_that_can_not_be_read_is_broken(line: bytes) -> None:
    assert read_line(line) is Skipped.BROKEN


@pytest.mark.parametrize(
    ("path", "cut"),
    [
        ("/" + "a" * (LONGEST_PATH - 1), True),
        ("/" + "a" * (LONGEST_PATH - 2), False),
        ("/" + "a" * (LONGEST_PATH - 2) + "?", False),
    ],
)
def test_a_path_that_the_log_cut_is_marked(path: str, cut: bool) -> None:
    assert recorded(request("GET", path)).cut is cut
