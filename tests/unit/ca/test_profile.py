"""Certificate templates: the content of a root, an intermediate and a leaf, and refused content."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.profile import (
    Signer,
    downstream_certificate,
    intermediate_certificate,
    leaf_certificate,
    new_serial,
    root_certificate,
)
from meshtls.errors import ConfigError, PeerError, RequestError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.leaf_rules import leaf_violations, signing_violations, uri_names
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import format_serial

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
DOMAIN = TrustDomain("example.org")
WEB = SpiffeId(DOMAIN, "/web")
USAGE_BITS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
KEY = ec.generate_private_key(ec.SECP256R1())


def root(algorithm: KeyAlgorithm = KeyAlgorithm.P256, ttl: timedelta = 10 * HOUR) -> Signer:
    key = algorithm.generate()
    return Signer(root_certificate(DOMAIN, key, NOW, ttl), key)


def intermediate(parent: Signer, algorithm: KeyAlgorithm = KeyAlgorithm.P256, ttl: timedelta = 5 * HOUR) -> Signer:
    key = algorithm.generate()
    return Signer(intermediate_certificate(DOMAIN, key.public_key(), parent, NOW, ttl), key)


def leaf(*, spiffe_id: SpiffeId = WEB, dns_names: tuple[str, ...] = (), ttl: timedelta = HOUR) -> x509.Certificate:
    return leaf_certificate(spiffe_id, KEY.public_key(), dns_names, intermediate(root()), NOW, ttl)


def test_root_has_the_shape_of_a_spiffe_root() -> None:
    certificate = root().certificate
    assert signing_violations(certificate) == []
    assert uri_names(certificate) == ["spiffe://example.org"]
    assert certificate.subject == certificate.issuer
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, None)
    assert _usages(certificate) == (True, {"key_cert_sign", "crl_sign"})


def test_intermediate_may_sign_leaves_only_and_points_to_its_root() -> None:
    parent = root()
    certificate = intermediate(parent).certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert _usages(certificate) == (True, {"key_cert_sign", "crl_sign"})
    assert uri_names(certificate) == ["spiffe://example.org"]
    assert _authority_key(certificate) == _subject_key(parent.certificate)
    certificate.verify_directly_issued_by(parent.certificate)


def downstream(domain: TrustDomain, issuer: Signer) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Signer(downstream_certificate(domain, key.public_key(), issuer, NOW, HOUR), key)


def verified(spiffe_id: SpiffeId, *path: Signer) -> SpiffeId:
    """The ID of a leaf of the last signer, where the trust domain of that ID trusts the first one."""
    signed = leaf_certificate(spiffe_id, KEY.public_key(), (), path[-1], NOW, HOUR)
    chain = [signed, *(one.certificate for one in path[:0:-1])]
    bundle = TrustBundle(spiffe_id.trust_domain, (path[0].certificate,))
    return verify_peer([one.public_bytes(Encoding.DER) for one in chain], BundleSet([bundle]), NOW).spiffe_id


def test_downstream_ca_signs_for_no_other_trust_domain_that_has_the_same_root() -> None:
    parent, partner = root(), TrustDomain("partner.test")
    assert verified(WEB, parent, downstream(DOMAIN, parent)) == WEB
    with pytest.raises(PeerError, match="a name that its issuer's name constraints do not permit"):
        verified(WEB, parent, downstream(partner, parent))
    theirs, below = downstream(partner, parent), downstream(DOMAIN, parent)
    with pytest.raises(PeerError, match="a name that its issuer's name constraints do not permit"):
        verified(WEB, parent, theirs, downstream(DOMAIN, theirs))
    assert verified(WEB, parent, below, downstream(DOMAIN, below)) == WEB
    constraints = below.certificate.extensions.get_extension_for_class(x509.NameConstraints)
    permitted = constraints.value.permitted_subtrees or ()
    assert (constraints.critical, [one.value for one in permitted]) == (True, ["example.org"])


@pytest.mark.parametrize("name", ["10.0.0.1", ".example.org", "example.org.", "a..b", "a" * 64])
def test_a_trust_domain_that_name_constraints_can_not_express_has_no_downstream_ca(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        downstream(TrustDomain(name), root())
    assert str(refused.value) == (
        f"trust domain {name}: a CA can't be limited to it, since a name constraint is a host name: wanted labels"
        " of 1 to 63 characters with dots between them, and no IP address"
    )


@pytest.mark.parametrize("name", ["mesh", "10.0.0.256", "my_domain.-x", "a" * 63])
def test_a_trust_domain_that_is_a_host_name_has_a_downstream_ca(name: str) -> None:
    domain, parent = TrustDomain(name), root()
    assert verified(SpiffeId(domain, "/web"), parent, downstream(domain, parent)) == SpiffeId(domain, "/web")


def test_leaf_keeps_every_leaf_rule_and_names_the_id_first() -> None:
    signer = intermediate(root())
    certificate = leaf_certificate(WEB, KEY.public_key(), ["web.local", "web.local", "w"], signer, NOW, HOUR)
    assert leaf_violations(certificate) == []
    assert _usages(certificate) == (True, {"digital_signature"})
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["spiffe://example.org/web", "web.local", "w"]
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert _authority_key(certificate) == _subject_key(signer.certificate)
    assert len(certificate.subject) > 0
    certificate.verify_directly_issued_by(signer.certificate)


def test_leaf_starts_ten_seconds_back_and_ends_after_its_ttl() -> None:
    certificate = leaf(ttl=timedelta(minutes=7))
    assert certificate.not_valid_before_utc == NOW - timedelta(seconds=10)
    assert certificate.not_valid_after_utc == NOW + timedelta(minutes=7)


@pytest.mark.parametrize(("ttl", "ends_after"), [(4 * HOUR, 4 * HOUR), (6 * HOUR, 5 * HOUR)])
def test_leaf_ends_with_its_issuer_at_the_latest(ttl: timedelta, ends_after: timedelta) -> None:
    assert leaf(ttl=ttl).not_valid_after_utc == NOW + ends_after


def test_intermediate_ends_with_its_root_at_the_latest() -> None:
    signer = intermediate(root(ttl=2 * HOUR), ttl=3 * HOUR)
    assert signer.certificate.not_valid_after_utc == NOW + 2 * HOUR


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.P384, KeyAlgorithm.RSA2048])
def test_ca_keys_of_other_kinds_sign_too(algorithm: KeyAlgorithm) -> None:
    parent = root(algorithm)
    signer = intermediate(parent, algorithm)
    certificate = leaf_certificate(WEB, KEY.public_key(), (), signer, NOW, HOUR)
    signer.certificate.verify_directly_issued_by(parent.certificate)
    certificate.verify_directly_issued_by(signer.certificate)
    assert certificate.signature_hash_algorithm is not None
    assert certificate.signature_hash_algorithm.name == ("sha384" if algorithm is KeyAlgorithm.P384 else "sha256")


def test_serials_are_positive_at_most_128_bits_and_differ() -> None:
    serials = {new_serial() for _ in range(64)}
    assert len(serials) == 64
    assert all(0 < serial < 2**128 for serial in serials)
    assert max(serials) > 2**120


@pytest.mark.parametrize("name", ["", "*.local", "-a", "a-", "a..b", "a_b", "ä.de", "a b", "a" * 64, "a." * 127 + "aa"])
def test_a_leaf_with_an_invalid_dns_name_is_not_issued(name: str) -> None:
    with pytest.raises(RequestError) as raised:
        leaf(dns_names=(name,))
    assert str(raised.value) == (
        f"DNS name {name!r}: wanted labels of a-z, 0-9 and '-', at most 253 bytes, no wildcard"
    )


@pytest.mark.parametrize("name", ["a", "web-1.Local", "1.2", "a" * 63, "a." * 126 + "a"])
def test_leaf_takes_dns_names(name: str) -> None:
    names = leaf(dns_names=(name,)).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [name]


def test_a_leaf_is_checked_by_the_leaf_rules_before_it_is_issued() -> None:
    with pytest.raises(RequestError) as raised:
        leaf(spiffe_id=DOMAIN.id)
    assert str(raised.value) == (
        "spiffe://example.org can't have an X509-SVID: wanted a SPIFFE ID with a path, got a trust domain's own"
    )


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=999)])
def test_leaf_refuses_a_ttl_below_one_second(ttl: timedelta) -> None:
    with pytest.raises(RequestError) as raised:
        leaf(ttl=ttl)
    assert str(raised.value) == f"TTL of {ttl.total_seconds():g} s: wanted at least one second"


def test_an_expired_issuer_signs_nothing_and_the_error_shows_both_clocks() -> None:
    signer = intermediate(root())
    late = NOW + 5 * HOUR
    with pytest.raises(ConfigError) as raised:
        leaf_certificate(WEB, KEY.public_key(), (), signer, late, HOUR)
    assert str(raised.value) == (
        f"CA certificate {format_serial(signer.certificate)} expired at 2030-01-02T08:04:05Z;"
        " our clock says 2030-01-02T08:04:05Z; start a new CA in an empty data directory"
    )
    just_before = leaf_certificate(WEB, KEY.public_key(), (), signer, late - timedelta(seconds=1), HOUR)
    assert just_before.not_valid_after_utc == late


def test_signer_shows_no_key_in_its_repr() -> None:
    assert "private_key" not in repr(root())


def _usages(certificate: x509.Certificate) -> tuple[bool, set[str]]:
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    return usage.critical, {bit for bit in USAGE_BITS if getattr(usage.value, bit)}


def _subject_key(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def _authority_key(certificate: x509.Certificate) -> bytes | None:
    return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
