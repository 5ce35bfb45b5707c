"""Who talks to whom: the names of ends that proved no ID, and what of the connections was mutual TLS."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshtls.observe.edges import Edges
from meshtls.observe.events import (
    ConnectionResult,
    Direction,
    Outcome,
    Phases,
    RequestContext,
    RequestResult,
    Security,
)
from meshtls.spiffeid import SpiffeId

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
WEB, ORDERS = (SpiffeId.parse(f"spiffe://a.test/{name}") for name in ("web", "orders"))
INBOUND, OUTBOUND = Direction.INBOUND, Direction.OUTBOUND
REACHED = Phases(connect_ms=1.0)


def result(direction: Direction, outcome: Outcome = Outcome.OK, **changed: Any) -> ConnectionResult:
    own = {"destination_id": ORDERS} if direction is INBOUND else {"source_id": WEB}
    given: dict[str, Any] = {"sidecar": "s", "words": "", "started": NOW, "remote": "127.0.0.1:9", **own}
    return ConnectionResult(direction=direction, outcome=outcome, **given | changed)


@pytest.mark.parametrize(
    ("one", "ends"),
    [
        (result(INBOUND, source_id=WEB), (str(WEB), str(ORDERS))),
        (result(INBOUND, security=Security.PLAINTEXT), ("(plaintext)", str(ORDERS))),
        (result(INBOUND, Outcome.PLAINTEXT_REFUSED, security=Security.PLAINTEXT), ("(plaintext)", str(ORDERS))),
        (result(INBOUND, Outcome.NO_CLIENT_CERTIFICATE), ("(no proven identity)", str(ORDERS))),
        (result(INBOUND, Outcome.HANDSHAKE_FAILED), ("(no proven identity)", str(ORDERS))),
        (result(OUTBOUND, Outcome.LOCAL_IDENTITY), (str(WEB), "(not reached)")),
        (result(OUTBOUND, Outcome.CONNECT_FAILED, phases=REACHED), (str(WEB), "(not reached)")),
        (result(OUTBOUND, Outcome.PEER_UNTRUSTED, phases=REACHED), (str(WEB), "(no proven identity)")),
        (result(OUTBOUND, security=Security.TLS, phases=REACHED), (str(WEB), "(no proven identity)")),
        (result(OUTBOUND, security=Security.PLAINTEXT, phases=REACHED), (str(WEB), "(plaintext)")),
    ],
)
def test_an_end_without_a_proven_id_is_named_by_what_was_seen(one: ConnectionResult, ends: tuple[str, str]) -> None:
    edges = Edges()
    edges.connection(one, 0.0)
    assert [(source, destination) for (source, destination, _), _ in edges] == [ends]


def test_an_edge_counts_apart_what_was_mutual_tls_and_plaintext_and_what_was_neither() -> None:
    edges = Edges()
    for security, number in ((Security.MUTUAL_TLS, 3), (Security.TLS, 1), (Security.PLAINTEXT, 6), (None, 14)):
        for _ in range(number):
            edges.connection(result(INBOUND, source_id=WEB, security=security), 0.0)
    ((_, edge),) = edges
    assert (edge.connections, edge.mutual_tls, edge.tls, edge.plaintext) == (24, 3, 1, 6)


def test_a_denied_request_is_among_the_failed_ones_and_counted_apart() -> None:
    edges = Edges()
    for outcome, status in ((Outcome.OK, 200), (Outcome.OK, 500), (Outcome.POLICY_DENIED, 403)):
        context = RequestContext(
            sidecar="s",
            outcome=outcome,
            detail="",
            remote="127.0.0.1:9",
            source_id=None,
            destination_id=ORDERS,
            port=80,
            security=Security.PLAINTEXT,
            tunnel=False,
        )
        edges.request(RequestResult(context, NOW, "GET", "orders", "/", status), 0.0)
    (((source, _, _), edge),) = edges
    assert (source, edge.requests, edge.denied_requests, edge.failed_requests) == ("(plaintext)", 3, 1, 2)
