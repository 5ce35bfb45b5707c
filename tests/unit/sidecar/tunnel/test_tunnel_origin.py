"""What we claim of a stream's origin, and origins that pass through one sidecar."""

from __future__ import annotations

import pytest

from meshtls.sidecar.settings import Workload
from meshtls.sidecar.tunnel.origin import Handover, baggage_of
from meshtls.spiffeid import SpiffeId
from meshtls.wire.origin import NOWHERE, Origin

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


def test_an_origin_is_taken_once_and_at_most_1024_are_kept() -> None:
    handover = Handover()
    for port in range(2000):
        handover.put(("127.0.0.1", port), Origin(baggage=b"%d" % port))
    assert repr(handover) == "<Handover [1024 left]>"
    assert handover.take(("127.0.0.1", 1999)) == Origin(baggage=b"1999")
    assert handover.take(("127.0.0.1", 1999)) == handover.take(("127.0.0.1", 0)) == NOWHERE
