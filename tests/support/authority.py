"""Real identities for tests: an authority in memory, contexts of SVIDs it issued, and leaves that break one rule.

``mint_raw`` signs any ``Leaf`` with the real intermediate, so that a refusal test can differ from its succeeding twin
in one thing only::

    good = mint_raw(authority, Leaf())
    bad = mint_raw(authority, replace(Leaf(), uris=("spiffe://example.org/a", "spiffe://example.org/b")))
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.authority import Authority
from meshtls.ca.profile import Signer
from meshtls.clock import Clock, SystemClock
from meshtls.errors import LocalIdentityError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import PrivateKey, X509Svid

__all__ = ["LASTING", "Leaf", "Swapping", "context_for", "csr_for", "make_authority", "mint_raw", "svid_for"]

#: A TTL for an SVID that is made when a module is imported: its tests may run hours later.
LASTING = timedelta(days=2)
BOTH_USAGES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
OWN_NAME = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "meshtls")])


@dataclass(slots=True)
class Swapping:
    """A source whose context, or lack of one, a test can change."""

    now: X509Context | LocalIdentityError

    def snapshot(self) -> X509Context:
        if isinstance(self.now, LocalIdentityError):
            raise self.now
        return self.now


@dataclass(frozen=True, slots=True)
class Leaf:
    """The content of a raw leaf; the default keeps every rule. Times are in seconds from the clock's now.

    - ``key_usage``: the bits to set; None omits the extension, as does an empty ``extended_key_usage``.
    - ``signer``: the authority's intermediate unless given.
    """

    uris: tuple[str, ...] = ("spiffe://example.org/web",)
    dns_names: tuple[str, ...] = ()
    starts_in: float = -10
    ends_in: float = 3600
    ca: bool = False
    key_usage: tuple[str, ...] | None = ("digital_signature",)
    key_usage_critical: bool = True
    extended_key_usage: tuple[x509.ObjectIdentifier, ...] = BOTH_USAGES
    subject: x509.Name = OWN_NAME
    san_critical: bool = False
    signer: Signer | None = None


def make_authority(
    trust_domain: str = "example.org",
    clock: Clock | None = None,
    *,
    svid_ttl: timedelta = timedelta(hours=1),
    intermediate_ttl: timedelta = timedelta(days=30),
    ca_ttl: timedelta = timedelta(days=3650),
) -> Authority:
    """A new authority in memory; its clock is the machine's unless given."""
    return Authority.create(
        TrustDomain(trust_domain),
        clock or SystemClock(),
        svid_ttl=svid_ttl,
        intermediate_ttl=intermediate_ttl,
        ca_ttl=ca_ttl,
    )


def svid_for(
    authority: Authority, spiffe_id: str | SpiffeId, *, ttl: timedelta | None = None, dns_names: Iterable[str] = ()
) -> X509Svid:
    """A good SVID with a new P-256 key. An ID that starts with a slash is a path in the authority's trust domain."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = authority.issue(_as_id(authority, spiffe_id), key.public_key(), ttl=ttl, dns_names=dns_names)
    return X509Svid.from_chain(chain, key)


def context_for(
    authority: Authority,
    spiffe_id: str | SpiffeId,
    *,
    ttl: timedelta | None = None,
    dns_names: Iterable[str] = (),
    generation: int = 1,
    federated: Iterable[TrustBundle] = (),
) -> X509Context:
    """A context with one good SVID, the authority's bundle and those of ``federated``."""
    svid = svid_for(authority, spiffe_id, ttl=ttl, dns_names=dns_names)
    return X509Context(generation, (svid,), BundleSet([*federated, authority.bundle]))


def csr_for(key: PrivateKey, uri: str | None = None) -> x509.CertificateSigningRequest:
    """A CSR signed by this key that requests the URI name ``uri``, if given."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if uri is not None:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256())


def mint_raw(authority: Authority, leaf: Leaf, clock: Clock | None = None) -> X509Svid:
    """A certificate for ``leaf``, signed by the real intermediate without any check, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = leaf.signer or authority.intermediate
    certificate = _raw_builder(leaf, key.public_key(), signer, clock or SystemClock()).sign(
        signer.private_key, hashes.SHA256()
    )
    name = SpiffeId.parse(leaf.uris[0]) if leaf.uris else authority.trust_domain.id
    return X509Svid(name, (certificate, signer.certificate), key)


def _as_id(authority: Authority, spiffe_id: str | SpiffeId) -> SpiffeId:
    if isinstance(spiffe_id, SpiffeId):
        return spiffe_id
    return SpiffeId(authority.trust_domain, spiffe_id) if spiffe_id[:1] == "/" else SpiffeId.parse(spiffe_id)


def _raw_builder(leaf: Leaf, key: ec.EllipticCurvePublicKey, signer: Signer, clock: Clock) -> x509.CertificateBuilder:
    now = clock.now()
    builder = (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .subject_name(leaf.subject)
        .issuer_name(signer.certificate.subject)
        .public_key(key)
        .not_valid_before(now + timedelta(seconds=leaf.starts_in))
        .not_valid_after(now + timedelta(seconds=leaf.ends_in))
    )
    for extension, critical in _raw_extensions(leaf, key, signer):
        builder = builder.add_extension(extension, critical=critical)
    return builder


def _raw_extensions(
    leaf: Leaf, key: ec.EllipticCurvePublicKey, signer: Signer
) -> Iterable[tuple[x509.ExtensionType, bool]]:
    issuer_key = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    yield x509.SubjectKeyIdentifier.from_public_key(key), False
    yield x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), False
    yield x509.BasicConstraints(ca=leaf.ca, path_length=None), True
    if leaf.key_usage is not None:
        yield _key_usage(leaf.key_usage), leaf.key_usage_critical
    if leaf.extended_key_usage:
        yield x509.ExtendedKeyUsage(leaf.extended_key_usage), False
    names = [*map(x509.UniformResourceIdentifier, leaf.uris), *map(x509.DNSName, leaf.dns_names)]
    if names:
        yield x509.SubjectAlternativeName(names), leaf.san_critical


def _key_usage(bits: tuple[str, ...]) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature="digital_signature" in bits,
        content_commitment="content_commitment" in bits,
        key_encipherment="key_encipherment" in bits,
        data_encipherment="data_encipherment" in bits,
        key_agreement="key_agreement" in bits,
        key_cert_sign="key_cert_sign" in bits,
        crl_sign="crl_sign" in bits,
        encipher_only=False,
        decipher_only=False,
    )
