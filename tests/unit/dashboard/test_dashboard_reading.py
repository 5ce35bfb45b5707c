"""What the dashboard takes from a process: the right types, texts that are cut, and bytes that are bounded."""

from __future__ import annotations

from typing import Any

import pytest

from meshtls.dashboard.connections import Connections
from meshtls.dashboard.denials import Denials
from meshtls.dashboard.reading import connections_of, event_of, page_of, size_of

LONG = "x" * 100_000
SVID = {
    "spiffe_id": "spiffe://a.test/a",
    "serial": "01",
    "not_before": "2026-01-01T00:00:00Z",
    "not_after": "2026-01-01T01:00:00Z",
}
EVENT = {
    "event": "ended",
    "number": 1,
    "connection_id": "0123456789abcdef",
    "time": "2026-01-01T00:00:00Z",
    "sidecar": "b",
    "direction": "inbound",
    "verdict": "denied",
    "outcome": "POLICY_DENIED",
    "detail": "not allowed",
    "source_id": None,
    "destination_id": "spiffe://a.test/b",
    "total_ms": 1,
    "handshake_ms": None,
}
CERTIFICATE = {"subject": "CN=root", "issuer": "CN=root", "sha256": "ff"}


@pytest.mark.parametrize(
    ("path", "record", "why"),
    [
        ("/server_info", {"kind": ["sidecar"]}, "Expected `str`, got `array` - at `$.kind`"),
        ("/server_info", {"kind": "toaster"}, "Invalid enum value 'toaster' - at `$.kind`"),
        ("/server_info", {"name": "b"}, "Object missing required field `kind`"),
        ("/certs", {"svids": "none"}, "Expected `array`, got `str` - at `$.svids`"),
        (
            "/certs",
            {"svids": [{**SVID, "not_after": "9999-12-31T23:59:59Z"}]},
            "wanted a moment with its time zone, 1970 to 9000, got 9999-12-31T23:59:59Z",
        ),
        (
            "/certs",
            {"workloads": [{**SVID, "not_before": "2026-01-01T00:00:00"}]},
            "wanted a moment with its time zone, 1970 to 9000, got 2026-01-01T00:00:00",
        ),
        ("/graph", {"edges": [{"source_id": 7}]}, "Expected `str`, got `int` - at `$.edges[0].source_id`"),
        ("/policies", {"entries": {"a": 1}}, "Expected `array`, got `object` - at `$.entries`"),
        (
            "/policies",
            {"listeners": [{}] * 1001},
            "Expected `array` of length <= 1000 - at `$.listeners`",
        ),
    ],
)
def test_a_page_of_another_type_is_refused(path: str, record: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=".") as refused:
        page_of(path, record)
    assert str(refused.value) == why


@pytest.mark.parametrize(
    ("path", "record"),
    [
        ("/server_info", {"kind": "sidecar", "name": "b"}),
        ("/certs", {"svids": [SVID], "server": {"svids": [SVID], "bundles": []}}),
        ("/certs", {"bundles": [{"trust_domain": "a.test", "x509_authorities": [CERTIFICATE]}]}),
        ("/graph", {"edges": []}),
        ("/policies", {"listeners": [{}] * 1000}),
    ],
)
def test_a_page_of_the_right_type_is_taken_as_it_is(path: str, record: dict[str, Any]) -> None:
    assert page_of(path, record) == record


