"""CRLs that break any rule, made with cryptography alone, so that our code is not tested by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certs import AFTER, BEFORE, NOW, Digest, Extension, Issued

_SHA256 = hashes.SHA256()


def crl(
    issuer: Issued,
    *serials: int,
    this_update: datetime = BEFORE,
    next_update: datetime = AFTER,
    number: int | None = 1,
    extra: Sequence[Extension] = (),
    entry_extra: Sequence[Extension] = (),
    signer: Issued | None = None,
    key_ids: bool = True,
    digest: Digest = _SHA256,
) -> bytes:
    """The DER of a CRL of this issuer that lists these serial numbers; each keyword changes one thing.

    ``signer``: whose key signs it, the issuer's unless given. ``key_ids``: whether it has the signer's key identifier.
    """
    key = (signer or issuer).key
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    extensions: list[Extension] = [*extra]
    if key_ids:
        extensions.append((x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False))
    if number is not None:
        extensions.append((x509.CRLNumber(number), False))
    builder = x509.CertificateRevocationListBuilder(revoked_certificates=list(_entries(serials, entry_extra)))
    builder = builder.issuer_name(issuer.certificate.subject).last_update(this_update).next_update(next_update)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, digest).public_bytes(Encoding.DER)


def _entries(serials: Iterable[int], extra: Sequence[Extension]) -> Iterable[x509.RevokedCertificate]:
    for serial in serials:
        builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW)
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical)
        yield builder.build()
