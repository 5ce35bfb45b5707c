"""What is trusted, as one value: when it is a new one, what was revoked under it, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import LocalIdentityError, NoBundleError, PeerError, RevokedError, UntrustedPeerError, ValidityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.trust import NO_REVOCATIONS, Revocations, RevokedCertificate, Trust, issuer_key_id
from meshtls.svid.verifier import CurrentVerifier, PeerVerifier, trust_changes
from meshtls.svid.verify import VerifiedPeer, check_trust, verify_peer
from tests.support.certs import AFTER, NOW, SERIAL, Issued, ca, leaf
from tests.support.verifying import INTERMEDIATE, ROOT, WEB, trusting

LEAF = leaf(INTERMEDIATE, WEB, serial=SERIAL + 1)
CHAIN = [LEAF.der, INTERMEDIATE.der]
TRUSTED = trusting(ROOT)
OTHER = ca(None, "spiffe://a.test", name="root b", slot="root b")
BOTH = trusting(ROOT, OTHER)


def revoking(*revoked: tuple[Issued, Issued]) -> Revocations:
    """Of these certificates, each with its issuer."""
    return Revocations.of(RevokedCertificate.of(one.certificate, issuer.certificate) for one, issuer in revoked)


def again(bundles: BundleSet) -> BundleSet:
    """An equal set of other objects, as a source reads it from the next message."""
    return BundleSet(TrustBundle.from_der(one.trust_domain, [ROOT.der]) for one in bundles)


def test_trust_stays_the_same_value_until_bundles_or_revocations_change() -> None:
    trust = Trust(7, TRUSTED)
    assert trust.followed_by(again(TRUSTED), Revocations.of([])) is trust
    assert repr(trust.followed_by(BOTH, NO_REVOCATIONS)) == "<Trust [gen 8, <BundleSet a.test: 2>, <Revocations [0]>]>"
    revoked = trust.followed_by(TRUSTED, revoking((LEAF, INTERMEDIATE)))
    assert (revoked.generation, revoked.bundles, len(revoked.revocations.certificates)) == (8, TRUSTED, 1)
    assert revoked.followed_by(TRUSTED, NO_REVOCATIONS).generation == 9


def test_trusts_are_equal_by_what_they_trust() -> None:
    assert Trust(1, TRUSTED) == Trust(2, again(TRUSTED))
    assert Trust(1, TRUSTED) != Trust(1, BOTH)
    assert Trust(1, TRUSTED) != Trust(1, TRUSTED, revoking((LEAF, INTERMEDIATE)))
    assert Trust(1, TRUSTED) != TRUSTED


@pytest.mark.parametrize(
    ("revocations", "revoked"),
    [
        pytest.param(NO_REVOCATIONS, None, id="nothing"),
        pytest.param(revoking((LEAF, INTERMEDIATE)), "abc124", id="the leaf"),
        pytest.param(revoking((INTERMEDIATE, ROOT)), "abc123", id="the intermediate"),
        pytest.param(revoking((LEAF, ROOT)), None, id="the leaf's number by another issuer"),
        pytest.param(revoking((INTERMEDIATE, INTERMEDIATE)), None, id="another number by the leaf's issuer"),
        pytest.param(revoking((LEAF, ROOT), (LEAF, INTERMEDIATE)), "abc124", id="the leaf, and another"),
    ],
)
def test_a_revoked_leaf_or_intermediate_is_refused(revocations: Revocations, revoked: str | None) -> None:
    trust = Trust(1, TRUSTED, revocations)
    peer = verify_peer(CHAIN, TRUSTED, NOW)
    if revoked is None:
        assert verify_peer(CHAIN, trust, NOW) == peer
        check_trust(peer, trust)
        return
    for refused in (lambda: verify_peer(CHAIN, trust, NOW), lambda: check_trust(peer, trust)):
        with pytest.raises(RevokedError) as caught:
            refused()
        assert str(caught.value) == f"peer {WEB}: certificate {revoked} was revoked by its issuer"


@pytest.mark.parametrize(
    ("revoked", "other", "message"),
    [
        (
            Revocations.of(spiffe_ids=[SpiffeId.parse(WEB)]),
            Revocations.of(spiffe_ids=[SpiffeId.parse("spiffe://a.test/db"), SpiffeId.parse("spiffe://b.test/web")]),
            "its SPIFFE ID was revoked",
        ),
        (
            Revocations.of(authorities=[ROOT.certificate]),
            Revocations.of(authorities=[OTHER.certificate]),
            "the authority of CA certificate abc123 was revoked",
        ),
        (
            Revocations.of(authorities=[INTERMEDIATE.certificate]),
            Revocations.of(authorities=[LEAF.certificate]),
            "the authority of CA certificate abc123 was revoked",
        ),
    ],
    ids=["the ID", "the root", "the intermediate"],
)
def test_an_id_and_an_authority_can_be_revoked_and_admitted_again(
    revoked: Revocations, other: Revocations, message: str
) -> None:
    trust = Trust(1, TRUSTED, revoked)
    peer = verify_peer(CHAIN, Trust(1, TRUSTED, other), NOW)
    check_trust(peer, Trust(1, TRUSTED, other))
    for refused in (lambda: verify_peer(CHAIN, trust, NOW), lambda: check_trust(peer, trust)):
        with pytest.raises(RevokedError) as caught:
            refused()
        assert str(caught.value) == f"peer {WEB}: {message}"
    again = trust.followed_by(TRUSTED, NO_REVOCATIONS)
    assert again.generation == 2
    assert verify_peer(CHAIN, again, NOW) == peer


def test_a_revoked_root_leaves_the_path_to_another_root() -> None:
    cross = ca(OTHER, "spiffe://a.test", name="intermediate", slot="intermediate")
    trust = Trust(1, BOTH, Revocations.of(authorities=[ROOT.certificate]))
    assert str(verify_peer([LEAF.der, cross.der], trust, NOW).spiffe_id) == WEB
    with pytest.raises(RevokedError):
        verify_peer(CHAIN, trust, NOW)


def test_revocations_show_what_they_have() -> None:
    wanted = Revocations.of([], spiffe_ids=[SpiffeId.parse(WEB)], authorities=[ROOT.certificate])
    assert repr(wanted) == "<Revocations [0, 1 IDs, 1 authorities]>"


def test_a_trust_anchor_is_not_revoked_by_its_own_number() -> None:
    direct, trust = leaf(ROOT, WEB, serial=SERIAL + 1), Trust(1, TRUSTED, revoking((ROOT, ROOT)))
    assert str(verify_peer([direct.der], trust, NOW).spiffe_id) == WEB


def test_a_peer_with_a_second_path_that_is_not_revoked_is_verified() -> None:
    """The intermediate is cross-signed, and itself an anchor here: the path from there has nothing that was revoked."""
    bundles = trusting(ROOT, INTERMEDIATE)
    assert str(verify_peer(CHAIN, Trust(1, bundles, revoking((INTERMEDIATE, ROOT))), NOW).spiffe_id) == WEB
    with pytest.raises(RevokedError):
        verify_peer(CHAIN, Trust(1, trusting(ROOT), revoking((INTERMEDIATE, ROOT))), NOW)


def test_a_revoked_leaf_that_has_expired_too_is_refused_as_revoked() -> None:
    late = AFTER + timedelta(seconds=1)
    with pytest.raises(ValidityError):
        verify_peer(CHAIN, Trust(1, TRUSTED), late)
    with pytest.raises(RevokedError, match="was revoked by its issuer; and its certificate abc124 expired at"):
        verify_peer(CHAIN, Trust(1, TRUSTED, revoking((LEAF, INTERMEDIATE))), late)


def test_an_issuer_is_known_by_its_key_and_not_by_what_its_certificate_says() -> None:
    renamed = ca(ROOT, "spiffe://a.test", name="renamed", slot="intermediate", key_ids=False)
    assert renamed.certificate != INTERMEDIATE.certificate
    by_key = RevokedCertificate.of(LEAF.certificate, renamed.certificate)
    assert by_key == RevokedCertificate.of(LEAF.certificate, INTERMEDIATE.certificate)
    assert by_key.issuer_key_id != RevokedCertificate.of(LEAF.certificate, ROOT.certificate).issuer_key_id
    assert len(issuer_key_id(b"")) == 32


@pytest.mark.parametrize(
    ("bundles", "error"),
    [
        (trusting(ROOT), None),
        (BOTH, None),
        (trusting(OTHER), UntrustedPeerError),
        (trusting(), NoBundleError),
        (BundleSet(), NoBundleError),
    ],
    ids=["the same", "one root more", "another root", "no root", "no bundle"],
)
def test_a_live_peer_is_trusted_as_long_as_its_root_is(bundles: BundleSet, error: type[PeerError] | None) -> None:
    peer = verify_peer(CHAIN, TRUSTED, NOW)
    verifier = PeerVerifier(Trust(2, bundles))
    for _ in range(2):
        refusal = verifier.distrust(peer)
        assert (None if refusal is None else type(refusal)) is error


def test_connections_of_one_peer_share_one_verification(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[VerifiedPeer] = []

    def check(peer: VerifiedPeer, trust: Trust) -> None:
        checked.append(peer)
        check_trust(peer, trust)

    monkeypatch.setattr("meshtls.svid.verifier.check_trust", check)
    one, other = (verify_peer(CHAIN, TRUSTED, NOW) for _ in range(2))
    for bundles in (BOTH, trusting(OTHER)):
        verifier = PeerVerifier(Trust(2, bundles))
        refusals = [verifier.distrust(peer) for peer in (one, one, one, other, other)]
        assert refusals[:3] == [refusals[0]] * 3
        assert len(checked) == 2
        checked.clear()


def test_a_live_peer_may_outlive_its_certificates() -> None:
    old = timedelta(days=300)
    root = ca(None, "spiffe://a.test", slot="old", name="old", not_before=NOW - 2 * old, not_after=NOW - old)
    peer = verify_peer(
        [leaf(root, WEB, not_before=NOW - 2 * old, not_after=NOW - old).der], trusting(root), NOW - 1.5 * old
    )
    check_trust(peer, Trust(2, trusting(root)))


def test_a_live_peer_that_is_remembered_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = PeerVerifier(Trust(1, TRUSTED))
    peer = verifier.verify(CHAIN, NOW)
    checked: list[object] = []
    monkeypatch.setattr("meshtls.svid.verifier.check_trust", lambda peer, trust: checked.append(trust))
    assert verifier.distrust(peer) is None
    assert checked == []
    assert PeerVerifier(verifier.trust).distrust(peer) is None
    assert checked == [verifier.trust]


def test_a_verifier_outlives_the_rotation_of_our_svid_and_not_a_change_of_trust() -> None:
    current, context = CurrentVerifier(), X509Context(1, (), TRUSTED)
    assert (current.newest, repr(current)) == (None, "<CurrentVerifier [no trust yet]>")
    first = current.follow(context)
    assert first.trust.generation == 1
    assert current.follow(X509Context(2, (), again(TRUSTED))) is first is current.newest
    second = current.follow(replace(context, bundles=BOTH))
    assert (second.trust.generation, second.trust.bundles) == (2, BOTH)
    third = current.follow(replace(context, bundles=BOTH, revocations=revoking((LEAF, INTERMEDIATE))))
    assert third.trust.generation == 3
    with pytest.raises(RevokedError):
        third.verify(CHAIN, NOW)
    assert current.newest is third
    assert repr(current) == "<CurrentVerifier [<Trust [gen 3, <BundleSet a.test: 2>, <Revocations [1]>]>]>"


@dataclass
class Scripted:
    """A source with these contexts, one after the other, and then closed."""

    coming: list[X509Context]

    def snapshot(self) -> X509Context:
        return self.coming[0]

    async def withdrawn(self) -> LocalIdentityError:
        raise LocalIdentityError("closed")

    async def changed(self, after_generation: int | None = None) -> X509Context:
        if not self.coming:
            raise LocalIdentityError("closed")
        assert after_generation is not None
        assert after_generation < self.coming[0].generation
        return self.coming.pop(0)


@pytest.mark.parametrize("ahead", [False, True], ids=["first here", "after a handshake has taken it over"])
async def test_a_change_of_trust_is_one_and_a_rotation_of_our_svid_is_none(ahead: bool) -> None:
    current = CurrentVerifier()
    contexts = [X509Context(at, (), bundles) for at, bundles in enumerate((TRUSTED, again(TRUSTED), BOTH, BOTH), 1)]
    source = Scripted(contexts)
    changes = trust_changes(source, current)
    first = await anext(changes)
    if ahead:
        del source.coming[0]
        current.follow(source.coming[0])
    rest = [trust async for trust in changes]
    assert [(trust.generation, trust.bundles) for trust in (first, *rest)] == [(1, TRUSTED), (2, BOTH)]
    assert current.newest is not None
    assert current.newest.trust is rest[-1]
