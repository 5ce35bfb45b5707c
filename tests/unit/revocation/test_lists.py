"""Peers judged by CRLs: per trust domain, by the issuer's own key, closed where one is missing or stale."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import PeerError, RevocationUnknownError, RevokedError
from meshtls.revocation.crl import Crl, load_crl, parse_crl
from meshtls.revocation.lists import CrlLists, CrlRule
from meshtls.svid.trust import NO_REVOCATIONS, Revocations, Trust
from meshtls.svid.verifier import PeerVerifier, valid_until
from meshtls.svid.verify import check_trust, verify_peer
from tests.support.certs import AFTER, BEFORE, NOW, SERIAL, Issued, ca, leaf
from tests.support.crls import crl
from tests.support.verifying import INTERMEDIATE, ROOT, WEB, A, B, trusting

LEAF = leaf(INTERMEDIATE, WEB, serial=SERIAL + 1)
CHAIN = [LEAF.der, INTERMEDIATE.der]
PEER = verify_peer(CHAIN, trusting(ROOT), NOW)
LISTED, INTERMEDIATE_LISTED = SERIAL + 1, SERIAL
OTHER_ROOT = ca(None, "spiffe://a.test", name="root a", slot="impostor")
CLOCK = "; our clock says 2030-05-01T12:00:00Z"
REVOKED = f"peer {WEB}: certificate abc124 was revoked by its issuer"


def unknown(why: str, serial: str = "abc124") -> str:
    return f"peer {WEB}: whether certificate {serial} was revoked is unknown: {why}"


def stale(*serials: int) -> bytes:
    return crl(INTERMEDIATE, *serials, this_update=BEFORE - timedelta(hours=2), next_update=BEFORE)


def crls(*ders: bytes) -> tuple[Crl, ...]:
    return tuple(map(load_crl, ders))


def verdict(lists: CrlLists, now: datetime | None = NOW, chain: Sequence[bytes] = CHAIN) -> str | None:
    """The message of the refusal, whose class must be the right one; None if the peer is accepted."""
    trust = Trust(1, trusting(ROOT), Revocations(lists=lists))
    try:
        if now is None:
            check_trust(PEER, trust)
        else:
            verify_peer(chain, trust, now)
    except PeerError as error:
        refusal = error
    else:
        return None
    assert type(refusal) is (RevocationUnknownError if " is unknown: " in str(refusal) else RevokedError)
    return str(refusal)


GOOD_ROOT = crl(ROOT)


@pytest.mark.parametrize(
    ("ders", "message"),
    [
        pytest.param([crl(INTERMEDIATE)], None, id="fresh and clean"),
        pytest.param([crl(INTERMEDIATE, LISTED)], REVOKED, id="fresh, with the leaf"),
        pytest.param([crl(INTERMEDIATE, LISTED + 1)], None, id="fresh, with another leaf"),
        pytest.param([stale(LISTED)], REVOKED, id="stale, with the leaf"),
        pytest.param(
            [stale()],
            unknown(f"the CRL of its issuer is stale since 2030-05-01T11:00:00Z{CLOCK}"),
            id="stale and clean",
        ),
        pytest.param(
            [crl(INTERMEDIATE, LISTED, this_update=NOW + timedelta(minutes=30))],
            unknown(f"the CRL of its issuer is not valid before 2030-05-01T12:30:00Z{CLOCK}"),
            id="not yet valid",
        ),
        pytest.param(
            [crl(INTERMEDIATE, LISTED, signer=OTHER_ROOT, key_ids=False)],
            unknown("the CRL in its issuer's name was not signed by a key of the issuer that may sign CRLs"),
            id="signed by another key",
        ),
        pytest.param(
            [crl(INTERMEDIATE, LISTED, signer=ROOT, key_ids=False)],
            unknown("the CRL in its issuer's name was not signed by a key of the issuer that may sign CRLs"),
            id="signed by the CA above",
        ),
        pytest.param([], unknown("there is no CRL of its issuer"), id="missing"),
        pytest.param([crl(OTHER_ROOT, LISTED)], unknown("there is no CRL of its issuer"), id="of another issuer"),
        pytest.param(
            [crl(INTERMEDIATE, extra=[(x509.DeltaCRLIndicator(1), True)])],
            unknown("the CRL of its issuer can't be used: wanted a complete CRL, got a delta CRL"),
            id="delta alone",
        ),
        pytest.param(
            [crl(INTERMEDIATE), crl(INTERMEDIATE, LISTED, extra=[(x509.DeltaCRLIndicator(1), True)])],
            None,
            id="delta beside a complete one",
        ),
        pytest.param(
            [crl(INTERMEDIATE), crl(INTERMEDIATE, LISTED, this_update=NOW, number=2)], REVOKED, id="the later one"
        ),
        pytest.param(
            [crl(INTERMEDIATE, LISTED, number=1), crl(INTERMEDIATE, number=2)], None, id="the higher number at one time"
        ),
    ],
)
def test_a_configured_crl_decides_about_the_leaf(ders: list[bytes], message: str | None) -> None:
    assert verdict(CrlLists(rules={A: CrlRule(crls(GOOD_ROOT, *ders))})) == message


@pytest.mark.parametrize(
    ("ders", "leaves_only", "message"),
    [
        ([GOOD_ROOT], False, None),
        ([], False, unknown("there is no CRL of its issuer", "abc123")),
        ([], True, None),
        ([crl(ROOT, INTERMEDIATE_LISTED)], False, f"peer {WEB}: certificate abc123 was revoked by its issuer"),
        ([crl(ROOT, INTERMEDIATE_LISTED)], True, f"peer {WEB}: certificate abc123 was revoked by its issuer"),
    ],
)
def test_each_certificate_below_the_root_needs_a_crl_unless_only_leaves_do(
    ders: list[bytes], leaves_only: bool, message: str | None
) -> None:
    rule = CrlRule(crls(crl(INTERMEDIATE), *ders), leaves_only=leaves_only)
    assert verdict(CrlLists(rules={A: rule})) == message


@pytest.mark.parametrize(
    ("ders", "message"),
    [([], None), ([stale()], None), ([stale(LISTED)], REVOKED)],
    ids=["missing", "stale and clean", "stale, with the leaf"],
)
def test_a_rule_may_accept_peers_without_a_fresh_crl_but_none_that_is_listed(
    ders: list[bytes], message: str | None
) -> None:
    rule = CrlRule(crls(GOOD_ROOT, *ders), accept_peers_without_a_fresh_crl=True)
    assert verdict(CrlLists(rules={A: rule})) == message
    if message is None:
        assert verdict(CrlLists(rules={A: CrlRule(rule.crls)})) is not None


@pytest.mark.parametrize(
    ("ders", "message"),
    [
        pytest.param([], None, id="none"),
        pytest.param([crl(INTERMEDIATE, LISTED)], REVOKED, id="the leaf"),
        pytest.param([crl(OTHER_ROOT, LISTED)], None, id="another issuer's"),
        pytest.param([crl(INTERMEDIATE, LISTED, signer=OTHER_ROOT, key_ids=False)], None, id="signed by another key"),
        pytest.param(
            [stale()],
            unknown(f"the CRL of its issuer is stale since 2030-05-01T11:00:00Z{CLOCK}"),
            id="stale",
        ),
    ],
)
def test_a_crl_that_was_received_counts_for_its_issuer_alone(ders: list[bytes], message: str | None) -> None:
    assert verdict(CrlLists(crls(*ders))) == message


def test_a_rule_of_another_trust_domain_does_not_count() -> None:
    listed = crls(GOOD_ROOT, crl(INTERMEDIATE, LISTED))
    assert verdict(CrlLists(rules={B: CrlRule(listed)})) is None
    assert verdict(CrlLists(rules={B: CrlRule(())})) is None
    assert verdict(CrlLists(rules={A: CrlRule(listed)})) == REVOKED


def test_a_partner_s_crl_in_the_name_of_our_issuer_revokes_nothing_of_ours() -> None:
    partner = ca(None, "spiffe://b.test", name="intermediate", slot="partner")
    theirs = leaf(partner, "spiffe://b.test/db", serial=LISTED)
    listed = CrlLists(crls(crl(partner, LISTED, key_ids=False)))
    bundles = BundleSet([*trusting(ROOT), TrustBundle(B, (partner.certificate,))])
    trust = Trust(1, bundles, Revocations(lists=listed))
    assert str(verify_peer(CHAIN, trust, NOW).spiffe_id) == WEB
    with pytest.raises(RevokedError):
        verify_peer([theirs.der], trust, NOW)


def test_every_issuer_needs_a_crl_where_some_that_were_sent_are_missing() -> None:
    why = "the Workload API sent more than 64 CRLs"
    assert verdict(CrlLists(crls(GOOD_ROOT, crl(INTERMEDIATE)), incomplete=why)) is None
    assert verdict(CrlLists(crls(GOOD_ROOT), incomplete=why)) == unknown(f"there is no CRL of its issuer, and {why}")


def test_a_live_connection_outlives_the_next_update_and_not_a_revocation_or_a_missing_crl() -> None:
    assert verdict(CrlLists(rules={A: CrlRule(crls(GOOD_ROOT, stale()))}), now=None) is None
    assert verdict(CrlLists(rules={A: CrlRule(crls(GOOD_ROOT, crl(INTERMEDIATE, LISTED)))}), now=None) == REVOKED
    missing = unknown("there is no CRL of its issuer")
    assert verdict(CrlLists(rules={A: CrlRule(crls(GOOD_ROOT))}), now=None) == missing


def test_an_expired_leaf_that_is_listed_is_refused_as_revoked() -> None:
    message = verdict(CrlLists(crls(crl(INTERMEDIATE, LISTED))), AFTER + timedelta(seconds=1))
    assert message is not None
    assert message.startswith(f"{REVOKED}; and its certificate abc124 expired at ")


def test_a_chain_that_is_not_signed_makes_no_crl_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Crl] = []
    signed_by = Crl.signed_by

    def counted(self: Crl, issuer: Issued) -> bool:
        checked.append(self)
        return signed_by(self, issuer)  # type: ignore[arg-type]

    monkeypatch.setattr(Crl, "signed_by", counted)
    lists = CrlLists(crls(GOOD_ROOT, crl(INTERMEDIATE)))
    stranger = ca(OTHER_ROOT, "spiffe://a.test", name="intermediate", slot="stranger")
    message = None
    try:
        verify_peer([leaf(stranger, WEB).der, stranger.der], Trust(1, trusting(ROOT), Revocations(lists=lists)), NOW)
    except PeerError as error:
        message = str(error)
    assert message is not None
    assert checked == []
    assert verdict(lists) is None
    assert checked


def test_a_cached_result_ends_when_a_crl_becomes_stale_or_a_later_one_valid() -> None:
    until = NOW + timedelta(minutes=5)
    rule = CrlRule(crls(GOOD_ROOT, crl(INTERMEDIATE, next_update=until)))
    trust = Trust(1, trusting(ROOT), Revocations(lists=CrlLists(rules={A: rule})))
    assert valid_until(PEER, trust, NOW) == until
    verifier = PeerVerifier(trust)
    verifier.verify(CHAIN, NOW)
    verifier.verify(CHAIN, until)
    verifier.verify_again(LEAF.der, until)
    late = until + timedelta(seconds=1)
    with pytest.raises(RevocationUnknownError, match="is stale since 2030-05-01T12:05:00Z"):
        verifier.verify(CHAIN, late)
    with pytest.raises(RevocationUnknownError, match="is stale since 2030-05-01T12:05:00Z"):
        verifier.verify_again(LEAF.der, late)

    later = CrlRule((*rule.crls, parse_crl(crl(INTERMEDIATE, LISTED, this_update=NOW + timedelta(minutes=2)))))
    verifier = PeerVerifier(Trust(2, trusting(ROOT), Revocations(lists=CrlLists(rules={A: later}))))
    verifier.verify(CHAIN, NOW)
    with pytest.raises(RevokedError):
        verifier.verify(CHAIN, NOW + timedelta(minutes=3))


def test_trust_is_the_same_value_while_the_crls_have_the_same_bytes() -> None:
    listed, trust = crl(INTERMEDIATE, LISTED), Trust(1, trusting(ROOT))
    first = trust.followed_by(trust.bundles, Revocations(lists=CrlLists(crls(listed))))
    assert first.generation == 2
    assert first.followed_by(trust.bundles, Revocations(lists=CrlLists(crls(bytes(listed))))) is first
    assert first.followed_by(trust.bundles, Revocations(lists=CrlLists(crls(GOOD_ROOT)))).generation == 3
    assert first.followed_by(trust.bundles, NO_REVOCATIONS).generation == 3
    wanted = "<Revocations [0, <CrlLists [1 received, a.test: 1]>]>"
    assert repr(Revocations(lists=CrlLists(crls(listed), {A: CrlRule(crls(GOOD_ROOT))}))) == wanted
