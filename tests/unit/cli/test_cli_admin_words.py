"""What `tap`, `top` and `graph` print of records."""

from __future__ import annotations

from typing import Any

import pytest

from meshtls.cli.admin.graph import dot, mermaid
from meshtls.cli.admin.tap import Sums, event_line

WEB, ORDERS = "spiffe://a.test/web", "spiffe://a.test/orders"
REQUEST = {
    "event": "request",
    "connection_id": "1f",
    "source_id": WEB,
    "destination_id": ORDERS,
    "method": "GET",
    "host": "orders",
    "path": "/secret",
    "status": 403,
    "total_ms": 1.5,
    "verdict": "denied",
    "outcome": "POLICY_DENIED",
    "detail": "denied by ns[default]-policy[p]",
    "security": "mutual_tls",
}
SERVED = REQUEST | {"status": 200, "verdict": "allowed", "outcome": "OK", "detail": "allowed"}
ENDED = {
    "event": "ended",
    "connection_id": "1f",
    "direction": "outbound",
    "source_id": WEB,
    "destination_id": ORDERS,
    "verdict": "allowed",
    "outcome": "OK",
    "detail": "closed by both sides",
    "security": "mutual_tls",
    "connect_ms": 1.0,
    "total_ms": 2.0,
    "bytes_in": 4,
    "bytes_out": 2,
}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            REQUEST,
            f"request  1f {WEB} -> {ORDERS} denied GET orders/secret 403 1.5 ms: POLICY_DENIED: denied by"
            " ns[default]-policy[p]",
        ),
        (SERVED, f"request  1f {WEB} -> {ORDERS} allowed GET orders/secret 200 1.5 ms"),
        (
            ENDED | {"destination_id": None, "connect_ms": None, "outcome": "LOCAL_IDENTITY", "security": None},
            f"ended    1f {WEB} -> (not reached) outbound LOCAL_IDENTITY 4 in, 2 out, 2 ms: closed by both sides",
        ),
        (
            ENDED | {"source_id": None, "direction": "inbound", "security": "plaintext"},
            f"ended    1f (plaintext) -> {ORDERS} inbound OK 4 in, 2 out, 2 ms: closed by both sides",
        ),
        (
            {"event": "opened", "connection_id": "1f", "source_id": WEB, "destination_id": None}
            | {"direction": "outbound", "remote": "127.0.0.1:9"},
            f"opened   1f {WEB} -> (not known yet) outbound 127.0.0.1:9",
        ),
    ],
    ids=["denied request", "served request", "no SVID", "plaintext", "opened"],
)
def test_a_line_of_tap_names_both_ends_and_says_why(event: dict[str, Any], line: str) -> None:
    assert event_line(event) == line


def test_top_counts_connections_and_requests_apart() -> None:
    sums = Sums()
    for event in (ENDED, REQUEST, SERVED, SERVED):
        sums.take(event)
    assert sums.rows() == [
        {
            "source": WEB,
            "destination": ORDERS,
            "connections": 1,
            "connections_allowed": 1,
            "connections_denied": 0,
            "connections_failed": 0,
            "requests": 3,
            "requests_allowed": 2,
            "requests_denied": 1,
            "requests_failed": 0,
        }
    ]


def edge(**counts: int) -> dict[str, Any]:
    names = ("allowed", "denied", "failed", "mutual_tls", "tls", "plaintext")
    zero = dict.fromkeys((*names, "connections", "requests", "denied_requests", "failed_requests"), 0)
    return {"source_id": WEB, "destination_id": ORDERS, **zero, **counts}


@pytest.mark.parametrize(
    ("counts", "label", "colour", "arrow"),
    [
        (
            {"connections": 2, "allowed": 2, "mutual_tls": 2},
            "2 connections, 100 % allowed, 100 % mTLS",
            "darkgreen",
            "-->",
        ),
        # As many probes as there are: they were no mutual TLS, and no plaintext.
        (
            {"connections": 20, "denied": 6, "failed": 14, "plaintext": 6},
            "20 connections, 0 % allowed, 0 % mTLS",
            "red",
            "-.->",
        ),
        ({"connections": 14, "failed": 14}, "14 connections, 0 % allowed, - mTLS", "grey", "-.->"),
        ({"connections": 1, "allowed": 1, "plaintext": 1}, "1 connection, 100 % allowed, 0 % mTLS", "orange", "-->"),
        (
            {
                "connections": 1,
                "allowed": 1,
                "mutual_tls": 1,
                "requests": 2,
                "denied_requests": 2,
                "failed_requests": 2,
            },
            "1 connection, 100 % allowed, 100 % mTLS, 2 requests, 2 denied",
            "red",
            "-.->",
        ),
        (
            {
                "connections": 1,
                "allowed": 1,
                "mutual_tls": 1,
                "requests": 3,
                "denied_requests": 1,
                "failed_requests": 2,
            },
            "1 connection, 100 % allowed, 100 % mTLS, 3 requests, 1 denied, 1 failed",
            "darkgreen",
            "-->",
        ),
    ],
    ids=["mutual TLS", "probes and plaintext", "probes", "plaintext", "denied requests", "some denied requests"],
)
def test_an_edge_is_drawn_by_what_was_served(counts: dict[str, int], label: str, colour: str, arrow: str) -> None:
    assert list(dot([edge(**counts)]))[2] == f'  "{WEB}" -> "{ORDERS}" [label="{label}", color={colour}];'
    assert list(mermaid([edge(**counts)]))[3] == f'  n0 {arrow}|"{label}"| n1'
