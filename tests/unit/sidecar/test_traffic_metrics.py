"""What is counted of connections that live, at their end, and of requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from meshtls.observe.events import (
    UNRULED,
    ConnectionResult,
    Direction,
    Outcome,
    RequestContext,
    RequestResult,
    Ruled,
    Security,
    TimedPhase,
)
from meshtls.observe.live import Admitted, Ended, RequestEnded
from meshtls.observe.metrics import Metrics
from meshtls.observe.metrics.snapshot import Samples
from meshtls.sidecar.metrics.traffic import OwnNames, Traffic
from meshtls.spiffeid import SpiffeId

A = SpiffeId.parse("spiffe://a.test/ns/shop/sa/web")
B = SpiffeId.parse("spiffe://b.test/ns/stock/sa/db")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWN = OwnNames("db-v1", "stock", "db")


@dataclass
class Open:
    """A connection that lives: inbound to B, from A."""

    number: int = 1
    direction: Direction = Direction.INBOUND
    local_id: SpiffeId = B
    peer: SpiffeId | None = A
    security: Security = Security.MUTUAL_TLS
    stream: bool = False
    carries: bool = False
    resumed: bool | None = False
    admitted: bool = True
    reported: bool = False
    timed: list[tuple[TimedPhase, float]] = field(default_factory=list)
    flow: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(bytes_in=0, bytes_out=0))

    def admission(self) -> Admitted:
        return Admitted(
            self.number, self.direction, self.peer, self.security, self.stream, self.carries, bool(self.resumed)
        )


class Seen:
    """Traffic into B from A."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.traffic = Traffic(self.metrics, OWN)

    def scrape(self, *live: Open) -> None:
        self.traffic.count_live(live)

    def end(
        self,
        one: Open,
        outcome: Outcome = Outcome.OK,
        *,
        ruled: Ruled = UNRULED,
        expected: SpiffeId | None = None,
        secured: bool = True,
    ) -> None:
        """``secured``: the result says that it was secure."""
        inbound = one.direction is Direction.INBOUND
        result = ConnectionResult(
            sidecar="b",
            direction=one.direction,
            outcome=outcome,
            words="",
            started=NOW,
            remote="127.0.0.1:1",
            source_id=one.peer if inbound else one.local_id,
            destination_id=one.local_id if inbound else one.peer,
            expected_id=expected,
            bytes_in=one.flow.bytes_in,
            bytes_out=one.flow.bytes_out,
            ruled=ruled,
            tunnel=one.stream,
            admitted=one.admitted,
            security=one.security if secured else None,
        )
        one.reported = True
        self.traffic(Ended(one.number, result, one.carries, timed=one.timed, resumed=one.resumed))

    def value(self, name: str, *labels: str) -> float | None:
        return self.metrics.snapshot().value(f"meshtls_{name}", *labels)

    def istio(self, name: str, flags: str = "-", *more: str, protocol: str = "tcp") -> float | None:
        caller, called = ("web", "shop", str(A), "web"), ("db-v1", "stock", str(B), "db")
        labels = ("destination", *caller, *called, "db", "db", "stock", protocol, flags, "mutual_tls", *more)
        return self.metrics.snapshot().value(f"istio_{name}", *labels)


def test_a_connection_is_counted_as_it_opens_and_as_it_closes() -> None:
    seen, one = Seen(), Open(admitted=False)
    seen.scrape(one)
    assert seen.value("connections_accepted_total", "inbound") == 1
    assert seen.value("connections_opened_total", "inbound", str(A), str(B), "mutual_tls") is None
    one.admitted = True
    seen.scrape(one)
    assert seen.value("connections_opened_total", "inbound", str(A), str(B), "mutual_tls") == 1
    assert (seen.istio("tcp_connections_opened_total"), seen.istio("tcp_connections_closed_total")) == (1, None)
    seen.end(one, Outcome.RESET)
    assert seen.value("connections_closed_total", "inbound", str(A), str(B), "RESET") == 1
    assert seen.istio("tcp_connections_closed_total", "UC") == 1


