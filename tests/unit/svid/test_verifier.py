"""A verifier that remembers gives the answers of one that does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet
from meshtls.errors import NoBundleError, UntrustedPeerError, ValidityError
from meshtls.svid.trust import Trust
from meshtls.svid.verifier import PeerVerifier
from meshtls.svid.x509 import X509Svid
from tests.support import certs
from tests.support.authority import Leaf, make_authority, mint_raw, svid_for
from tests.support.clock import ManualClock
from tests.support.verifying import trusting

CLOCK = ManualClock()
AUTHORITY = make_authority(clock=CLOCK)
OTHER = make_authority(clock=CLOCK)
TRUST = Trust(1, BundleSet([AUTHORITY.bundle]))


def chain_of(svid: X509Svid) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in svid.chain]


def test_a_chain_that_passed_is_remembered_as_the_same_peer() -> None:
    verifier, chain = PeerVerifier(TRUST), chain_of(svid_for(AUTHORITY, "/web"))
    assert verifier.verify(chain, CLOCK.now()) is verifier.verify(chain, CLOCK.now())
    assert repr(verifier) == "<PeerVerifier [1 of 1024 remembered]>"


def test_a_remembered_verdict_ends_with_the_leaf() -> None:
    verifier, chain = PeerVerifier(TRUST), chain_of(svid_for(AUTHORITY, "/web", ttl=timedelta(minutes=5)))
    verifier.verify(chain, CLOCK.now())
    verifier.verify(chain, CLOCK.now() + timedelta(minutes=5))
    with pytest.raises(ValidityError, match="expired at"):
        verifier.verify(chain, CLOCK.now() + timedelta(minutes=5, seconds=1))


def test_a_remembered_verdict_ends_with_the_first_certificate_above_the_leaf() -> None:
    short = make_authority(
        clock=CLOCK, svid_ttl=timedelta(minutes=1), intermediate_ttl=timedelta(minutes=2), ca_ttl=timedelta(hours=1)
    )
    chain = chain_of(mint_raw(short, replace(Leaf(), ends_in=1800), CLOCK))
    verifier = PeerVerifier(Trust(1, BundleSet([short.bundle])))
    verifier.verify(chain, CLOCK.now() + timedelta(seconds=119))
    with pytest.raises(UntrustedPeerError, match="no path to a root"):
        verifier.verify(chain, CLOCK.now() + timedelta(seconds=121))


def test_a_remembered_verdict_ends_with_the_root() -> None:
    """The root is not in the chain, and ends before what it signed."""
    ending = certs.NOW + timedelta(minutes=5)
    root = certs.ca(slot="ending", name="ending", not_after=ending)
    middle = certs.ca(root, slot="middle", name="middle")
    chain = [certs.leaf(middle, "spiffe://a.test/web").der, middle.der]
    verifier = PeerVerifier(Trust(1, trusting(root)))
    peer = verifier.verify(chain, certs.NOW)
    assert verifier.verify(chain, ending) is peer
    with pytest.raises(UntrustedPeerError, match="CA certificate abc123 expired at 2030-05-01T12:05:00Z"):
        verifier.verify(chain, ending + timedelta(seconds=1))
    with pytest.raises(UntrustedPeerError, match="CA certificate abc123 expired at 2030-05-01T12:05:00Z"):
        verifier.verify_again(chain[0], ending + timedelta(seconds=1))


def test_a_chain_that_passed_in_its_roots_last_second_is_remembered_no_longer() -> None:
    ending = certs.NOW + timedelta(minutes=5)
    root = certs.ca(slot="ending", name="ending", not_after=ending)
    chain = [certs.leaf(root, "spiffe://a.test/web").der]
    verifier = PeerVerifier(Trust(1, trusting(root)))
    assert verifier.verify(chain, ending) is verifier.verify(chain, ending)
    with pytest.raises(UntrustedPeerError, match="CA certificate abc123 expired at 2030-05-01T12:05:00Z"):
        verifier.verify(chain, ending + timedelta(seconds=1))


def test_unrelated_certificates_are_not_remembered() -> None:
    """Or one stranger with a captured chain could fill the memory, with a new company each time."""
    verifier, chain = PeerVerifier(TRUST), chain_of(svid_for(AUTHORITY, "/web"))
    for number in range(3):
        company = certs.ca(slot=f"company {number}", name=f"company {number}").der
        peer = verifier.verify([*chain, company], CLOCK.now())
    assert repr(verifier) == "<PeerVerifier [1 of 1024 remembered]>"
    assert verifier.verify(chain, CLOCK.now()) is peer
    assert verifier.verify_again(chain[0], CLOCK.now()) is peer


def test_a_clock_set_back_does_not_bypass_not_before() -> None:
    verifier = PeerVerifier(TRUST)
    chain = chain_of(mint_raw(AUTHORITY, replace(Leaf(), starts_in=60), CLOCK))
    verifier.verify(chain, CLOCK.now() + timedelta(seconds=61))
    with pytest.raises(ValidityError, match="is not valid before"):
        verifier.verify(chain, CLOCK.now())


def test_a_chain_that_failed_is_not_remembered() -> None:
    verifier, chain = PeerVerifier(TRUST), chain_of(svid_for(OTHER, "/web"))
    for _ in range(2):
        with pytest.raises(UntrustedPeerError):
            verifier.verify(chain, CLOCK.now())
    assert repr(verifier) == "<PeerVerifier [0 of 1024 remembered]>"


def test_the_same_leaf_with_another_intermediate_is_another_chain() -> None:
    verifier = PeerVerifier(TRUST)
    leaf, intermediate = chain_of(svid_for(AUTHORITY, "/web"))
    verifier.verify([leaf, intermediate], CLOCK.now())
    with pytest.raises(UntrustedPeerError):
        verifier.verify([leaf], CLOCK.now())
    with pytest.raises(UntrustedPeerError):
        verifier.verify([leaf, chain_of(svid_for(OTHER, "/web"))[1]], CLOCK.now())


def test_the_least_recent_is_forgotten_first() -> None:
    verifier = PeerVerifier(TRUST, size=2)
    first, second, third = (chain_of(svid_for(AUTHORITY, f"/{name}")) for name in ("a", "b", "c"))
    kept = verifier.verify(first, CLOCK.now())
    gone = verifier.verify(second, CLOCK.now())
    assert verifier.verify(first, CLOCK.now()) is kept
    verifier.verify(third, CLOCK.now())
    assert verifier.verify(first, CLOCK.now()) is kept
    assert verifier.verify(second, CLOCK.now()) is not gone


def test_a_verifier_without_the_peers_bundle_refuses_it() -> None:
    chain = chain_of(svid_for(AUTHORITY, "/web"))
    with pytest.raises(NoBundleError):
        PeerVerifier(Trust(1, BundleSet())).verify(chain, CLOCK.now())
