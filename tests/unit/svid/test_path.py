"""What a search for a path may cost, and who may be in it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from bench.hostile_chains import HostileChain, hostile_chains, ordinary
from meshtls.bundle import BundleSet
from meshtls.errors import InvalidSvidError, PeerError, UntrustedPeerError
from meshtls.svid import path
from meshtls.svid.name_constraints import MAX_COMPARISONS
from meshtls.svid.path import MAX_BAD_SIGNATURES, MAX_STEPS
from meshtls.svid.verify import verify_peer
from tests.support.authority import make_authority, svid_for
from tests.support.certs import AFTER, BEFORE, NOW, Issued, ca, leaf
from tests.support.verifying import INTERMEDIATE, ROOT, WEB, accepted, no_path, refusal, trusting, verify

AUTHORITY = make_authority("example.org")
CLAIMED = "spiffe://example.org/web"
CAPTURED = [one.public_bytes(Encoding.DER) for one in svid_for(AUTHORITY, "/web").chain]
KNOWN = [*AUTHORITY.bundle.x509_authorities, AUTHORITY.intermediate.certificate]
#: A captured chain is a good one; what its presenter lacks is the key.
HOSTILE = [
    ordinary(CLAIMED),
    *(one for one in hostile_chains(CLAIMED, KNOWN, CAPTURED) if not one.name.startswith("a captured")),
]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[x509.Certificate]:
    """The issuers with whose keys signatures were checked."""
    issuers: list[x509.Certificate] = []
    really = path.signature_holds

    def noted(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
        issuers.append(issuer)
        return really(certificate, issuer)

    monkeypatch.setattr(path, "signature_holds", noted)
    return issuers


@pytest.mark.parametrize("chain", HOSTILE, ids=[chain.name for chain in HOSTILE])
def test_a_stranger_s_keys_verify_nothing(chain: HostileChain, checked: list[x509.Certificate]) -> None:
    with pytest.raises((InvalidSvidError, UntrustedPeerError)):
        verify_peer(chain.certificates, BundleSet([AUTHORITY.bundle]), datetime.now(UTC))
    assert len(checked) <= MAX_BAD_SIGNATURES + 1  # a captured intermediate is good
    assert set(checked) <= set(KNOWN)


def test_a_good_chain_costs_a_check_for_each_certificate(checked: list[x509.Certificate]) -> None:
    assert accepted([leaf(INTERMEDIATE, WEB), INTERMEDIATE], trusting(ROOT))
    assert checked == [ROOT.certificate, INTERMEDIATE.certificate]


def test_unrelated_certificates_cost_nothing_and_are_not_in_the_peer_s_chain(checked: list[x509.Certificate]) -> None:
    unrelated = [ca(slot=f"u{number}", name=f"u{number}") for number in range(5)]
    web = leaf(INTERMEDIATE, WEB)
    peer = verify([web, *unrelated, INTERMEDIATE], trusting(ROOT))
    assert peer.chain == (web.certificate, INTERMEDIATE.certificate)
    assert checked == [ROOT.certificate, INTERMEDIATE.certificate]


def test_a_root_that_was_presented_is_in_the_peer_s_chain() -> None:
    web = leaf(INTERMEDIATE, WEB)
    chain = [web, INTERMEDIATE, ROOT]
    assert verify(chain, trusting(ROOT)).chain == tuple(one.certificate for one in chain)


def unnamed(slot: str) -> Issued:
    """One of several roots of a name, without key identifiers to tell them apart."""
    return ca(slot=slot, name="same", key_ids=False)


def test_few_of_many_same_named_authorities_are_tried() -> None:
    right = unnamed("right")
    chain = [leaf(right, WEB, key_ids=False)]
    others = [unnamed(f"wrong {number}") for number in range(MAX_BAD_SIGNATURES)]
    assert accepted(chain, trusting(*others[:-1], right))
    message = refusal(UntrustedPeerError, chain, trusting(*others, right))
    assert message == no_path("CN=same", "signature does not match; gave up after 4 bad signatures", 5)


def test_the_search_over_cross_signed_cas_below_a_root_is_bounded() -> None:
    """A CA of ours gone mad: each of these signs all of them, and none of them the leaf's issuer."""
    names = [f"n{number}" for number in range(4)]
    keys = {name: ca(ROOT, slot=name, name=name) for name in names}
    tangle = [ca(keys[one], slot=other, name=other) for one in names for other in names if one < other][:5]
    last = ca(keys["n3"], slot="last", name="last", is_ca=False)
    message = refusal(UntrustedPeerError, [leaf(last, WEB), last, keys["n0"], *tangle], trusting(ROOT))
    assert "CA certificate abc123 may not sign: wanted a CA certificate as a signer" in message


