"""Certificate templates of the three kinds that the CA signs: root, intermediate, leaf. Pure.

The profile is SPIRE's, so that chains and bundles are interchangeable: a CA certificate has its trust domain in a URI
SAN, a leaf has one workload's ID (X509-SVID, sections 2 to 5; RFC 5280, section 4.2).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshtls.errors import ConfigError, RequestError
from meshtls.scalars import dns_name
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.leaf_rules import leaf_violations
from meshtls.svid.lifetime import BACKDATE
from meshtls.svid.x509 import PrivateKey, format_serial

__all__ = [
    "BACKDATE",
    "CaSubject",
    "PublicKey",
    "Signer",
    "intermediate_certificate",
    "leaf_certificate",
    "new_serial",
    "root_certificate",
]

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA certificate and its private key, of which only ``sign`` is used."""

    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class CaSubject:
    """The subject of CA certificates. A country has two letters; an empty common name means ``meshtls <role>``."""

    country: tuple[str, ...] = ()
    organization: tuple[str, ...] = ("meshtls",)
    common_name: str = ""


def new_serial() -> int:
    """128 random bits, never zero (RFC 5280, section 4.1.2.2)."""
    return secrets.randbits(128) or new_serial()


def root_certificate(
    trust_domain: TrustDomain, key: PrivateKey, now: datetime, ttl: timedelta, named: CaSubject = CaSubject()
) -> x509.Certificate:
    """A self-signed root of this trust domain, valid from 10 s before ``now`` to ``ttl`` after it."""
    serial = new_serial()
    subject = _ca_subject(named, "root", serial)
    template = x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
    template = _as_ca(template, trust_domain, path_length=None)
    return _for_key(template, serial, key.public_key(), now, now + ttl).sign(key, _hash_for(key))


def intermediate_certificate(
    trust_domain: TrustDomain,
    public_key: PublicKey,
    root: Signer,
    now: datetime,
    ttl: timedelta,
    named: CaSubject = CaSubject(),
) -> x509.Certificate:
    """A CA certificate, issued by ``root``, that may only sign leaves. Raises ConfigError if the root has expired."""
    serial = new_serial()
    not_after = _capped(now, ttl, root.certificate)
    template = _below(root.certificate).subject_name(_ca_subject(named, "intermediate", serial))
    template = _as_ca(template, trust_domain, path_length=0)
    return _for_key(template, serial, public_key, now, not_after).sign(root.private_key, _hash_for(root.private_key))


def leaf_certificate(
    spiffe_id: SpiffeId, public_key: PublicKey, dns_names: Iterable[str], issuer: Signer, now: datetime, ttl: timedelta
) -> x509.Certificate:
    """An X509-SVID with the URI SAN first, then the DNS names. It does not outlive its issuer.

    Raises RequestError for an ID, a DNS name or a TTL that a leaf can't have, ConfigError if the issuer has expired.
    """
    if ttl < timedelta(seconds=1):
        raise RequestError(f"TTL of {ttl.total_seconds():g} s: wanted at least one second")
    not_after = _capped(now, ttl, issuer.certificate)
    dns = (x509.DNSName(dns_name(name)) for name in dict.fromkeys(dns_names))
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id)), *dns])
    template = _leaf_template(issuer.certificate).add_extension(names, critical=False)
    template = _for_key(template, new_serial(), public_key, now, not_after)
    leaf = template.sign(issuer.private_key, _hash_for(issuer.private_key))
    broken = leaf_violations(leaf)
    if broken:
        raise RequestError(f"{spiffe_id} can't have an X509-SVID: {'; '.join(broken)}")
    return leaf


def _ca_subject(named: CaSubject, role: str, serial: int) -> x509.Name:
    # The serial number makes the names of successive CAs distinct, so that path building by name finds the right one.
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.COUNTRY_NAME, one) for one in named.country),
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in named.organization),
            x509.NameAttribute(NameOID.COMMON_NAME, named.common_name or f"meshtls {role}"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{serial:032x}"),
        ]
    )


def _for_key(
    template: x509.CertificateBuilder, serial: int, public_key: PublicKey, now: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        template.serial_number(serial)
        .public_key(public_key)
        .not_valid_before(now - BACKDATE)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _below(issuer: x509.Certificate) -> x509.CertificateBuilder:
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return x509.CertificateBuilder().issuer_name(issuer.subject).add_extension(authority, critical=False)


def _as_ca(
    template: x509.CertificateBuilder, trust_domain: TrustDomain, path_length: int | None
) -> x509.CertificateBuilder:
    name = x509.UniformResourceIdentifier(str(trust_domain.id))
    return (
        template.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
    )


# Only key, names and times differ between the leaves of an issuer, and builders are immutable. Building the rest for
# each leaf would take a tenth of the signing time. The cache has several, since a process may have more than one CA.
@lru_cache(maxsize=16)
def _leaf_template(issuer: x509.Certificate) -> x509.CertificateBuilder:
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _below(issuer)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "meshtls")]))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )


def _capped(now: datetime, ttl: timedelta, issuer: x509.Certificate) -> datetime:
    if issuer.not_valid_after_utc <= now:
        raise ConfigError(
            f"CA certificate {format_serial(issuer)} expired at {issuer.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ};"
            f" our clock says {now:%Y-%m-%dT%H:%M:%SZ}; start a new CA in an empty data directory"
        )
    return min(now + ttl, issuer.not_valid_after_utc)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    wide = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if wide else hashes.SHA256()