@pytest.mark.parametrize("scraped", range(1, 16))
@pytest.mark.parametrize("admitted", [False, True])
@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_is_counted_alike_whenever_it_is_scraped(
    scraped: int, admitted: bool, direction: Direction, stream: bool
) -> None:
    """``scraped``: a bit for each moment at which there is a scrape."""

    def counts(moments: int) -> list[Samples]:
        seen = Seen()
        one = Open(direction=direction, stream=stream, admitted=False, timed=[("detect", 1.0)])

        def moment(number: int) -> None:
            if moments >> number & 1:
                seen.scrape(one)

        moment(0)
        one.timed.append(("handshake", 2.0))
        one.admitted = admitted
        moment(1)
        one.timed += [("connect", 3.0), ("connect", 4.0)]
        one.flow.bytes_in, one.flow.bytes_out = (50, 7) if admitted else (0, 0)
        moment(2)
        one.flow.bytes_in *= 2
        seen.end(one, Outcome.RESET if admitted else Outcome.POLICY_DENIED)
        moment(3)  # its end was reported, and its sockets are still open
        return list(seen.metrics.snapshot().families)

    assert counts(scraped) == counts(0)


def test_a_connection_whose_peer_refuses_it_after_the_handshake_was_opened_with_mutual_tls() -> None:
    seen = Seen()
    one = Open(direction=Direction.OUTBOUND, local_id=A, peer=B)
    seen.end(one, Outcome.HANDSHAKE_FAILED, secured=False)
    assert seen.value("connections_opened_total", "outbound", str(A), str(B), "mutual_tls") == 1
    assert seen.value("tls_sessions_total", "outbound", "false") == 1


def test_connections_that_end_in_turn_are_counted_each_for_itself() -> None:
    seen, other = Seen(), SpiffeId.parse("spiffe://a.test/other")
    kinds: list[tuple[Open, Outcome]] = [
        (Open(1), Outcome.OK),
        (Open(2), Outcome.RESET),
        (Open(3, peer=other), Outcome.RESET),
        (Open(4, stream=True, resumed=None), Outcome.RESET),
        (Open(5, security=Security.PLAINTEXT), Outcome.RESET),
        (Open(6, Direction.OUTBOUND, local_id=A, peer=B), Outcome.RESET),
    ]
    for _ in range(3):
        for one, outcome in kinds:
            for _ in range(2):
                seen.end(one, outcome)
    assert seen.value("connections_accepted_total", "inbound") == 30
    assert seen.value("connections_accepted_total", "outbound") == 6
    assert seen.value("connections_opened_total", "inbound", str(A), str(B), "mutual_tls") == 18
    assert seen.value("connections_opened_total", "inbound", str(A), str(B), "plaintext") == 6
    assert seen.value("connections_opened_total", "inbound", str(other), str(B), "mutual_tls") == 6
    assert seen.value("connections_opened_total", "outbound", str(A), str(B), "mutual_tls") == 6
    assert seen.value("connections_closed_total", "inbound", str(A), str(B), "OK") == 6
    assert seen.value("connections_closed_total", "inbound", str(A), str(B), "RESET") == 18
    assert seen.value("streams_closed_total", "inbound", "RESET") == 6
    assert seen.value("tls_sessions_total", "inbound", "false") == 18


def test_a_refused_connection_is_neither_opened_nor_closed() -> None:
    seen = Seen()
    seen.end(Open(admitted=False), Outcome.POLICY_DENIED)
    assert seen.value("connections_accepted_total", "inbound") == 1
    assert seen.value("connections_refused_total", "inbound", str(A), str(B), "POLICY_DENIED") == 1
    assert seen.metrics.snapshot().value("meshtls_connections_closed_total", "inbound", str(A), str(B), "OK") is None
    assert seen.value("policy_decisions_total", "none", "none", "denied") == 1


def test_a_caller_without_identity_is_unknown() -> None:
    seen = Seen()
    seen.end(Open(peer=None, security=Security.PLAINTEXT))
    assert seen.value("connections_opened_total", "inbound", "unknown", str(B), "plaintext") == 1


def test_the_bytes_of_a_live_connection_are_counted_once() -> None:
    seen, one = Seen(), Open()
    one.flow.bytes_in, one.flow.bytes_out = 100, 10
    for more in (0, 0, 50):
        one.flow.bytes_in += more
        seen.scrape(one)
    assert seen.value("received_bytes_total", "inbound", str(A), str(B)) == 150
    one.flow.bytes_in, one.flow.bytes_out = 170, 30
    seen.end(one)
    assert seen.value("received_bytes_total", "inbound", str(A), str(B)) == 170
    assert seen.value("sent_bytes_total", "inbound", str(A), str(B)) == 30
    assert (seen.istio("tcp_received_bytes_total"), seen.istio("tcp_sent_bytes_total")) == (170, 30)


