"""``/connections`` in short: a line for each connection that fits a screen, and the newest alone."""

from __future__ import annotations

from typing import Any

from meshtls.admin.in_short import connections_in_short
from meshtls.admin.words import in_words

OURS, PEER, OTHER = "spiffe://a.test/db", "spiffe://a.test/web", "spiffe://b.test/web"
ENDED: dict[str, Any] = {
    "time": "2026-11-28T17:44:08.538165Z",
    "sidecar": "db",
    "direction": "inbound",
    "verdict": "allowed",
    "outcome": "OK",
    "reason": "the connection was allowed and closed by both sides",
    "detail": "closed by both sides",
    "source_id": PEER,
    "destination_id": OURS,
    "remote": "127.0.0.1:35812",
    "local_serial": "53af",
    "bytes_in": 60,
    "bytes_out": 116,
    "total_ms": 30,
    "connection_id": "349fb37b",
}
LIVE: dict[str, Any] = {
    "connection_id": "41cc",
    "direction": "outbound",
    "state": "relaying",
    "source_id": OURS,
    "destination_id": OTHER,
    "remote": "127.0.0.1:15006",
    "seconds": 1.5,
    "bytes_in": 4,
    "bytes_out": 2,
}
REQUEST: dict[str, Any] = {
    "connection_id": "349fb37b",
    "time": "2026-11-28T17:44:08.538165+00:00",
    "direction": "inbound",
    "source_id": PEER,
    "method": "GET",
    "host": "db",
    "path": f"/{'x' * 100}",
    "status": 200,
    "outcome": "OK",
    "total_ms": 1.5,
}
HEAD: dict[str, object] = {"sidecar": "db", "spiffe_id": OURS, "number": 1}


def test_each_connection_and_request_has_the_columns_that_fit_a_screen() -> None:
    strangers = ENDED | {"source_id": None, "outcome": "PLAINTEXT_REFUSED"}
    record = {**HEAD, "live": [LIVE], "ended": [ENDED, strangers], "requests": [REQUEST]}
    assert in_words(connections_in_short(record)).split("\n") == [
        "sidecar:                 db",
        "spiffe id:               spiffe://a.test/db",
        "number:                  1",
        "live:",
        "  connection id  direction  state     peer                 seconds  bytes in  bytes out",
        "  41cc           outbound   relaying  spiffe://b.test/web  1.5      4         2",
        "ended:",
        "  time                 connection id  direction  outcome            peer             bytes in  bytes out  ms",
        "  2026-11-28T17:44:08  349fb37b       inbound    OK                 /web             60        116        30",
        "  2026-11-28T17:44:08  349fb37b       inbound    PLAINTEXT_REFUSED  127.0.0.1:35812  60        116        30",
        "requests:",
        "  time                 connection id  peer  request                                                   "
        "       status  outcome  ms",
        f"  2026-11-28T17:44:08  349fb37b       /web  GET db/{'x' * 53}...  200     OK       1.5",
    ]


def test_the_newest_are_shown_and_the_text_says_how_to_see_more() -> None:
    ended = [ENDED | {"connection_id": str(number)} for number in range(3)]
    record = {**HEAD, "live": [], "ended": ended, "requests": [REQUEST] * 2}
    short = connections_in_short(record, 2)
    assert [one["connection_id"] for one in short["ended"]] == ["0", "1"]  # type: ignore[attr-defined]
    assert short["more"] == "ended: the newest 2 are shown; limit=NUMBER, or --output json, shows more"
    assert "more" not in connections_in_short(record, 3)


def test_an_answer_without_lists_of_connections_stays_as_it_is() -> None:
    for record in ({"agents_connected": 2}, {"ended": "none"}, {"ended": ["none"]}):
        assert connections_in_short(record) == record