def test_a_text_that_is_too_long_is_cut_and_an_unknown_member_is_left_out() -> None:
    page = page_of("/server_info", {"kind": "sidecar", "name": LONG, "spiffe_id": LONG, "more": LONG})
    assert page == {"kind": "sidecar", "name": "x" * 253 + "...", "spiffe_id": "x" * 2045 + "..."}
    event = event_of({**EVENT, "detail": LONG, "shadow": [LONG] * 1000, "tls_version": LONG, "bulk": [LONG]})
    assert len(event["detail"]) == 2048
    assert [len(one) for one in event["shadow"]] == [512] * 32
    assert size_of(event) < 32_000
    assert {name: value for name, value in event.items() if name in EVENT and name != "detail"} == {
        name: value for name, value in EVENT.items() if name != "detail"
    }


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"total_ms": "1"}, "Expected `float`, got `str` - at `$.total_ms`"),
        ({"number": 10**60}, "Expected `int` <= 9007199254740992 - at `$.number`"),
        ({"number": -1}, "Expected `int` >= 0 - at `$.number`"),
        ({"time": "yesterday"}, "Invalid isoformat string: 'yesterday'"),
        ({"event": "opened", "source_id": 7}, "Expected `str | null`, got `int` - at `$.source_id`"),
    ],
)
def test_an_event_of_another_type_is_refused(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=".") as refused:
        event_of({**EVENT, **more})
    assert str(refused.value) == why


def test_a_live_connection_needs_its_number_and_an_ended_one_does_not() -> None:
    without = {name: value for name, value in EVENT.items() if name != "number"}
    assert connections_of({"ended": [without]}) == {"ended": [without]}
    with pytest.raises(ValueError, match="^Object missing required field `number` - at"):
        connections_of({"live": [without]})


def line(number: int, **more: Any) -> dict[str, Any]:
    return {**EVENT, "connection_id": f"{number:016x}", "time": f"2026-01-01T00:00:00.{number:06d}Z", **more}


def test_a_process_that_sends_large_records_loses_its_own_oldest_alone() -> None:
    store = Connections(most_bytes=100_000)
    store.ended("quiet", line(1))
    for number in range(2, 100):
        store.ended("loud", line(number, detail="x" * 8000))
        store.request("loud", line(number, detail="x" * 8000, method="GET"))
    kept = [known.connection_id for known in store.newest()]
    assert kept[-1] == f"{1:016x}"
    assert kept[0] == f"{99:016x}"
    assert sum(size_of(one) for known in store.newest() for one in (*known.lines, *known.requests)) < 110_000


def test_records_that_an_id_no_longer_keeps_are_not_counted() -> None:
    store = Connections(most=3, most_refused=3, most_bytes=100_000)
    for number in range(1000):
        store.ended("loud", line(1, time=str(number)))
        store.ended("loud", line(number))
    # Three connections, of which one has eight records: nothing was pushed out for its bytes.
    assert len(store) == 3
    store.ended("loud", line(1, time="new", detail="x" * 50_000))
    assert len(store) == 3


def test_connections_that_are_opened_are_bounded_in_bytes_until_the_next_look() -> None:
    store = Connections()
    for number in range(5000):
        store.opened("loud", {**line(number), "number": number, "detail": "x" * 8000})
    assert sum(size_of(one) for one in store.living()) <= 16 << 20
    store.live("loud", [])
    store.opened("loud", line(7))
    assert [one["connection_id"] for one in store.living()] == [f"{7:016x}"]


def test_denials_of_a_process_that_names_many_are_counted_together_and_those_of_others_are_not() -> None:
    found = Denials()
    for number in range(400):
        found.take("loud", line(number, policy=f"p{number}", detail="x" * 8000))
    found.take("quiet", line(1, policy="quiet"))
    groups = {(one.line["policy"], one.count) for one in found}
    assert ("quiet", 1) in groups
    assert sum(one.count for one in found) == 401
    assert sum(size_of(one.line) for one in found) < 3 << 20
    assert max(one.count for one in found) > 100


def test_an_outcome_that_no_enum_knows_has_no_group_of_its_own() -> None:
    found = Denials()
    for number in range(2000):
        found.take("loud", line(number, outcome=f"MADE_UP_{number}"))
    assert len(list(found)) <= 501


def test_denials_are_not_grouped_by_what_callers_asked_for() -> None:
    found = Denials()
    for number in range(600):
        found.take("busy", line(number, clause=f"operation.paths: wanted /public, got /scan{number}"))
    found.take("busy", line(600, clause="operation.methods: wanted GET, got DELETE"))
    assert sorted((one.count, one.mixed) for one in found) == [(1, False), (600, False)]
