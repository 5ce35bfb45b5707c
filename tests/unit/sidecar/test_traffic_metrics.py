"""What is counted of a sidecar's events, one by one."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from meshtls.observe.events import (
    UNRULED,
    ConnectionResult,
    Direction,
    Outcome,
    Phases,
    RequestContext,
    RequestResult,
    Ruled,
    Security,
)
from meshtls.observe.live import Admitted, Ended, Live, Opened, PhaseEnded, RequestEnded
from meshtls.observe.metrics import Metrics
from meshtls.sidecar.metrics.traffic import OwnNames, Traffic
from meshtls.spiffeid import SpiffeId

A = SpiffeId.parse("spiffe://a.test/ns/shop/sa/web")
B = SpiffeId.parse("spiffe://b.test/ns/stock/sa/db")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWN = OwnNames("db-v1", "stock", "db")


class Seen:
    """Traffic into B from A, event by event."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.traffic = Traffic(self.metrics, OWN)

    def open(self, number: int, direction: Direction = Direction.INBOUND) -> None:
        live = Live(
            number=number,
            sidecar="b",
            direction=direction,
            started=NOW,
            remote="127.0.0.1:1",
            local_id=B,
            peer_id=None,
            tunnel=False,
            bytes_in=0,
            bytes_out=0,
            phases=Phases(),
        )
        self.traffic(Opened(live))

    def admit(
        self,
        number: int,
        direction: Direction = Direction.INBOUND,
        *,
        peer: SpiffeId | None = A,
        security: Security = Security.MUTUAL_TLS,
        carries: bool = False,
        resumed: bool = False,
    ) -> None:
        self.traffic(Admitted(number, direction, peer, security, False, carries, resumed))

    def end(
        self,
        number: int,
        outcome: Outcome = Outcome.OK,
        *,
        direction: Direction = Direction.INBOUND,
        source: SpiffeId | None = A,
        size: tuple[int, int] = (0, 0),
        ruled: Ruled = UNRULED,
        tunnel: bool = False,
        carries: bool = False,
        admitted: bool = True,
        destination: SpiffeId | None = B,
        expected: SpiffeId | None = None,
    ) -> None:
        result = ConnectionResult(
            sidecar="b",
            direction=direction,
            outcome=outcome,
            words="",
            started=NOW,
            remote="127.0.0.1:1",
            source_id=source,
            destination_id=destination,
            expected_id=expected,
            bytes_in=size[0],
            bytes_out=size[1],
            ruled=ruled,
            tunnel=tunnel,
            admitted=admitted,
        )
        self.traffic(Ended(number, result, carries))

    def value(self, name: str, *labels: str) -> float | None:
        return self.metrics.snapshot().value(f"meshtls_{name}", *labels)

    def istio(self, name: str, flags: str = "-", *more: str, protocol: str = "tcp") -> float | None:
        caller, called = ("web", "shop", str(A), "web"), ("db-v1", "stock", str(B), "db")
        labels = ("destination", *caller, *called, "db", "db", "stock", protocol, flags, "mutual_tls", *more)
        return self.metrics.snapshot().value(f"istio_{name}", *labels)


def test_a_connection_is_counted_as_it_opens_and_as_it_closes() -> None:
    seen = Seen()
    seen.open(1)
    assert seen.value("connections_accepted_total", "inbound") == 1
    assert seen.value("connections_opened_total", "inbound", str(A), str(B), "mutual_tls") is None
    seen.admit(1)
    assert seen.value("connections_opened_total", "inbound", str(A), str(B), "mutual_tls") == 1
    assert (seen.istio("tcp_connections_opened_total"), seen.istio("tcp_connections_closed_total")) == (1, None)
    seen.end(1, Outcome.RESET)
    assert seen.value("connections_closed_total", "inbound", str(A), str(B), "RESET") == 1
    assert seen.istio("tcp_connections_closed_total", "UC") == 1


