"""When a tunnel's peer must be verified again: at the first expiry of a certificate that may be in its path."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.spiffeid import SpiffeId
from meshtls.svid.trust import Trust
from meshtls.svid.verifier import valid_until
from meshtls.svid.verify import VerifiedPeer
from tests.support.certs import BEFORE, NOW, ca, leaf

WEB = SpiffeId.parse("spiffe://example.org/web")


@pytest.mark.parametrize(
    ("root_ends", "intermediate_ends", "leaf_ends", "wanted"),
    [(3, 2, 1, 1), (3, 1, 2, 1), (1, 3, 2, 1), (-0.5, 3, 2, 2), (0, 3, 2, 0), (-0.5, -0.5, -0.5, 0)],
    ids=[
        "leaf",
        "intermediate",
        "root",
        "a root that has ended before is in no path",
        "a root that ends now may be in it",
        "all have ended",
    ],
)
def test_a_peer_is_valid_until_the_first_certificate_of_its_path_expires(
    root_ends: float, intermediate_ends: float, leaf_ends: float, wanted: float
) -> None:
    def at(hours: float) -> timedelta:
        return timedelta(hours=hours)

    root = ca(not_after=NOW + at(root_ends))
    intermediate = ca(root, slot="intermediate", name="intermediate", not_after=NOW + at(intermediate_ends))
    own = leaf(intermediate, str(WEB), not_before=BEFORE, not_after=NOW + at(leaf_ends))
    bundle = TrustBundle.from_der(WEB.trust_domain, [root.certificate.public_bytes(Encoding.DER)])
    peer = VerifiedPeer(WEB, (own.certificate, intermediate.certificate))
    assert valid_until(peer, Trust(1, BundleSet([bundle])), NOW) == NOW + at(wanted)
