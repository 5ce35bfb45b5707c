"""What becomes of x-forwarded-client-cert in each mode. ``tests/integration/policy/test_xfcc_envoy.py`` has Envoy's."""

from __future__ import annotations

import pytest

from meshtls.address import Address
from meshtls.policy.request import Request
from meshtls.sidecar.http.judge import ClientCertHeader
from meshtls.sidecar.settings import ForwardClientCert, InboundConfig, Protocol
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.xfcc import HEADER, element
from tests.support.certs import ca, leaf

A, B = SpiffeId.parse("spiffe://example.org/a"), SpiffeId.parse("spiffe://example.org/b")
PEER = VerifiedPeer(A, (leaf(ca(), str(A)).certificate,))
OWN = element(str(B), PEER.fingerprint.hex(), str(A))
X = ("x", "1")
#: By mode: what an app gets of the values "y" and "z", with mutual TLS and without.
TWO_VALUES = {
    ForwardClientCert.SANITIZE: (None, None),
    ForwardClientCert.SANITIZE_SET: (OWN, None),
    ForwardClientCert.FORWARD_ONLY: ("y,z", None),
    ForwardClientCert.APPEND_FORWARD: (f"y,z,{OWN}", None),
    ForwardClientCert.ALWAYS_FORWARD_ONLY: ("y,z", "y,z"),
}


def told(mode: ForwardClientCert, peer: VerifiedPeer | None, *values: str, name: str = HEADER) -> str | None:
    """The header's value for the app; None if it gets none. Other headers stay."""
    address = Address("127.0.0.1", 0)
    config = InboundConfig(listen=address, app=address, protocol=Protocol.HTTP, forward_client_cert=mode)
    came = (X, *((name, value) for value in values))
    found = ClientCertHeader(config, Request(peer, B, 8080)).applied(came)
    assert found[0] == X
    assert len(found) <= 2
    assert all(one == HEADER for one, _ in found[1:])
    return dict(found).get(HEADER)


@pytest.mark.parametrize("mode", ForwardClientCert)
def test_the_mode_says_what_the_app_is_told(mode: ForwardClientCert) -> None:
    assert (told(mode, PEER, "y", "z"), told(mode, None, "y", "z")) == TWO_VALUES[mode]


@pytest.mark.parametrize("mode", ForwardClientCert)
def test_a_line_without_a_value_says_nothing(mode: ForwardClientCert) -> None:
    for peer in (PEER, None):
        assert told(mode, peer, "", "y", "", "z") == told(mode, peer, "y", "z")
        assert told(mode, peer, "") == told(mode, peer)


@pytest.mark.parametrize("mode", ForwardClientCert)
def test_a_name_with_underscores_is_removed(mode: ForwardClientCert) -> None:
    for peer in (PEER, None):
        assert told(mode, peer, "y", name="x_forwarded_client-cert") == told(mode, peer)