def test_bytes_never_go_back() -> None:
    seen, one = Seen(), Open()
    for size in (100, 40, 100, 120):
        one.flow.bytes_in = size
        seen.scrape(one)
    assert seen.value("received_bytes_total", "inbound", str(A), str(B)) == 120


def test_phases_are_timed_by_direction() -> None:
    seen = Seen()
    seen.end(Open(direction=Direction.OUTBOUND, timed=[("handshake", 2.0)]))
    (times,) = (one for one in seen.metrics.snapshot().families if one.family.name.startswith("meshtls_handshake_d"))
    counts = dict(times.values)
    assert (sum(counts["outbound",][:-1]), counts["outbound",][-1]) == (1, 0.002)
    assert sum(counts["inbound",][:-1]) == 0


@pytest.mark.parametrize("scraped", [False, True])
def test_sessions_are_counted_by_whether_they_resumed(scraped: bool) -> None:
    seen = Seen()
    plaintext = Open(3, security=Security.PLAINTEXT)
    first_of_its_tunnel, next_stream = Open(4, stream=True, resumed=False), Open(5, stream=True, resumed=None)
    for one in (Open(1, resumed=True), Open(2), plaintext, first_of_its_tunnel, next_stream):
        if scraped:
            seen.scrape(one)
        seen.end(one)
    assert [seen.value("tls_sessions_total", "inbound", resumed) for resumed in ("true", "false")] == [1, 2]


@pytest.mark.parametrize("scraped", [False, True])
def test_a_tunnel_is_no_connection_and_its_streams_are(scraped: bool) -> None:
    seen = Seen()
    tunnel, stream = Open(1, carries=True), Open(2, stream=True, resumed=None)
    if scraped:
        seen.scrape(tunnel, stream)
    seen.end(stream)
    seen.end(tunnel)
    assert seen.value("tunnels_accepted_total", str(A)) == 1
    assert seen.value("tls_sessions_total", "inbound", "false") == 1
    assert seen.value("streams_closed_total", "inbound", "OK") == 1
    assert seen.value("connections_opened_total", "inbound", str(A), str(B), "mutual_tls") == 1
    assert seen.value("connections_closed_total", "inbound", str(A), str(B), "OK") == 1
    assert [one.values for one in seen.metrics.snapshot().families if "refused" in one.family.name] == [()]


def test_a_tunnel_that_is_refused_is_counted() -> None:
    seen = Seen()
    seen.end(Open(carries=True, admitted=False), Outcome.POLICY_DENIED)
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
    seen.end(Open(1))
    seen.traffic.rename(OWN._replace(workload="db-v2"))
    seen.end(Open(2))
    opened = next(one for one in seen.metrics.snapshot().families if one.family.name.startswith("istio_tcp_conn"))
    assert [values[5] for values, _ in opened.values] == ["db-v1", "db-v2"]


def test_identities_without_end_take_bounded_memory() -> None:
    seen = Seen()
    for number in range(5000):
        one = Open(number, peer=SpiffeId.parse(f"spiffe://a.test/w{number}"))
        if number % 2:
            seen.scrape(one)
        seen.end(one)
    assert max(len(one.values) for one in seen.metrics.snapshot().families) <= 1002
    assert seen.value("connections_opened_total", "inbound", "other", str(B), "mutual_tls") == 4800
    assert repr(seen.traffic) == "<Traffic [0 counted that live]>"
    assert len(seen.traffic._pairs) <= 2048


@pytest.mark.parametrize(("expected", "label"), [(B, str(B)), (None, "unknown")])
def test_an_outbound_connection_that_reaches_no_peer_is_counted_by_the_peer_that_is_configured(
    expected: SpiffeId | None, label: str
) -> None:
    seen = Seen()
    for number, outcome in enumerate((Outcome.CONNECT_FAILED, Outcome.HANDSHAKE_TIMEOUT), 1):
        one = Open(number, Direction.OUTBOUND, local_id=A, peer=None, admitted=False)
        seen.end(one, outcome, expected=expected)
        assert seen.value("connections_refused_total", "outbound", str(A), label, outcome.name) == 1


def test_an_outbound_connection_is_counted_by_the_peer_that_was_verified_before_the_one_that_is_configured() -> None:
    seen = Seen()
    one = Open(direction=Direction.OUTBOUND, local_id=A, peer=A, admitted=False)
    seen.end(one, Outcome.POLICY_DENIED, expected=B)
    assert seen.value("connections_refused_total", "outbound", str(A), str(A), "POLICY_DENIED") == 1
