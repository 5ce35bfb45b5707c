"""A certificate from an unverified peer: measured before it is decoded, and decoded no further than needed.

Every bound here is on what a peer can make us spend before any of its signatures is known to be good. OpenSSL has read
the message when we see it; of what is refused here it decodes the certificates once more and follows nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.errors import InvalidSvidError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.svid.der import BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, Element, elements, parts
from meshtls.svid.keys import key_violation

__all__ = [
    "MAX_CERTIFICATE_BYTES",
    "MAX_CHAIN",
    "MAX_CHAIN_BYTES",
    "MAX_EXTENSIONS",
    "MAX_EXTENSION_BYTES",
    "MAX_NAMES",
    "MAX_NAME_BYTES",
    "MAX_SUBTREES",
    "Presented",
    "read_presented",
    "spki_of",
]

MAX_CHAIN = 8
MAX_CERTIFICATE_BYTES = 8 << 10
MAX_CHAIN_BYTES = 12 << 10
#: Of a subject or an issuer, in DER.
MAX_NAME_BYTES = 1 << 10
MAX_EXTENSIONS = 32
#: Of one extension's value, but for subject alternative names and name constraints, which are counted.
MAX_EXTENSION_BYTES = 2 << 10
#: Subject alternative names of one certificate.
MAX_NAMES = 256
#: Permitted and excluded subtrees of one certificate's name constraints.
MAX_SUBTREES = 64
#: Content octets of a serial number: 20 (RFC 5280, section 4.1.2.2) and the zero before a high bit.
_MAX_SERIAL = 21
_MAX_ALGORITHM = 128
_MAX_SIGNATURE = 520  # RSA-4096's is 512

_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("551d11")
_NAME_CONSTRAINTS = bytes.fromhex("551d1e")
_SUBJECT_KEY_IDENTIFIER = bytes.fromhex("551d0e")
_AUTHORITY_KEY_IDENTIFIER = bytes.fromhex("551d23")
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_FIELDS = [INTEGER, *[SEQUENCE] * 5]
_MOST_FIELDS = len(_FIELDS) + 4  # the version, two unique identifiers, the extensions
_KEY_ID, _ISSUER, _SERIAL = 0x80, 0xA1, 0x82
_DIRECTORY_NAME = 0xA4


@dataclass(frozen=True, slots=True)
class _Outline:
    """The parts of a certificate as encoded in its DER; at most one extension more than is allowed."""

    serial: bytes
    issuer: bytes
    subject: bytes
    spki: bytes
    algorithm: bytes
    signature: bytes
    extensions: tuple[tuple[bytes, bytes], ...]

    def extension(self, oid: bytes) -> bytes | None:
        return next((value for known, value in self.extensions if known == oid), None)


@dataclass(frozen=True, slots=True)
class Presented:
    """One certificate within the bounds, with the parts by which its issuer is found; names compare by their bytes."""

    certificate: x509.Certificate
    der: bytes
    issuer: bytes
    subject: bytes
    spki: bytes
    not_before: datetime
    not_after: datetime
    serial: bytes
    key_id: bytes | None
    #: What the authority key identifier says of the issuer: its key's identifier, its issuer, its serial number.
    authority: tuple[bytes | None, bytes | None, bytes | None]

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Presented:
        """Read a certificate that we trust, of any size. Raises one of PARSE_ERRORS if it can't be read."""
        der = certificate.public_bytes(Encoding.DER)
        return _presented(certificate, der, _outline(der))

    def valid_at(self, now: datetime | None) -> bool:
        """True for None, which stands for any time."""
        return now is None or self.not_before <= now <= self.not_after

    def names_as_issuer(self, other: Presented) -> bool:
        """Whether this certificate says that ``other`` issued it, as OpenSSL reads it: by name and by what the
        authority key identifier has.
        """
        key_id, issuer, serial = self.authority
        return (
            self.issuer == other.subject
            and (key_id is None or other.key_id is None or key_id == other.key_id)
            and (issuer is None or issuer == other.issuer)
            and (serial is None or serial == other.serial)
        )


def read_presented(ders: Sequence[bytes]) -> tuple[Presented, ...]:
    """The chain of an unverified peer, leaf first. Raises InvalidSvidError if it is out of bounds or unreadable.

    Of each certificate only the fields of ``Presented`` are decoded: its names and extensions may still be invalid.
    """
    if not 0 < len(ders) <= MAX_CHAIN:
        got = f"more than {MAX_CHAIN}" if ders else "0"
        raise InvalidSvidError(f"peer's chain: wanted 1 to {MAX_CHAIN} certificates, got {got}")
    size = sum(map(len, ders))
    if size > MAX_CHAIN_BYTES:
        raise InvalidSvidError(f"peer's chain: wanted at most {MAX_CHAIN_BYTES} bytes, got {size}")
    outlines = [_measured(place, der) for place, der in enumerate(ders)]
    return tuple(_read(place, der, outline) for place, (der, outline) in enumerate(zip(ders, outlines, strict=True)))


def _measured(place: int, der: bytes) -> _Outline:
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise InvalidSvidError(
            f"certificate {place} of the chain: wanted at most {MAX_CERTIFICATE_BYTES} bytes, got {len(der)}"
        )
    try:
        outline = _outline(der)
        violation = _violation(outline)
    except ValueError as error:
        raise InvalidSvidError(f"certificate {place} of the chain is no X.509 certificate: {error}") from error
    if violation:
        raise InvalidSvidError(f"certificate {place} of the chain: {violation}")
    return outline


