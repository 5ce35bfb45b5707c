"""What `meshtls check` tells of a sidecar's connections, and the words that it has in common with other surfaces."""

from __future__ import annotations

import errno
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshtls.address import os_reason
from meshtls.admin.next_steps import NEXT_STEPS
from meshtls.cli.check.connections import connection_checks, connection_findings
from meshtls.cli.check.finding import Finding
from meshtls.cli.check.server import relation_finding, tainted_finding
from meshtls.cli.marks import Mark
from meshtls.observe.events import Outcome
from meshtls.serverapi.federation import Profile, Relation, RelationStatus
from meshtls.serverapi.values import AuthorityStatus
from meshtls.spiffeid import TrustDomain

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
SOCKET = Path("/run/db-admin.sock")
PASSED = Finding("its latest connections and requests were served", Mark.PASSED)


def line(seconds_ago: float, outcome: Outcome = Outcome.POLICY_DENIED, **changed: Any) -> dict[str, Any]:
    """A record of the admin interface, of a connection that began then."""
    record = {
        "time": f"{NOW - timedelta(seconds=seconds_ago):%Y-%m-%dT%H:%M:%S.%fZ}",
        "direction": "inbound",
        "verdict": outcome.verdict.value,
        "outcome": outcome.name,
        "reason": outcome.value,
        "detail": "peer spiffe://a.test/web is not allowed to reach spiffe://a.test/db; allowed: nobody",
        "source_id": "spiffe://a.test/web",
        "destination_id": "spiffe://a.test/db",
        "port": 80,
        "total_ms": 1.0,
        "connection_id": "1f",
    }
    return record | changed


def told(*lines: dict[str, Any]) -> list[Finding]:
    return connection_findings(lines, SOCKET, NOW, Path("db.yaml"))


def test_a_refusal_is_told_in_the_words_of_the_access_log_with_the_next_step() -> None:
    assert told(line(10)) == [
        Finding(
            "its latest connections and requests were served",
            Mark.WARNING,
            "POLICY_DENIED: spiffe://a.test/db refused spiffe://a.test/web, whose identity is not allowed: peer"
            " spiffe://a.test/web is not allowed to reach spiffe://a.test/db; allowed: nobody",
            "if it is to be allowed, add the caller to the inbound's allow or to a policy: `meshtls policy explain"
            " --from spiffe://a.test/web --config db.yaml --port 80` shows what would let it in; `meshtls explain"
            " connection 1f --socket /run/db-admin.sock` shows all of it",
            "an inbound connection from spiffe://a.test/web to spiffe://a.test/db was not served",
        )
    ]


def test_a_newer_served_connection_of_the_same_two_says_that_it_is_mended() -> None:
    served = line(5, Outcome.OK)
    assert told(line(10), served) == [PASSED]
    assert len(told(line(10), line(15, Outcome.OK))) == 1
    for other in ({"source_id": "spiffe://a.test/x"}, {"port": 81}, {"direction": "outbound"}):
        assert len(told(line(10), served | other)) == 1, other


def test_a_refused_request_is_not_mended_by_the_end_of_its_connection() -> None:
    request = line(10, method="GET")
    assert len(told(request, line(5, Outcome.OK))) == 1
    assert told(request, line(5, Outcome.OK, method="GET")) == [PASSED]


def test_a_refused_request_is_mended_by_a_served_one_of_the_same_method_host_and_path_alone() -> None:
    same: dict[str, Any] = {"method": "GET", "host": "db", "path": "/admin"}
    assert told(line(10, **same), line(5, Outcome.OK, **same)) == [PASSED]
    for other in ({"path": "/"}, {"method": "POST"}, {"host": "db2"}):
        found = told(line(10, **same), line(5, Outcome.OK, **same | other))
        assert [one.problem for one in found] == [
            "an HTTP request (GET /admin) from spiffe://a.test/web to spiffe://a.test/db was not served"
        ]


def test_the_newest_connection_of_each_outcome_is_reported() -> None:
    found = told(line(30, detail="older"), line(10, detail="newer"), line(20, Outcome.CONNECT_FAILED, detail="down"))
    assert [one.reason.rpartition(": ")[2] for one in found] == ["newer", "down"]


def test_a_connection_that_ended_more_than_five_minutes_ago_is_not_told() -> None:
    assert told(line(301)) == [PASSED]
    assert len(told(line(299))) == 1
    assert len(told(line(301, total_ms=2000.0))) == 1


