"""The dashboard's pages as functions of its model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meshtls.dashboard.model import Kind, Model, View
from meshtls.dashboard.views.connections import connections, story
from meshtls.dashboard.views.denials import denials
from meshtls.dashboard.views.identities import identities
from meshtls.dashboard.views.mesh import mesh
from meshtls.dashboard.views.policies import policies
from meshtls.dashboard.views.processes import processes
from meshtls.dashboard.views.trust import trust
from meshtls.errors import NotFoundError, RequestError

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
A, B, X = (f"spiffe://a.test/{name}" for name in ("a", "b", "x"))


def edge(source: str, destination: str, reporter: str, **counts: object) -> dict[str, Any]:
    zero: dict[str, Any] = dict.fromkeys(
        (
            *("connections", "allowed", "denied", "failed", "mutual_tls", "tls", "plaintext"),
            *("requests", "denied_requests", "failed_requests"),
        ),
        0,
    )
    zero |= {"bytes_in": 0, "bytes_out": 0, "connections_per_second": 0.0, "requests_per_second": 0.0}
    return {
        **zero,
        "source_id": source,
        "destination_id": destination,
        "reporter": reporter,
        "request_ms": None,
    } | counts


def ended(connection_id: str, direction: str, outcome: str, verdict: str, **more: object) -> dict[str, Any]:
    return {
        "connection_id": connection_id,
        "time": "2026-01-01T11:59:00Z",
        "sidecar": "a" if direction == "outbound" else "b",
        "direction": direction,
        "outcome": outcome,
        "verdict": verdict,
        "reason": "why",
        "detail": "because",
        "source_id": X,
        "destination_id": B,
        "total_ms": 1.0,
        "bytes_in": 4,
        "bytes_out": 2,
        **more,
    }


def svid(serial: str, minutes: int = 60) -> dict[str, Any]:
    until = (NOW + timedelta(minutes=minutes)).isoformat()
    leaf = {"subject": "", "issuer": "CN=middle", "serial": serial, "not_after": until, "sha256": "0a"}
    middle = {"subject": "CN=middle", "issuer": "CN=root", "serial": "01", "not_after": until, "sha256": "0b"}
    return {
        "spiffe_id": B,
        "hint": "",
        "serial": serial,
        "not_before": NOW.isoformat(),
        "not_after": until,
        "chain": [leaf, middle],
    }


def bundle(*fingerprints: str) -> dict[str, Any]:
    roots = [{"subject": "CN=root", "serial": one, "not_after": "2030", "sha256": one} for one in fingerprints]
    return {"trust_domain": "a.test", "x509_authorities": roots}


def model_of(**pages: dict[str, Any]) -> Model:
    """A sidecar ``b`` with these pages, each named without its slash."""
    model = Model(["b.sock"])
    found = {f"/{name}": page for name, page in pages.items()}
    model.answered("b.sock", Kind.SIDECAR, {"kind": "sidecar", "name": "b", "spiffe_id": B}, found, NOW)
    return model


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({"connections": 4, "allowed": 4, "mutual_tls": 4}, "mtls"),
        ({"connections": 4, "allowed": 3, "denied": 1, "mutual_tls": 4}, "mtls"),
        ({"connections": 4, "allowed": 4, "mutual_tls": 3, "plaintext": 1}, "plaintext"),
        ({"connections": 4, "allowed": 4, "mutual_tls": 3, "failed": 1}, "mtls"),
        ({"connections": 4, "allowed": 4, "tls": 4}, "tls"),
        ({"connections": 4, "denied": 4, "mutual_tls": 4}, "denied"),
        ({"connections": 4, "denied": 4}, "denied"),
        ({"connections": 4, "denied": 4, "plaintext": 4}, "denied"),
        ({"connections": 4, "denied": 1, "failed": 3}, "denied"),
        ({"connections": 4, "failed": 4}, "failed"),
        ({"connections": 1, "allowed": 1, "mutual_tls": 1, "requests": 2, "failed_requests": 1}, "mtls"),
        (
            {"connections": 1, "allowed": 1, "mutual_tls": 1}
            | {"requests": 2, "denied_requests": 2, "failed_requests": 2},
            "denied",
        ),
        ({"connections": 1, "allowed": 1, "mutual_tls": 1, "requests": 2, "failed_requests": 2}, "failed"),
        ({"requests": 2}, "mtls"),
    ],
)
def test_an_edge_is_what_was_served_on_it_and_else_denied_or_failed(counts: dict[str, int], state: str) -> None:
    model = model_of(graph={"edges": [edge(X, B, "destination", **counts)]})
    (found,) = mesh(model, {})["edges"]
    assert found["state"] == state


def test_requests_in_plaintext_make_an_edge_plaintext_before_their_connection_ends() -> None:
    model = model_of(graph={"edges": [edge("(plaintext)", B, "destination", requests=1)]})
    (found,) = mesh(model, {})["edges"]
    assert found["state"] == "plaintext"


def test_an_edge_that_both_sides_report_counts_once_and_live_ones_are_on_it() -> None:
    model = model_of(graph={"edges": [edge(A, B, "destination", connections=5), edge(A, B, "source", connections=7)]})
    for address in ("b.sock", "a.sock"):
        model.live(address, [{"number": 1, "connection_id": "1", "source_id": A, "destination_id": B}])
    view = mesh(model, {})
    assert [(one["connections"], one["live"]) for one in view["edges"]] == [(5, 1)]
    assert view["nodes"] == [{"id": A, "sidecars": []}, {"id": B, "sidecars": ["b"]}]


def test_a_pair_that_has_only_live_connections_has_an_edge() -> None:
    model = model_of()
    model.live("b.sock", [{"number": 1, "connection_id": "1", "source_id": A, "destination_id": B}])
    assert [(one["source"], one["live"]) for one in mesh(model, {})["edges"]] == [(A, 1)]


def test_an_identity_has_its_path_up_to_the_root_and_its_rotations() -> None:
    certs = {"svids": [svid("01")], "bundles": [bundle("ff")]}
    model = model_of(certs=certs)
    later = NOW + timedelta(minutes=30)
    model.answered("b.sock", Kind.SIDECAR, {"name": "b"}, {"/certs": {**certs, "svids": [svid("02", 90)]}}, later)
    (found,) = identities(model, {})["identities"]
    assert [one["role"] for one in found["path"]] == ["leaf", "intermediate", "root"]
    assert [(one["serial"], one["replaced"]) for one in found["history"]] == [("01", later.isoformat())]
    assert found["serial"] == "02"
    # Received at half past twelve, with an hour to live: half of that is at one.
    assert found["next_rotation"] == (NOW + timedelta(minutes=60)).isoformat()


def test_an_identity_whose_bundle_lacks_its_root_has_no_root() -> None:
    other = {"trust_domain": "a.test", "x509_authorities": [{"subject": "CN=other", "sha256": "ee"}]}
    (found,) = identities(model_of(certs={"svids": [svid("01")], "bundles": [other]}), {})["identities"]
    assert [one["role"] for one in found["path"]] == ["leaf", "intermediate"]


def test_the_side_that_denied_is_the_one_that_is_told() -> None:
    model = model_of()
    model.ended(
        "b.sock",
        [
            ended("c1", "outbound", "HANDSHAKE_FAILED", "failed", alert_received="unknown_ca"),
            ended("c1", "inbound", "POLICY_DENIED", "denied", alert_sent="unknown_ca"),
            ended("c2", "inbound", "OK", "allowed"),
        ],
    )
    view = connections(model, {})
    assert [(one["id"], one["verdict"], one["outcome"]) for one in view["rows"]] == [
        ("c2", "allowed", "OK"),
        ("c1", "denied", "POLICY_DENIED"),
    ]
    (told,) = story(model, {"id": "c1"})["connections"]
    assert "  alert:   unknown_ca, sent by the server, which arrived" in told["story"]


def refused_request(connection_id: str, verdict: str = "denied", **more: object) -> dict[str, Any]:
    outcome = "POLICY_DENIED" if verdict == "denied" else "CONNECT_FAILED"
    asked = {"method": "GET", "host": "b", "path": "/secret", "status": 403}
    return ended(connection_id, "inbound", outcome, verdict, event="request", **asked, **more)


@pytest.mark.parametrize("verdict", ["denied", "failed"])
def test_a_connection_whose_request_was_refused_is_listed_as_that_and_not_as_ok(verdict: str) -> None:
    model = model_of()
    model.ended("b.sock", [ended("c1", "inbound", "OK", "allowed"), ended("c2", "inbound", "OK", "allowed")])
    model.event("b.sock", refused_request("c1", verdict))
    told = [(one["id"], one["verdict"], one["outcome"]) for one in connections(model, {"verdict": verdict})["rows"]]
    assert told == [("c1", verdict, "POLICY_DENIED" if verdict == "denied" else "CONNECT_FAILED")]
    for words in ({"verdict": "allowed"}, {"outcome": "OK"}):
        assert [one["id"] for one in connections(model, words)["rows"]] == ["c2"]
    (one,) = story(model, {"id": "c1"})["connections"]
    assert not [line for line in one["story"] if "cause:   OK" in line]


def test_a_wrong_server_is_denied_at_the_caller() -> None:
    model = model_of()
    model.ended("a.sock", [ended("c1", "outbound", "POLICY_DENIED", "denied", source_id=A)])
    (found,) = denials(model, {})["denials"]
    assert (found["decided_by"], found["destination"]) == (A, B)
    assert found["next_step"] == "correct outbound[].peer (or to) in the file of sidecar a"
    assert found["reason"] == f"{A} refused {B}, which is another server than it expected"


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ({}, ["c2", "c1", "c0"]),
        ({"limit": "1"}, ["c2"]),
        ({"offset": "1", "limit": "1"}, ["c1"]),
        ({"offset": "9"}, []),
        ({"verdict": "denied"}, ["c1"]),
        ({"outcome": "OK"}, ["c2", "c0"]),
        ({"q": "POLICY"}, ["c1"]),
        ({"q": "spiffe://a.test/nobody"}, []),
        ({"state": "live"}, []),
        ({"state": "ended", "q": "c0"}, ["c0"]),
    ],
)
def test_a_part_of_the_list_is_what_was_asked_for(words: dict[str, str], ids: list[str]) -> None:
    model = model_of()
    kinds = [("OK", "allowed"), ("POLICY_DENIED", "denied"), ("OK", "allowed")]
    model.ended("b.sock", [ended(f"c{number}", "inbound", *kind) for number, kind in enumerate(kinds)])
    assert [one["id"] for one in connections(model, words)["rows"]] == ids


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"state": "dead"}, "state: wanted all, live, ended, got 'dead'"),
        ({"limit": "201"}, "limit: wanted a number, 0 to 200, got '201'"),
        ({"offset": "-1"}, "offset: wanted a number, 0 to 1000000, got '-1'"),
    ],
)
def test_a_wrong_word_is_refused(words: dict[str, str], why: str) -> None:
    with pytest.raises(RequestError) as refused:
        connections(model_of(), words)
    assert str(refused.value) == why


def test_a_connection_that_nobody_recorded_has_no_story() -> None:
    with pytest.raises(NotFoundError, match="connection c9: no record of it"):
        story(model_of(), {"id": "c9"})


def test_denials_are_grouped_by_what_denied_and_counted_by_caller() -> None:
    model = model_of()
    by = {"policy": "ns/deny", "rule": "0", "clause": "from.principals"}
    model.ended("b.sock", [ended(f"c{number}", "inbound", "POLICY_DENIED", "denied", **by) for number in range(3)])
    model.ended("b.sock", [ended("c9", "inbound", "PEER_UNTRUSTED", "denied", source_id=None)])
    model.ended("b.sock", [ended("c0", "inbound", "POLICY_DENIED", "denied", **by)])  # known already
    model.event(
        "b.sock", {"event": "request", "method": "GET", **ended("c2", "inbound", "POLICY_DENIED", "denied", **by)}
    )
    view = denials(model, {})
    assert [(one["outcome"], one["count"], one["requests"], one["clause"]) for one in view["denials"]] == [
        ("POLICY_DENIED", 4, 1, "from.principals"),
        ("PEER_UNTRUSTED", 1, 0, None),
    ]
    assert view["denials"][0]["sources"] == [{"id": X, "count": 4}]
    assert "policy explain" in view["denials"][0]["next_step"]


def test_groups_of_denials_are_bounded() -> None:
    model = model_of()
    model.ended("b.sock", [ended(f"c{n}", "inbound", "POLICY_DENIED", "denied", policy=f"p{n}") for n in range(600)])
    view = denials(model, {})
    assert (view["total"], len(view["denials"])) == (600, 501)
    others = view["denials"][0]
    assert (others["policy"], others["clause"], others["count"], others["next_step"]) == ("(others)", None, 100, "")
    assert others["reason"] == "denied for various reasons: there are more than this page tells apart"


def test_policies_have_what_applies_to_whom_and_what_dry_runs_say() -> None:
    rules = [{"policy": "ns/p", "rule": "0", "action": "DENY", "provider": None, "dry_run": True}]
    model = model_of(
        policies={"generation": 3, "listeners": [{"listen": "127.0.0.1:1", "allow": None, "rules": rules}]}
    )
    model.ended("b.sock", [ended("c1", "inbound", "OK", "allowed", shadow=["ns/p would deny"])])
    view = policies(model, {})
    assert [(one["spiffe_id"], one["generation"], one["listeners"][0]["rules"]) for one in view["workloads"]] == [
        (B, 3, rules)
    ]
    assert view["dry_runs"] == [{"text": "ns/p would deny", "count": 1, "connection_id": "c1"}]


@pytest.mark.parametrize(("other", "agreed"), [(("ff",), True), (("ff", "ee"), False)])
def test_processes_that_hold_other_authorities_do_not_agree(other: tuple[str, ...], agreed: bool) -> None:
    model = Model(["one", "two"])
    for address, found in (("one", bundle("ff")), ("two", bundle(*other))):
        model.answered(address, Kind.SIDECAR, {"name": address}, {"/certs": {"bundles": [found]}}, NOW)
    (domain,) = trust(model, {})["trust_domains"]
    assert (domain["agreed"], domain["processes"]) == (agreed, 2)


def test_a_process_that_fails_is_shown_so_and_what_it_said_is_old() -> None:
    model = model_of(certs={"svids": [svid("01")], "bundles": []})
    model.live("b.sock", [{"number": 1, "connection_id": "1", "source_id": A, "destination_id": B}])
    model.failed("b.sock", "b.sock: nothing answers there")
    (one,) = processes(model, {})["processes"]
    assert (one["name"], one["error"]) == ("b", "b.sock: nothing answers there")
    assert identities(model, {})["identities"][0]["stale"]
    assert mesh(model, {})["edges"] == []


def test_a_version_grows_with_a_change_that_its_view_shows_and_with_no_other() -> None:
    model = model_of(certs={"svids": [svid("01")], "bundles": []}, ready={"ready": True})
    before = dict(model.versions)
    same: dict[str, dict[str, Any]] = {
        "/certs": {"svids": [{**svid("01"), "seconds_left": 7}], "bundles": []},
        "/ready": {"ready": True},
    }
    model.answered("b.sock", Kind.SIDECAR, {"kind": "sidecar", "name": "b", "spiffe_id": B, "now": "later"}, same, NOW)
    assert dict(model.versions) == before
    model.answered(
        "b.sock", Kind.SIDECAR, {"kind": "sidecar", "name": "b", "spiffe_id": B}, {"/ready": {"ready": False}}, NOW
    )
    assert {view for view in View if model.versions[view] > before[view]} == {View.PROCESSES, View.IDENTITIES}
