"""Helpers for tests of ``verify_peer``: bundles, verdicts, and the message of a refusal."""

from collections.abc import Sequence
from datetime import datetime

import pytest

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import PeerError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import VerifiedPeer, verify_peer
from tests.support.certs import NOW, Issued, ca

A, B = TrustDomain("a.test"), TrustDomain("b.test")
WEB = "spiffe://a.test/web"
ROOT = ca(None, "spiffe://a.test", name="root a", slot="root a")
INTERMEDIATE = ca(ROOT, "spiffe://a.test", name="intermediate", slot="intermediate")

EXHAUSTED = "none of them is its issuer"
OTHER_KEY = "one of them has its issuer's name and another key"
NO_MATCH = "signature does not match"


def trusting(*authorities: Issued, domain: TrustDomain = A) -> BundleSet:
    """A bundle set with only this bundle."""
    return BundleSet([TrustBundle(domain, tuple(one.certificate for one in authorities))])


def verify(chain: Sequence[Issued], bundles: BundleSet, now: datetime = NOW) -> VerifiedPeer:
    return verify_peer([one.der for one in chain], bundles, now)


def accepted(chain: Sequence[Issued], bundles: BundleSet, now: datetime = NOW) -> bool:
    """Whether the peer is verified as the workload of these tests."""
    return verify(chain, bundles, now).spiffe_id == SpiffeId.parse(WEB)


def refusal(kind: type[PeerError], chain: Sequence[Issued], bundles: BundleSet, now: datetime = NOW) -> str:
    """The message of the refusal, which must be exactly of this class."""
    with pytest.raises(PeerError) as caught:
        verify(chain, bundles, now)
    assert type(caught.value) is kind
    return str(caught.value)


def no_path(issuer: str, why: str, known: int = 1) -> str:
    """The message where no path is found to one of the known authorities."""
    tried = f"({known} known, issuer {issuer})"
    return f"peer {WEB}: no path to a root of the bundle of trust domain a.test {tried}: {why}"
