"""Certificates that break any rule, made with cryptography alone, so that our code is not tested by itself.

``ca()`` and ``leaf()`` make good ones in SPIRE's shape; each keyword changes one thing. None omits an extension. Keys
are cached by slot and kind: a test that needs two keys names two slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

NOW = datetime(2030, 5, 1, 12, 0, 0, tzinfo=UTC)
BEFORE, AFTER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
SERIAL = 0xABC123
_SHA256 = hashes.SHA256()
BOTH_USES = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
#: Any key that a certificate can have, permitted in an SVID or not.
AnyKey = Key | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | dsa.DSAPrivateKey
Digest = hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512
Extension = tuple[x509.ExtensionType, bool]
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, which can sign another one."""

    certificate: x509.Certificate
    key: AnyKey

    @property
    def private_key(self) -> Key:
        """The key, which must be of a kind permitted in our SVIDs."""
        assert isinstance(self.key, Key)
        return self.key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@cache
def key(slot: str = "leaf", kind: str = "P-256") -> Key:
    """A key that is made once per process: ``kind`` is P-256, P-384, P-521 or RSA (2048 bits)."""
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return rsa.generate_private_key(65537, 2048) if kind == "RSA" else ec.generate_private_key(curves[kind])


def leaf(
    issuer: Issued,
    *uris: str,
    subject: str | None = "web",
    dns: Sequence[str] = (),
    ip: Sequence[str] = (),
    san_critical: bool = False,
    is_ca: bool | None = False,
    usages: Iterable[str] | None = ("digital_signature",),
    usage_critical: bool = True,
    extended: Sequence[ObjectIdentifier] | None = BOTH_USES,
    not_before: datetime = BEFORE,
    not_after: datetime = AFTER,
    own_key: AnyKey | None = None,
    serial: int = SERIAL,
    extra: Sequence[Extension] = (),
    key_ids: bool = True,
    digest: Digest = _SHA256,
) -> Issued:
    """A leaf. Without ``uris`` it has no URI name, and without any name no SAN at all."""
    own_key = own_key or key("leaf")
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    names += [x509.DNSName(name) for name in dns] + [x509.IPAddress(ip_address(one)) for one in ip]
    extensions = [
        *([(x509.SubjectAlternativeName(names), san_critical)] if names else []),
        *([] if is_ca is None else [(x509.BasicConstraints(is_ca, None), True)]),
        *([] if usages is None else [(_key_usage(usages), usage_critical)]),
        *([] if extended is None else [(x509.ExtendedKeyUsage(extended), False)]),
        *extra,
    ]
    ids = _key_ids(issuer, own_key) if key_ids else []
    return _sign(issuer, own_key, _name(subject), not_before, not_after, [*ids, *extensions], serial, digest)


def ca(
    issuer: Issued | None = None,
    *uris: str,
    slot: str = "root",
    name: str | None = "root",
    is_ca: bool | None = True,
    path_length: int | None = None,
    usages: Iterable[str] | None = ("key_cert_sign", "crl_sign"),
    not_before: datetime = BEFORE,
    not_after: datetime = AFTER,
    kind: str = "P-256",
    own_key: AnyKey | None = None,
    extra: Sequence[Extension] = (),
    key_ids: bool = True,
    critical: bool = True,
    digest: Digest = _SHA256,
) -> Issued:
    """A CA certificate, self-signed without ``issuer``; ``own_key`` is of this slot and kind unless given.

    ``critical``: whether basicConstraints and keyUsage are.
    """
    own_key = own_key or key(slot, kind)
    extensions = [
        *([] if is_ca is None else [(x509.BasicConstraints(is_ca, path_length), critical)]),
        *([] if usages is None else [(_key_usage(usages), critical)]),
        *(
            [(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris]), False)]
            if uris
            else []
        ),
        *extra,
    ]
    ids = _key_ids(issuer, own_key) if key_ids else []
    return _sign(issuer, own_key, _name(name), not_before, not_after, [*ids, *extensions], SERIAL, digest)


def _key_ids(issuer: Issued | None, own_key: AnyKey) -> list[Extension]:
    signer = issuer.key if issuer else own_key
    return [
        (x509.SubjectKeyIdentifier.from_public_key(own_key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ]


def _sign(
    issuer: Issued | None,
    own_key: AnyKey,
    subject: x509.Name,
    not_before: datetime,
    not_after: datetime,
    extensions: Iterable[Extension],
    serial: int,
    digest: Digest,
) -> Issued:
    signing_key = issuer.key if issuer else own_key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own_key.public_key())
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    if isinstance(signing_key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return Issued(builder.sign(signing_key, None), own_key)
    return Issued(builder.sign(signing_key, digest), own_key)


def _key_usage(on: Iterable[str]) -> x509.KeyUsage:
    return x509.KeyUsage(**dict.fromkeys(_USAGES, False) | dict.fromkeys(on, True))


def _name(common_name: str | None) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name is not None else [])
