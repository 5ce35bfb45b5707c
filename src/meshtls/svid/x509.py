"""X509-SVIDs as objects: our own, with its key, and the chains that peers present."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.errors import InvalidSvidError, LocalIdentityError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.spiffeid import SpiffeId
from meshtls.svid.leaf_rules import extension_of, leaf_violations, uri_names

__all__ = [
    "PrivateKey",
    "SignsOnly",
    "X509Svid",
    "fingerprint_of",
    "format_moment",
    "format_serial",
    "issuer_key_id_of",
    "key_id_of",
    "parse_chain",
    "serial_text",
    "spiffe_id_of",
]

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class SignsOnly:
    """Marks a private key that only signs and can't be read, such as one in a token: its other methods raise."""


@dataclass(frozen=True, slots=True)
class X509Svid:
    """An identity of this side: the leaf first, then its intermediates; the key never shows in a repr."""

    spiffe_id: SpiffeId
    chain: tuple[x509.Certificate, ...]
    private_key: PrivateKey = field(repr=False, compare=False)
    hint: str = ""

    @classmethod
    def from_chain(cls, chain: Sequence[x509.Certificate], private_key: PrivateKey, hint: str = "") -> X509Svid:
        """Check the leaf by the leaf rules and that the key is the leaf's. Raises LocalIdentityError."""
        if not chain:
            raise LocalIdentityError("X509-SVID: wanted at least the leaf certificate, got an empty chain")
        try:
            spiffe_id = spiffe_id_of(chain[0])
        except InvalidSvidError as error:
            raise LocalIdentityError(f"our own {error}") from error
        try:
            theirs = chain[0].public_key()
        except PARSE_ERRORS as error:
            raise LocalIdentityError(f"X509-SVID {spiffe_id}: its public key can't be read: {error}") from error
        if theirs != private_key.public_key():
            raise LocalIdentityError(f"X509-SVID {spiffe_id}: the private key does not belong to the certificate")
        return cls(spiffe_id, tuple(chain), private_key, hint)

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def serial(self) -> str:
        return format_serial(self.leaf)

    @property
    def not_before(self) -> datetime:
        return self.leaf.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        return self.leaf.not_valid_after_utc

    def chain_pem(self) -> bytes:
        """The chain as concatenated PEM, leaf first."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    def chain_der(self) -> bytes:
        """The chain as concatenated DER, leaf first: the form of the Workload API."""
        return b"".join(certificate.public_bytes(Encoding.DER) for certificate in self.chain)

    def key_der(self) -> bytes:
        """The private key as unencrypted PKCS#8 DER: the form of the Workload API."""
        return self.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def key_pem(self) -> bytes:
        """The private key as unencrypted PKCS#8 PEM."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def parse_chain(ders: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    """Parse DER certificates, leaf first. Raises InvalidSvidError with the place of the one that fails.

    A serial number has to be positive (RFC 5280, section 4.1.2.2), as in a peer's chain. The library only warns of
    others, so that what it returns would depend on Python's filter of warnings.
    """
    chain = []
    for place, der in enumerate(ders):
        try:
            certificate = x509.load_der_x509_certificate(der)
            # Names are decoded on first use: an invalid one must fail here, not while a later message is formatted.
            _ = certificate.subject, certificate.issuer
        except PARSE_ERRORS as error:
            raise InvalidSvidError(f"certificate {place} of the chain is no X.509 certificate: {error}") from error
        if certificate.serial_number <= 0:
            got = f"{certificate.serial_number:x}"
            raise InvalidSvidError(f"certificate {place} of the chain: serial number: wanted a positive one, got {got}")
        chain.append(certificate)
    return tuple(chain)


def spiffe_id_of(leaf: x509.Certificate) -> SpiffeId:
    """The SPIFFE ID of a leaf that keeps every leaf rule. Raises InvalidSvidError with all that it breaks."""
    broken = leaf_violations(leaf)
    if broken:
        raise InvalidSvidError(f"certificate {format_serial(leaf)} is no X509-SVID: {'; '.join(broken)}")
    return SpiffeId.parse(uri_names(leaf)[0])


def format_serial(certificate: x509.Certificate) -> str:
    """The serial number as lower-case hexadecimal, an even number of digits: what ``openssl x509 -serial`` shows."""
    return serial_text(f"{certificate.serial_number:x}")


def serial_text(digits: str) -> str:
    """These lower-case hexadecimal digits of a serial number as ``format_serial`` writes them."""
    return digits.zfill(len(digits) + len(digits) % 2)


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER as lower-case hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def key_id_of(certificate: x509.Certificate) -> str:
    """The subject key identifier as lower-case hexadecimal: the extension's, or SHA-1 of the key without one."""
    found = extension_of(certificate, x509.SubjectKeyIdentifier)
    identifier = found.value if found else x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    return identifier.digest.hex()


def issuer_key_id_of(certificate: x509.Certificate) -> str:
    """The authority key identifier as lower-case hexadecimal, empty without one."""
    found = extension_of(certificate, x509.AuthorityKeyIdentifier)
    return (found.value.key_identifier or b"").hex() if found else ""


def format_moment(moment: datetime) -> str:
    """An aware time in UTC, to the second (RFC 3339)."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