def test_a_refused_connection_is_neither_opened_nor_closed() -> None:
    seen = Seen()
    seen.open(1)
    seen.end(1, Outcome.POLICY_DENIED, admitted=False)
    assert seen.value("connections_refused_total", "inbound", str(A), str(B), "POLICY_DENIED") == 1
    assert seen.metrics.snapshot().value("meshtls_connections_closed_total", "inbound", str(A), str(B), "OK") is None
    assert seen.value("policy_decisions_total", "none", "none", "denied") == 1


def test_a_caller_without_identity_is_unknown() -> None:
    seen = Seen()
    seen.open(1)
    seen.admit(1, peer=None, security=Security.PLAINTEXT)
    assert seen.value("connections_opened_total", "inbound", "unknown", str(B), "plaintext") == 1


def test_the_bytes_of_a_live_connection_are_counted_once() -> None:
    seen = Seen()
    seen.open(1)
    seen.admit(1)
    flow = SimpleNamespace(bytes_in=100, bytes_out=10)
    for more in (0, 0, 50):
        flow.bytes_in += more
        seen.traffic.count_bytes([SimpleNamespace(number=1, flow=flow)])
    assert seen.value("received_bytes_total", "inbound", str(A), str(B)) == 150
    seen.end(1, size=(170, 30))
    assert seen.value("received_bytes_total", "inbound", str(A), str(B)) == 170
    assert seen.value("sent_bytes_total", "inbound", str(A), str(B)) == 30
    assert (seen.istio("tcp_received_bytes_total"), seen.istio("tcp_sent_bytes_total")) == (170, 30)


def test_bytes_never_go_back() -> None:
    seen = Seen()
    seen.open(1)
    seen.admit(1)
    for size in (100, 40, 100, 120):
        seen.traffic.count_bytes([SimpleNamespace(number=1, flow=SimpleNamespace(bytes_in=size, bytes_out=0))])
    assert seen.value("received_bytes_total", "inbound", str(A), str(B)) == 120


def test_phases_are_timed_by_direction() -> None:
    seen = Seen()
    seen.open(1, Direction.OUTBOUND)
    seen.traffic(PhaseEnded(1, "handshake", 2.0))
    (times,) = (one for one in seen.metrics.snapshot().families if one.family.name.startswith("meshtls_handshake_d"))
    counts = dict(times.values)
    assert (sum(counts["outbound",][:-1]), counts["outbound",][-1]) == (1, 0.002)
    assert sum(counts["inbound",][:-1]) == 0


def test_sessions_are_counted_by_whether_they_resumed() -> None:
    seen = Seen()
    for number, resumed in enumerate((True, False, False)):
        seen.open(number)
        seen.admit(number, resumed=resumed)
    assert [seen.value("tls_sessions_total", "inbound", resumed) for resumed in ("true", "false")] == [1, 2]


def test_a_tunnel_is_no_connection_and_its_streams_are() -> None:
    seen = Seen()
    seen.open(1)
    seen.admit(1, carries=True)
    seen.open(2)
    seen.admit(2)
    seen.end(2, tunnel=True)
    seen.end(1, carries=True)
    assert seen.value("tunnels_accepted_total", str(A)) == 1
    assert seen.value("streams_closed_total", "inbound", "OK") == 1
    assert seen.value("connections_opened_total", "inbound", str(A), str(B), "mutual_tls") == 1
    assert seen.value("connections_closed_total", "inbound", str(A), str(B), "OK") == 1
    assert [one.values for one in seen.metrics.snapshot().families if "refused" in one.family.name] == [()]


def test_a_tunnel_that_is_refused_is_counted() -> None:
    seen = Seen()
    seen.open(1)
    seen.end(1, Outcome.POLICY_DENIED, carries=True, admitted=False)
    assert seen.value("connections_refused_total", "inbound", str(A), str(B), "POLICY_DENIED") == 1


