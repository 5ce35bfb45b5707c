"""Builds CRLs, and extensions of the certificates that a CA signs (RFC 5280, sections 4.2 and 5). Pure.

Below the URL of a server, ``/crl/`` with the name of an issuer has its CRL, and ``/ocsp`` answers OCSP.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from meshtls.errors import ConfigError
from meshtls.svid.leaf_rules import extension_of
from meshtls.svid.presented import spki_of
from meshtls.svid.trust import issuer_key_id
from meshtls.svid.x509 import PrivateKey, format_moment, format_serial

__all__ = [
    "CRL_PATH",
    "CRL_SUFFIX",
    "OCSP_PATH",
    "CrlEntry",
    "build_crl",
    "crl_issuer",
    "hash_for",
    "key_usage",
    "pointers",
    "pointers_below",
]

CRL_PATH, CRL_SUFFIX = "/crl/", ".crl"
OCSP_PATH = "/ocsp"

_NUMBER_BITS = 159  # 20 octets with the sign (RFC 5280, section 5.2.3)


class CrlEntry(NamedTuple):
    """One revoked certificate. ``at`` is aware, ``reason`` None if there is none to tell."""

    serial_number: int
    at: datetime
    reason: x509.ReasonFlags | None = None


def build_crl(
    issuer: x509.Certificate,
    key: PrivateKey,
    entries: Iterable[CrlEntry],
    *,
    number: int,
    now: datetime,
    next_update: datetime,
) -> bytes:
    """The complete CRL, in DER, of what ``issuer`` has revoked; ``key`` is the issuer's.

    ``number`` must be higher than that of its last CRL. Raises ConfigError if the issuer may not sign CRLs, for a
    number that is out of bounds, and for a next update that is not after ``now``.
    """
    usage = extension_of(issuer, x509.KeyUsage)
    if usage is not None and not usage.value.crl_sign:
        raise ConfigError(f"CA certificate {format_serial(issuer)} may not sign CRLs: its keyUsage has no cRLSign")
    if key.public_key() != issuer.public_key():
        raise ConfigError(f"the private key does not belong to CA certificate {format_serial(issuer)}")
    if number < 0 or number.bit_length() > _NUMBER_BITS:
        raise ConfigError(f"CRL number: wanted at most {_NUMBER_BITS} bits and no sign, got {number}")
    if next_update <= now:
        raise ConfigError(f"CRL: wanted a next update after {format_moment(now)}, got {format_moment(next_update)}")
    identifier = extension_of(issuer, x509.SubjectKeyIdentifier)
    authority = (
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)
        if identifier
        else x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    )
    # All at once: the builder's own method for one entry copies all entries before it.
    builder = x509.CertificateRevocationListBuilder(revoked_certificates=[_entry(one) for one in entries])
    builder = builder.issuer_name(issuer.subject).last_update(now).next_update(next_update)
    builder = builder.add_extension(authority, critical=False).add_extension(x509.CRLNumber(number), critical=False)
    return builder.sign(key, hash_for(key)).public_bytes(Encoding.DER)


def pointers(crl_url: str = "", ocsp_url: str = "") -> list[x509.ExtensionType]:
    """The extensions, none of them critical, that tell a certificate's verifiers where its status is published."""
    found: list[x509.ExtensionType] = []
    if crl_url:
        name = x509.UniformResourceIdentifier(crl_url)
        found.append(x509.CRLDistributionPoints([x509.DistributionPoint([name], None, None, None)]))
    if ocsp_url:
        location = x509.UniformResourceIdentifier(ocsp_url)
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, location)
        found.append(x509.AuthorityInformationAccess([access]))
    return found


def pointers_below(url: str, issuer: x509.Certificate) -> list[x509.ExtensionType]:
    """The extensions of the certificates of this issuer, if its CRL and OCSP are published below ``url``."""
    return pointers(f"{url}{CRL_PATH}{crl_issuer(issuer)}{CRL_SUFFIX}", f"{url}{OCSP_PATH}")


def crl_issuer(certificate: x509.Certificate) -> str:
    """The hash of its key, hexadecimal: how the store and URLs name its CRL."""
    return issuer_key_id(spki_of(certificate)).hex()


def hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """The digest that a CA's key signs with."""
    wide = isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256
    return hashes.SHA384() if wide else hashes.SHA256()


def key_usage(*, ca: bool) -> x509.KeyUsage:
    """keyCertSign and cRLSign for a CA, digitalSignature for an end entity."""
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


def _entry(one: CrlEntry) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(one.at)
    # An unspecified reason is left out (RFC 5280, section 5.3.1).
    if one.reason not in (None, x509.ReasonFlags.unspecified):
        builder = builder.add_extension(x509.CRLReason(one.reason), critical=False)
    return builder.build()