def test_a_renewed_intermediate_beside_its_expired_self_is_found() -> None:
    old = ca(ROOT, slot="renewed", name="renewed", not_after=NOW)
    new = ca(ROOT, slot="renewed", name="renewed", not_after=AFTER)
    chain = [leaf(new, WEB), old, new]
    assert accepted(chain, trusting(ROOT), AFTER)
    assert refusal(UntrustedPeerError, chain[:2], trusting(ROOT), AFTER).endswith(
        "CA certificate abc123 expired at 2030-05-01T12:00:00Z; our clock says 2030-05-01T13:00:00Z"
    )


def test_the_first_of_several_intermediates_with_one_name_and_key_counts() -> None:
    foreign = ca(ca(slot="other", name="other"), slot="intermediate", name="intermediate")
    chain = [leaf(INTERMEDIATE, WEB), INTERMEDIATE, foreign]
    assert accepted(chain, trusting(ROOT))
    assert refusal(UntrustedPeerError, [chain[0], foreign, INTERMEDIATE], trusting(ROOT)) == no_path(
        "CN=root a", "none of them is its issuer"
    )


def test_an_authority_that_has_the_key_identifier_comes_before_those_without_one() -> None:
    right = ca(slot="right", name="same")
    others = [unnamed(f"wrong {number}") for number in range(MAX_BAD_SIGNATURES)]
    assert accepted([leaf(right, WEB)], trusting(*others, right))


def test_a_search_is_given_up_after_as_many_steps_as_it_may_have() -> None:
    right = unnamed("right")
    expired = [ca(slot=f"old {number}", name="same", key_ids=False, not_after=BEFORE) for number in range(MAX_STEPS)]
    chain = [leaf(right, WEB, key_ids=False)]
    assert accepted(chain, trusting(*expired[1:], right))
    message = refusal(UntrustedPeerError, chain, trusting(*expired, right))
    assert message == no_path("CN=same", "gave up after 32 certificates that lead nowhere", 33)


def test_a_self_issued_ca_is_not_judged_by_its_issuer_s_name_constraints_and_a_self_issued_leaf_is() -> None:
    permitted = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web")]))
    narrow = ca(slot="narrow", name="narrow", extra=[(x509.NameConstraints([permitted], None), True)])
    renewed, other = ca(narrow, slot="renewed", name="narrow"), ca(narrow, slot="other", name="other")
    assert accepted([leaf(renewed, WEB), renewed], trusting(narrow))
    broken = "has a name that its issuer's name constraints do not permit"
    for chain, name in (([leaf(other, WEB), other], "other"), ([leaf(narrow, WEB, subject="narrow")], "narrow")):
        assert refusal(UntrustedPeerError, chain, trusting(narrow)).endswith(f"{broken}: 'CN={name}'")


def test_a_self_issued_ca_is_not_counted_by_a_path_length() -> None:
    short = ca(slot="short", name="short", path_length=0)
    renewed, other = ca(short, slot="renewed", name="short"), ca(short, slot="other", name="other")
    assert accepted([leaf(renewed, WEB), renewed], trusting(short))
    assert refusal(UntrustedPeerError, [leaf(other, WEB), other], trusting(short)).endswith(
        "allows 0 CAs below it, got 1"
    )