@pytest.mark.parametrize(
    ("status", "code_class", "outcome", "flags"),
    [
        (200, "2xx", Outcome.OK, "-"),
        (404, "4xx", Outcome.OK, "-"),
        (403, "4xx", Outcome.POLICY_DENIED, "UAEX"),
        (503, "5xx", Outcome.CONNECT_FAILED, "UF"),
        (400, "4xx", Outcome.REQUEST_REFUSED, "DPE"),
        (0, "none", Outcome.OK, "-"),
        (777, "none", Outcome.OK, "-"),
    ],
)
def test_a_request_is_counted_by_the_class_of_its_status(
    status: int, code_class: str, outcome: Outcome, flags: str
) -> None:
    seen = Seen()
    context = RequestContext(
        sidecar="b",
        outcome=outcome,
        detail="",
        remote="127.0.0.1:1",
        source_id=A,
        destination_id=B,
        port=80,
        security=Security.MUTUAL_TLS,
        tunnel=False,
        ruled=Ruled("shop/allow-web", "0", dry_run=(("shop/next", "1", False),)),
    )
    for _ in range(2):
        seen.traffic(RequestEnded(1, RequestResult(context, NOW, "GET", "db", "/", status, 3.0)))
    verdict = outcome.verdict.value
    assert seen.value("http_requests_total", str(A), str(B), code_class, outcome.name, verdict) == 2
    assert seen.value("policy_decisions_total", "shop/allow-web", "0", verdict) == 2
    assert seen.value("policy_dry_run_decisions_total", "shop/next", "1", "denied") == 2
    assert seen.istio("requests_total", flags, str(status), protocol="http") == 2
    times = [one for one in seen.metrics.snapshot().families if one.family.name.startswith("istio_request_duration")]
    assert [sum(numbers[:-1]) for _, numbers in times[0].values] == [2]


def test_a_new_name_of_the_workload_is_used_from_then_on() -> None:
    seen = Seen()
    seen.open(1)
    seen.admit(1)
    seen.traffic.rename(OWN._replace(workload="db-v2"))
    seen.open(2)
    seen.admit(2)
    opened = next(one for one in seen.metrics.snapshot().families if one.family.name.startswith("istio_tcp_conn"))
    assert [values[5] for values, _ in opened.values] == ["db-v1", "db-v2"]


def test_identities_without_end_take_bounded_memory() -> None:
    seen = Seen()
    for number in range(5000):
        seen.open(number)
        seen.admit(number, peer=SpiffeId.parse(f"spiffe://a.test/w{number}"))
        seen.end(number)
    assert max(len(one.values) for one in seen.metrics.snapshot().families) <= 1002
    assert seen.value("connections_opened_total", "inbound", "other", str(B), "mutual_tls") == 4800
    assert len(seen.traffic._tallies) == 0
    assert len(seen.traffic._pairs) <= 2048


@pytest.mark.parametrize(("expected", "label"), [(B, str(B)), (None, "unknown")])
def test_an_outbound_connection_that_reaches_no_peer_is_counted_by_the_peer_that_is_configured(
    expected: SpiffeId | None, label: str
) -> None:
    seen = Seen()
    for number, outcome in enumerate((Outcome.CONNECT_FAILED, Outcome.HANDSHAKE_TIMEOUT), 1):
        seen.open(number, Direction.OUTBOUND)
        seen.end(number, outcome, direction=Direction.OUTBOUND, destination=None, expected=expected, admitted=False)
        assert seen.value("connections_refused_total", "outbound", str(A), label, outcome.name) == 1


def test_an_outbound_connection_is_counted_by_the_peer_that_was_verified_before_the_one_that_is_configured() -> None:
    seen = Seen()
    seen.open(1, Direction.OUTBOUND)
    seen.end(1, Outcome.POLICY_DENIED, direction=Direction.OUTBOUND, destination=A, expected=B, admitted=False)
    assert seen.value("connections_refused_total", "outbound", str(A), str(A), "POLICY_DENIED") == 1
