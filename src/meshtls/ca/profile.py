"""Certificate templates of what the CA signs: roots, intermediates, CAs of downstream servers, CAs that an operator
signs, and leaves. Pure.

The profile is SPIRE's, so that chains and bundles are interchangeable: a CA certificate has its trust domain in a URI
SAN, a leaf has one workload's ID (X509-SVID, sections 2 to 5; RFC 5280, section 4.2).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshtls.errors import ConfigError, RequestError
from meshtls.revocation.building import hash_for, key_usage, pointers_below
from meshtls.scalars import dns_name
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.leaf_rules import leaf_violations
from meshtls.svid.lifetime import BACKDATE
from meshtls.svid.x509 import PrivateKey, format_serial, key_id_of

__all__ = [
    "BACKDATE",
    "CaSubject",
    "PublicKey",
    "Signer",
    "downstream_certificate",
    "intermediate_certificate",
    "leaf_certificate",
    "new_serial",
    "root_certificate",
    "subordinate_certificate",
]

_LONGEST_LABEL = 63

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Signer:
    """A CA certificate and its private key, of which only ``sign`` is used."""

    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False, compare=False)
    #: What leads from the certificate to the root, without either.
    above: tuple[x509.Certificate, ...] = ()


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
    trust_domain: TrustDomain | None, key: PrivateKey, now: datetime, ttl: timedelta, named: CaSubject = CaSubject()
) -> x509.Certificate:
    """A self-signed root of this trust domain, or of any, valid from 10 s before ``now`` to ``ttl`` after it."""
    serial = new_serial()
    subject = _ca_subject(named, "root", serial)
    template = x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
    template = _as_ca(template, trust_domain, path_length=None)
    return _for_key(template, serial, key.public_key(), now, now + ttl).sign(key, hash_for(key))


def intermediate_certificate(
    trust_domain: TrustDomain,
    public_key: PublicKey,
    root: Signer,
    now: datetime,
    ttl: timedelta,
    named: CaSubject = CaSubject(),
) -> x509.Certificate:
    """A CA certificate, issued by ``root``, that may only sign leaves. Raises ConfigError if the root has expired."""
    return _ca_below(trust_domain, public_key, root, now, ttl, _Role("intermediate", 0, named))


def downstream_certificate(
    trust_domain: TrustDomain,
    public_key: PublicKey,
    issuer: Signer,
    now: datetime,
    ttl: timedelta,
    named: CaSubject = CaSubject(),
) -> x509.Certificate:
    """The CA certificate of a server below another one, which signs leaves and the CAs of servers below itself.

    Names of other trust domains below it are invalid: a root may be shared with them. Raises ConfigError if the issuer
    has expired, or for a trust domain that name constraints can't express.
    """
    return _ca_below(trust_domain, public_key, issuer, now, ttl, _Role("downstream", None, named, constrained=True))


def subordinate_certificate(
    trust_domain: TrustDomain,
    public_key: PublicKey,
    issuer: Signer,
    now: datetime,
    ttl: timedelta,
    *,
    path_length: int,
    constrained: bool,
    named: CaSubject = CaSubject(),
) -> x509.Certificate:
    """A CA certificate of this trust domain that an operator has signed, with ``path_length`` CAs below it at most.

    If ``constrained``, names of other trust domains below it are invalid. Raises ConfigError if the issuer has expired,
    or for a trust domain that name constraints can't express.
    """
    return _ca_below(trust_domain, public_key, issuer, now, ttl, _Role("intermediate", path_length, named, constrained))


@dataclass(frozen=True, slots=True)
class _Role:
    name: str
    path_length: int | None
    subject: CaSubject
    constrained: bool = False


def _ca_below(
    trust_domain: TrustDomain, public_key: PublicKey, issuer: Signer, now: datetime, ttl: timedelta, role: _Role
) -> x509.Certificate:
    serial = new_serial()
    not_after = _capped(now, ttl, issuer.certificate)
    template = _below(issuer.certificate).subject_name(_ca_subject(role.subject, role.name, serial))
    template = _as_ca(template, trust_domain, role.path_length)
    if role.constrained:
        template = _only_in(template, trust_domain)
    template = _for_key(template, serial, public_key, now, not_after)
    return template.sign(issuer.private_key, hash_for(issuer.private_key))


def leaf_certificate(
    spiffe_id: SpiffeId,
    public_key: PublicKey,
    dns_names: Iterable[str],
    issuer: Signer,
    now: datetime,
    ttl: timedelta,
    revocation_url: str = "",
) -> x509.Certificate:
    """An X509-SVID with the URI SAN first, then the DNS names. It does not outlive its issuer.

    Unless ``revocation_url`` is empty, it points to the CRL of its issuer and to OCSP below this URL.

    Raises RequestError for an ID, a DNS name or a TTL that a leaf can't have, ConfigError if the issuer has expired.
    """
    if ttl < timedelta(seconds=1):
        raise RequestError(f"TTL of {ttl.total_seconds():g} s: wanted at least one second")
    not_after = _capped(now, ttl, issuer.certificate)
    dns = (x509.DNSName(dns_name(name)) for name in dict.fromkeys(dns_names))
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(spiffe_id)), *dns])
    template = _leaf_template(issuer.certificate, revocation_url).add_extension(names, critical=False)
    template = _for_key(template, new_serial(), public_key, now, not_after)
    leaf = template.sign(issuer.private_key, hash_for(issuer.private_key))
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
    authority = x509.AuthorityKeyIdentifier(bytes.fromhex(key_id_of(issuer)), None, None)
    return x509.CertificateBuilder().issuer_name(issuer.subject).add_extension(authority, critical=False)


def _as_ca(
    template: x509.CertificateBuilder, trust_domain: TrustDomain | None, path_length: int | None
) -> x509.CertificateBuilder:
    template = template.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    template = template.add_extension(key_usage(ca=True), critical=True)
    if trust_domain is None:
        return template
    name = x509.UniformResourceIdentifier(str(trust_domain.id))
    return template.add_extension(x509.SubjectAlternativeName([name]), critical=False)


def _only_in(template: x509.CertificateBuilder, trust_domain: TrustDomain) -> x509.CertificateBuilder:
    """Permits URIs with this trust domain for a host, and no others (RFC 5280, section 4.2.1.10)."""
    host = trust_domain.name
    if not all(1 <= len(label) <= _LONGEST_LABEL for label in host.split(".")) or _is_address(host):
        raise ConfigError(
            f"trust domain {host}: a CA can't be limited to it, since a name constraint is a host name: wanted labels"
            f" of 1 to {_LONGEST_LABEL} characters with dots between them, and no IP address"
        )
    permitted = [x509.UniformResourceIdentifier(host)]
    return template.add_extension(x509.NameConstraints(permitted, None), critical=True)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


# Only key, names and times differ between the leaves of an issuer, and builders are immutable. Building the rest for
# each leaf would take a tenth of the signing time. The cache has several, since a process may have more than one CA.
@lru_cache(maxsize=16)
def _leaf_template(issuer: x509.Certificate, revocation_url: str) -> x509.CertificateBuilder:
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    template = (
        _below(issuer)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "meshtls")]))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )
    if revocation_url:
        for extension in pointers_below(revocation_url, issuer):
            template = template.add_extension(extension, critical=False)
    return template


def _capped(now: datetime, ttl: timedelta, issuer: x509.Certificate) -> datetime:
    if issuer.not_valid_after_utc <= now:
        raise ConfigError(
            f"CA certificate {format_serial(issuer)} expired at {issuer.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ};"
            f" our clock says {now:%Y-%m-%dT%H:%M:%SZ}; start a new CA in an empty data directory"
        )
    return min(now + ttl, issuer.not_valid_after_utc)