def test_names_and_constraints_are_compared_up_to_a_bound() -> None:
    subtrees = [x509.DNSName("a.test"), *(x509.DNSName(f"{number}.b.test") for number in range(63))]
    narrow = ca(slot="narrow", name="narrow", extra=[(x509.NameConstraints(subtrees[:32], subtrees[32:]), True)])
    # Beside them a leaf has its URI and its subject.
    names = [f"{number}.a.test" for number in range(MAX_COMPARISONS // len(subtrees) - 2)]
    assert accepted([leaf(narrow, WEB, dns=names)], trusting(narrow))
    message = refusal(UntrustedPeerError, [leaf(narrow, WEB, dns=[*names, "x.a.test"])], trusting(narrow))
    assert message.endswith("its names and its issuers' name constraints make more than 4096 pairs to compare")


def test_a_signature_with_a_digest_that_is_too_short_is_refused() -> None:
    assert accepted([leaf(ROOT, WEB, digest=hashes.SHA384())], trusting(ROOT))
    message = refusal(UntrustedPeerError, [leaf(ROOT, WEB, digest=hashes.SHA224())], trusting(ROOT))
    assert message == no_path("CN=root a", "signature does not match")


def test_an_intermediate_is_valid_from_the_second_of_its_beginning_on() -> None:
    middle = ca(ROOT, slot="middle", name="middle", not_before=NOW)
    chain = [leaf(middle, WEB), middle]
    assert accepted(chain, trusting(ROOT), NOW)
    assert "is not valid before" in refusal(UntrustedPeerError, chain, trusting(ROOT), NOW - timedelta(seconds=1))


def test_an_authority_with_a_key_out_of_bounds_verifies_no_peer() -> None:
    """A federated partner's bundle is the partner's choice; what its key costs would be ours."""
    bits = 1024
    weak = ca(slot="weak", kind="RSA", name="weak")
    assert accepted([leaf(weak, WEB)], trusting(weak))
    weak = ca(slot="weaker", name="weak", own_key=rsa.generate_private_key(65537, bits))
    message = refusal(UntrustedPeerError, [leaf(weak, WEB)], trusting(weak))
    assert "may sign: wanted a public key that is RSA of 2048 to 4096 bits" in message
    assert message.endswith("got RSA of 1024 bits")


def test_no_odd_extension_raises_anything_but_a_peer_error() -> None:
    for oid, value in (
        ("1.3.6.1.5.5.7.1.24", b"\x30\x00"),
        ("2.5.29.30", bytes.fromhex("300aa00830068704" + "01020304")),
    ):
        odd = (x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False)
        for chain in (
            [leaf(ROOT, WEB, extra=[odd])],
            [leaf(ca(ROOT, slot="odd", name="odd", extra=[odd]), WEB), ca(ROOT, slot="odd", name="odd", extra=[odd])],
        ):
            with pytest.raises(PeerError):
                verify(chain, trusting(ROOT))


def test_a_signature_of_rsa_pss_is_taken() -> None:
    root = ca(slot="pss", name="pss", kind="RSA")
    web = leaf(root, WEB).certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(web.subject)
        .issuer_name(web.issuer)
        .public_key(web.public_key())
        .serial_number(web.serial_number)
        .not_valid_before(web.not_valid_before_utc)
        .not_valid_after(web.not_valid_after_utc)
    )
    for extension in web.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    assert isinstance(root.key, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
    signed = Issued(builder.sign(root.key, hashes.SHA256(), rsa_padding=pss), root.key)
    assert accepted([signed], trusting(root))
    other = ca(slot="pss 2", name="pss", kind="RSA", key_ids=False)
    assert "another key" in refusal(UntrustedPeerError, [signed], trusting(ca(slot="pss 3", name="pss", kind="RSA")))
    assert refusal(UntrustedPeerError, [signed], trusting(other)) == no_path("CN=pss", "signature does not match")
