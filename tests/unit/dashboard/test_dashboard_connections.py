"""The dashboard's store of connections: both sides together, a place for each verdict, and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from meshtls.dashboard.connections import Connections


def line(number: int, verdict: str = "allowed", direction: str = "inbound", **more: object) -> dict[str, Any]:
    return {
        "connection_id": f"{number:016x}",
        "time": f"2026-01-01T00:00:{number % 60:02d}Z",
        "sidecar": "b" if direction == "inbound" else "a",
        "direction": direction,
        "verdict": verdict,
        "outcome": {"allowed": "OK", "denied": "POLICY_DENIED", "failed": "HANDSHAKE_FAILED"}[verdict],
        **more,
    }


def test_both_sides_of_a_connection_are_one() -> None:
    store = Connections()
    assert store.ended("b", line(1, "failed", "outbound"))
    assert store.ended("b", line(1, "denied"))
    (known,) = store.newest()
    assert [one["direction"] for one in known.lines] == ["outbound", "inbound"]
    assert known.verdict == "denied"
    assert len(store) == 1


def test_a_record_that_came_before_is_no_new_one() -> None:
    store = Connections()
    assert [store.ended("b", line(1)), store.ended("b", line(1)), store.ended("b", line(1, direction="outbound"))] == [
        True,
        False,
        True,
    ]


def test_a_flood_of_denials_pushes_out_denials_alone() -> None:
    store = Connections(most=3, most_refused=2)
    for number in range(1, 4):
        store.ended("b", line(number))
    for number in range(10, 100):
        store.ended("b", line(number, "denied"))
    assert [one.connection_id for one in store.newest()] == [f"{number:016x}" for number in (99, 98, 3, 2, 1)]


def test_an_id_that_is_chosen_again_and_again_keeps_few_records() -> None:
    store = Connections()
    for number in range(100):
        store.ended("b", line(1) | {"time": str(number)})
        store.request("b", line(1, method="GET") | {"time": str(number)})
    (known,) = store.newest()
    assert (len(known.lines), len(known.requests)) == (8, 32)


def test_a_request_that_is_told_twice_is_kept_once() -> None:
    store = Connections()
    told = [store.request("b", line(1, method=method) | {"time": "1"}) for method in ("GET", "GET", "POST")]
    (known,) = store.newest()
    assert (told, len(known.requests)) == ([True, False, True], 2)


def test_a_process_alone_says_which_connections_live_in_it() -> None:
    store = Connections()

    def living(number: int) -> Mapping[str, Any]:
        return {"number": number, "connection_id": str(number)}

    store.live("one", [living(1), living(2)])
    store.live("two", [living(1)])
    store.opened("two", living(7))
    store.closed("one", 2)
    assert sorted((one["connection_id"]) for one in store.living()) == ["1", "1", "7"]
    store.gone("two")
    assert [one["connection_id"] for one in store.living()] == ["1"]
    store.live("one", [])
    assert list(store.living()) == []


@pytest.mark.parametrize("wanted", ["0000000000000001", "ffffffffffffffff"])
def test_the_records_of_an_id_are_all_there_are(wanted: str) -> None:
    store = Connections()
    store.ended("b", line(1))
    store.request("b", line(1, method="GET"))
    assert [("method" in one) for one in store.of(wanted)] == ([False, True] if wanted.endswith("1") else [])