def _violation(outline: _Outline) -> str | None:
    """Which bound this certificate breaks, in words. Raises ValueError for what is no certificate."""
    for part, value, most in (
        ("issuer", outline.issuer, MAX_NAME_BYTES),
        ("subject", outline.subject, MAX_NAME_BYTES),
        ("signature algorithm", outline.algorithm, _MAX_ALGORITHM),
        ("signature", outline.signature, _MAX_SIGNATURE),
        ("serial number", outline.serial, _MAX_SERIAL),
    ):
        if len(value) > most:
            return f"{part}: wanted at most {most} bytes, got {len(value)}"
    if outline.serial[:1] >= b"\x80" or not any(outline.serial):
        return f"serial number: wanted a positive one, got {outline.serial.hex() or 'none'}"
    return _extension_violation(outline.extensions) or key_violation(outline.spki)


def spki_of(certificate: x509.Certificate) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, byte for byte, also if no library can load the key."""
    [(_, tbs, _)] = parts(certificate.tbs_certificate_bytes, SEQUENCE)
    return _fields(tbs)[5][2]


def _read(place: int, der: bytes, outline: _Outline) -> Presented:
    try:
        return _presented(x509.load_der_x509_certificate(der), der, outline)
    except PARSE_ERRORS as error:
        raise InvalidSvidError(f"certificate {place} of the chain is no X.509 certificate: {error}") from error


def _presented(certificate: x509.Certificate, der: bytes, outline: _Outline) -> Presented:
    return Presented(
        certificate,
        der,
        outline.issuer,
        outline.subject,
        outline.spki,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        outline.serial,
        _key_id(outline.extension(_SUBJECT_KEY_IDENTIFIER)),
        _authority(outline.extension(_AUTHORITY_KEY_IDENTIFIER)),
    )


def _outline(der: bytes) -> _Outline:
    [(_, body, whole)] = parts(der, SEQUENCE)
    if len(whole) != len(der):
        raise ValueError(f"{len(der) - len(whole)} bytes behind its end")
    (_, tbs, _), (_, _, algorithm), (_, signature, _) = parts(body, SEQUENCE, SEQUENCE, BIT_STRING)
    serial, _, issuer, _, subject, spki, *others = _fields(tbs)
    listed = next((content for tag, content, _ in others if tag == _EXTENSIONS), None)
    extensions = () if listed is None else tuple(_extensions(listed))
    return _Outline(serial[1], issuer[2], subject[2], spki[2], algorithm, signature, extensions)


def _fields(tbs: bytes) -> list[Element]:
    """The fields of a TBSCertificate after the version."""
    fields = list(islice(elements(tbs), _MOST_FIELDS))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    if [tag for tag, _, _ in fields[: len(_FIELDS)]] != _FIELDS:
        raise ValueError("wanted a serial number, an algorithm, an issuer, a validity, a subject and a key")
    return fields


def _extensions(tagged: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Identifier and value of each."""
    [(_, listed, _)] = parts(tagged, SEQUENCE)
    for tag, content, _ in islice(elements(listed), MAX_EXTENSIONS + 1):
        inside = list(islice(elements(content), 3))
        if tag != SEQUENCE or not inside or inside[0][0] != OBJECT_IDENTIFIER or inside[-1][0] != OCTET_STRING:
            raise ValueError("wanted an extension with an identifier and a value")
        yield inside[0][1], inside[-1][1]


def _extension_violation(extensions: Sequence[tuple[bytes, bytes]]) -> str | None:
    if len(extensions) > MAX_EXTENSIONS:
        return f"wanted at most {MAX_EXTENSIONS} extensions, got more"
    for oid, value in extensions:
        if oid == _SUBJECT_ALTERNATIVE_NAME:
            if _count(value, MAX_NAMES) > MAX_NAMES:
                return f"wanted at most {MAX_NAMES} subject alternative names, got more"
        elif oid == _NAME_CONSTRAINTS:
            [(_, content, _)] = parts(value, SEQUENCE)
            lists = islice(elements(content), MAX_SUBTREES + 1)
            if sum(_count(whole, MAX_SUBTREES) for _, _, whole in lists) > MAX_SUBTREES:
                return f"wanted at most {MAX_SUBTREES} subtrees in name constraints, got more"
        elif len(value) > MAX_EXTENSION_BYTES:
            return f"wanted extensions of at most {MAX_EXTENSION_BYTES} bytes each, got one of {len(value)}"
    return None


def _count(listed: bytes, most: int) -> int:
    """How many elements ``listed`` contains; ``most`` + 1 if more than ``most``."""
    [(_, content, _)] = islice(elements(listed), 1)
    return sum(1 for _ in islice(elements(content), most + 1))


def _key_id(value: bytes | None) -> bytes | None:
    if value is None:
        return None
    [(_, key_id, _)] = parts(value, OCTET_STRING)
    return key_id


def _authority(value: bytes | None) -> tuple[bytes | None, bytes | None, bytes | None]:
    if value is None:
        return None, None, None
    [(_, content, _)] = parts(value, SEQUENCE)
    said = {tag: inside for tag, inside, _ in islice(elements(content), 3)}
    names = elements(said.get(_ISSUER, b""))
    issuer = next((name for tag, name, _ in names if tag == _DIRECTORY_NAME), None)
    return said.get(_KEY_ID), issuer, said.get(_SERIAL)