def test_a_peer_that_closed_within_the_handshake_was_refused_by_nobody() -> None:
    assert told(line(1, Outcome.CLOSED_EARLY)) == [PASSED]
    assert len(told(line(1, Outcome.HANDSHAKE_FAILED))) == 1


def test_the_newest_connection_of_an_outcome_is_reported_with_the_number_of_others() -> None:
    def denied(seconds_ago: float, path: str) -> dict[str, Any]:
        return line(seconds_ago, method="GET", host="db", path=path)

    found = told(denied(10, "/a"), denied(20, "/a"), denied(30, "/b"), denied(40, "/c"))
    said = "an HTTP request (GET /a) from spiffe://a.test/web to spiffe://a.test/db was not served"
    assert [one.problem for one in found] == [f"{said}, and 2 others with this outcome"]
    assert [one.problem for one in told(denied(10, "/a"), denied(30, "/b"))] == [
        f"{said}, and 1 other with this outcome"
    ]
    assert [one.problem for one in told(denied(10, "/a"), denied(20, "/a"))] == [said]


def test_a_caller_without_an_identity_is_not_cleared_by_one_of_another_host() -> None:
    refused = line(10, source_id=None, remote="192.0.2.1:4711")
    served = line(5, Outcome.OK, source_id=None, remote="192.0.2.2:4711")
    assert [one.problem for one in told(refused, served)] == [
        "an inbound connection from an unknown peer to spiffe://a.test/db was not served"
    ]
    assert told(refused, served | {"remote": "192.0.2.1:4712"}) == [PASSED]


def test_an_outcome_of_another_version_is_left_out() -> None:
    assert told(line(1) | {"outcome": "NEW_IN_THE_NEXT_VERSION"}) == [PASSED]


async def test_a_sidecar_that_cant_be_asked_is_a_warning(tmp_path: Path) -> None:
    [found] = [one async for one in connection_checks(tmp_path / "a.sock", NOW)]
    assert (found.mark, found.advice) == (Mark.WARNING, "run the check as the sidecar's user, or see its access log")
    assert found.reason.startswith(f"{tmp_path}/a.sock: nothing answers there: No such file or directory; ")


def test_each_outcome_has_a_next_step() -> None:
    assert set(NEXT_STEPS) == set(Outcome)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "Connection refused"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), "No such file or directory"),
        (OSError(-2, "Name or service not known"), "Name or service not known"),
        (ConnectionResetError("Connection lost"), "Connection lost"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_failed_system_call_is_named_as_the_c_library_names_it(error: OSError, words: str) -> None:
    assert os_reason(error) == words


@pytest.mark.parametrize(("kind", "words", "option"), [("x509", "X.509", ""), ("jwt", "JWT", " --jwt")])
def test_a_tainted_authority_is_to_be_revoked_and_an_old_one_is_no_trouble(kind: str, words: str, option: str) -> None:
    one = AuthorityStatus(
        kind=kind,
        id="0a1b",
        state="TAINTED",
        server_id="one",
        created_at=NOW,
        changed_at=NOW,
        ends_at=NOW,
        leaves_at=NOW,
        revocable_at=NOW,
    )
    assert tainted_finding(one) == Finding(
        "no authority is tainted",
        Mark.WARNING,
        f"{words} authority 0a1b is tainted",
        "revoke it, from 2030-05-01T12:00:00Z on or as soon as its SVIDs are replaced:"
        f" `meshtls authority revoke{option} 0a1b`",
        "an authority is tainted",
    )
    assert [replace(one, state=state).trouble for state in ("PREPARED", "ACTIVE", "OLD")] == ["", "", ""]


def test_a_bundle_that_cant_be_fetched_fails_with_the_servers_own_words() -> None:
    relation = Relation(trust_domain=TrustDomain("b.test"), url="https://b.test/", profile=Profile.HTTPS_WEB)
    check = "the bundle of b.test is fetched from https://b.test/"
    assert relation_finding(RelationStatus(relation=relation, configured=False)) == Finding(check, Mark.PASSED)
    assert relation_finding(RelationStatus(relation=relation, configured=False, failure="no answer")) == Finding(
        check,
        Mark.FAILED,
        "no answer",
        "see whether the endpoint runs, then `meshtls federation refresh --trust-domain b.test`",
        "the bundle of b.test can't be fetched from https://b.test/",
    )
