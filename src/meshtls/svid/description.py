"""A certificate in words, for people: every field bounded, and shown even if others can't be read. Pure.

The certificate may be hostile. A field that is not decodable is shown with the reason, a long one is cut, and of many
values the first are shown. Escaping is the printer's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha1, sha256
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, SignatureAlgorithmOID

from meshtls.parse_errors import PARSE_ERRORS
from meshtls.svid.leaf_rules import extension_of
from meshtls.svid.x509 import format_moment, format_serial, issuer_key_id_of, key_id_of, serial_text
from meshtls.x509_names import name_text

__all__ = ["Description", "describe"]

#: A larger certificate is not decoded; none that is accepted has more than an eighth of it.
_MOST_BYTES = 64 << 10
_LONGEST, _MOST = 256, 16

E = TypeVar("E", bound=x509.ExtensionType)

_USES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "anyExtendedKeyUsage",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSPSigning",
}
_KEY_USAGES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_agreement": "keyAgreement",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
_ALGORITHMS = {
    oid: name.lower().replace("_", "-")
    for name, oid in vars(SignatureAlgorithmOID).items()
    if isinstance(oid, x509.ObjectIdentifier)
}
_NAMES: dict[type[x509.GeneralName], str] = {
    x509.UniformResourceIdentifier: "URI",
    x509.DNSName: "DNS",
    x509.IPAddress: "IP",
    x509.RFC822Name: "email",
    x509.DirectoryName: "directory name",
    x509.RegisteredID: "registered ID",
    x509.OtherName: "other name",
}
#: What has a line of its own.
_SHOWN = (
    x509.SubjectAlternativeName,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.BasicConstraints,
    x509.AuthorityInformationAccess,
    x509.CRLDistributionPoints,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
)


@dataclass(frozen=True, slots=True)
class Description:
    """A certificate in words. ``certificate`` is None if the bytes are none, or too many, and ``unreadable`` says why.

    ``fields`` are texts, and lists of texts, by their name.
    """

    certificate: x509.Certificate | None
    unreadable: str
    fields: dict[str, str | list[str]]


def describe(der: bytes) -> Description:
    """The certificate in these bytes, or the reason why there is none."""
    fields: dict[str, str | list[str]] = {
        "sha256": sha256(der).hexdigest(),
        "sha1": sha1(der, usedforsecurity=False).hexdigest(),
    }
    if len(der) > _MOST_BYTES:
        return Description(None, f"wanted at most {_MOST_BYTES} bytes to decode, got {len(der)}", fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is odd here, the rules tell
        try:
            certificate = x509.load_der_x509_certificate(der)
        except PARSE_ERRORS as error:
            return Description(None, _short(f"it is no X.509 certificate: {error}"), fields)
        for name, read in _FIELDS.items():
            try:
                value = read(certificate)
            except PARSE_ERRORS as error:
                value = _short(f"(can't be read: {error})")
            if value:
                fields[name] = value
    return Description(certificate, "", fields)


def _openssl_serial(certificate: x509.Certificate) -> str:
    """As ``openssl x509 -serial`` prints it."""
    number = certificate.serial_number
    return ("-" if number < 0 else "") + serial_text(f"{abs(number):x}").upper()


def _extension(certificate: x509.Certificate, kind: type[E], words: Callable[[E], Iterable[str]]) -> str:
    found = extension_of(certificate, kind)
    if found is None:
        return ""
    return ", ".join(words(found.value)) + (" (critical)" if found.critical else "")


def _names(certificate: x509.Certificate) -> list[str]:
    found = extension_of(certificate, x509.SubjectAlternativeName)
    return _first([f"{_NAMES.get(type(one), 'name')}:{_name_text(one)}" for one in found.value]) if found else []


def _name_text(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DirectoryName):
        return _name(name.value)
    if isinstance(name, x509.OtherName):
        return f"{name.type_id.dotted_string} {name.value.hex()}"
    if isinstance(name, x509.RegisteredID):
        return name.value.dotted_string
    return str(name.value)


def _name(name: x509.Name) -> str:
    return _short(name_text(name))


def _key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        exponent = key.public_numbers().e
        return f"RSA of {key.key_size} bits" + (f", exponent {exponent}" if exponent < 1 << 64 else ", a huge exponent")
    return "Ed25519" if isinstance(key, ed25519.Ed25519PublicKey) else type(key).__name__.removesuffix("PublicKey")


def _algorithm(certificate: x509.Certificate) -> str:
    oid = certificate.signature_algorithm_oid
    return _ALGORITHMS.get(oid, oid.dotted_string)


def _key_usage(usage: x509.KeyUsage) -> Iterable[str]:
    return [name for field, name in _KEY_USAGES.items() if getattr(usage, field)]


def _basic(constraints: x509.BasicConstraints) -> Iterable[str]:
    yield "a CA" if constraints.ca else "not a CA"
    if constraints.path_length is not None:
        yield f"at most {constraints.path_length} CAs below it"


def _pointers(certificate: x509.Certificate, method: x509.ObjectIdentifier) -> list[str]:
    found = extension_of(certificate, x509.AuthorityInformationAccess)
    listed = [one.access_location for one in found.value if one.access_method == method] if found else []
    return _first([_name_text(one) for one in listed])


def _crls(certificate: x509.Certificate) -> list[str]:
    found = extension_of(certificate, x509.CRLDistributionPoints)
    return _first([_name_text(name) for point in found.value for name in point.full_name or ()]) if found else []


def _others(certificate: x509.Certificate) -> list[str]:
    return _first(
        [
            one.oid.dotted_string + (" (critical)" if one.critical else "")
            for one in certificate.extensions
            if type(one.value) not in _SHOWN
        ]
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def _first(texts: list[str]) -> list[str]:
    shown = [_short(one) for one in texts[:_MOST]]
    return [*shown, f"... and {len(texts) - _MOST} more"] if len(texts) > _MOST else shown


_FIELDS: dict[str, Callable[[x509.Certificate], str | list[str]]] = {
    "subject": lambda one: _name(one.subject),
    "issuer": lambda one: _name(one.issuer),
    "names": _names,
    "serial": format_serial,
    "openssl_serial": _openssl_serial,
    "key": _key,
    "signature": _algorithm,
    "not_before": lambda one: format_moment(one.not_valid_before_utc),
    "not_after": lambda one: format_moment(one.not_valid_after_utc),
    "basic_constraints": lambda one: _extension(one, x509.BasicConstraints, _basic),
    "key_usage": lambda one: _extension(one, x509.KeyUsage, _key_usage),
    "extended_key_usage": lambda one: _short(
        _extension(one, x509.ExtendedKeyUsage, lambda uses: [_USES.get(use, use.dotted_string) for use in uses])
    ),
    "key_id": key_id_of,
    "issuer_key_id": issuer_key_id_of,
    "issuer_certificate_at": lambda one: _pointers(one, AuthorityInformationAccessOID.CA_ISSUERS),
    "ocsp_at": lambda one: _pointers(one, AuthorityInformationAccessOID.OCSP),
    "crl_at": _crls,
    "other_extensions": _others,
}
