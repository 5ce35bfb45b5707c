"""What a stream says of where it comes from: what is sent, and what is taken of a peer's claims."""

from __future__ import annotations

import pytest

from meshtls.sidecar.settings import Workload
from meshtls.sidecar.tunnel.origin import (
    NOWHERE,
    Handover,
    Origin,
    baggage_of,
    forwarded_by,
    new_traceparent,
    origin_of,
)
from meshtls.spiffeid import SpiffeId

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ISTIO, OTHER = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web"), SpiffeId.parse("spiffe://example.org/web")


@pytest.mark.parametrize(
    ("workload", "spiffe_id", "baggage"),
    [
        (Workload(), ISTIO, "k8s.namespace.name=shop,service.name=a"),
        (Workload(), OTHER, "service.name=a"),
        (
            Workload(cluster="east", namespace="n", deployment="d", service="s", version="v1"),
            ISTIO,
            "k8s.cluster.name=east,k8s.namespace.name=n,k8s.deployment.name=d,service.name=s,service.version=v1",
        ),
        (Workload(service="a,b=c;d e\r\n\u00e9"), OTHER, "service.name=a%2Cb%3Dc%3Bd%20e%0D%0A%C3%A9"),
    ],
)
def test_the_baggage_is_what_istio_reads_of_a_source(workload: Workload, spiffe_id: SpiffeId, baggage: str) -> None:
    assert baggage_of(workload, "a", spiffe_id) == baggage.encode()


def test_a_new_trace_is_one_that_is_taken() -> None:
    first, second = new_traceparent(), new_traceparent()
    assert first != second
    assert origin_of([(b"traceparent", first)]).traceparent == first


@pytest.mark.parametrize(
    ("claims", "taken"),
    [
        ([(b"traceparent", TRACE)], Origin(traceparent=TRACE)),
        ([(b"traceparent", TRACE), (b"traceparent", TRACE)], NOWHERE),
        ([(b"traceparent", TRACE.upper())], NOWHERE),
        ([(b"traceparent", TRACE + b"-1")], NOWHERE),
        ([(b"traceparent", b"00-" + b"0" * 32 + TRACE[35:])], NOWHERE),
        ([(b"traceparent", TRACE[:36] + b"0" * 16 + b"-01")], NOWHERE),
        ([(b"traceparent", b"ff" + TRACE[2:])], NOWHERE),
        ([(b"baggage", b"a=1"), (b"baggage", b"b=2")], Origin(baggage=b"a=1,b=2")),
        ([(b"baggage", b"x" * 4096)], Origin(baggage=b"x" * 4096)),
        ([(b"baggage", b"x" * 4097)], NOWHERE),
        ([(b"baggage", b"a=\x1b[2J")], NOWHERE),
        ([(b"baggage", b"a=\xc3\xa9")], NOWHERE),
        ([(b"forwarded", b"for=10.0.0.1"), (b"forwarded", b"for=_x")], Origin(forwarded=b"for=10.0.0.1,for=_x")),
        ([(b"forwarded", b"x" * 1025)], NOWHERE),
        ([(b"forwarded", b"")], NOWHERE),
    ],
)
def test_a_claim_is_taken_where_it_is_well_formed_and_short(claims: list[tuple[bytes, bytes]], taken: Origin) -> None:
    assert origin_of(claims) == taken


@pytest.mark.parametrize(
    ("before", "host", "after"),
    [
        (b"", "10.0.0.1", b"for=10.0.0.1"),
        (b"for=10.0.0.1", "::1", b'for=10.0.0.1,for="[::1]"'),
        (b"f" * 1020, "10.0.0.1", b"for=10.0.0.1"),
    ],
)
def test_a_hop_is_added_and_the_whole_is_bounded(before: bytes, host: str, after: bytes) -> None:
    assert forwarded_by(Origin(TRACE, b"a=1", before), host) == Origin(TRACE, b"a=1", after)


def test_what_is_handed_over_is_taken_once_and_nothing_is_kept_for_ever() -> None:
    handover = Handover()
    for port in range(2000):
        handover.leave(("127.0.0.1", port), Origin(baggage=b"%d" % port))
    assert repr(handover) == "<Handover [1024 left]>"
    assert handover.take(("127.0.0.1", 1999)) == Origin(baggage=b"1999")
    assert handover.take(("127.0.0.1", 1999)) == handover.take(("127.0.0.1", 0)) == NOWHERE
