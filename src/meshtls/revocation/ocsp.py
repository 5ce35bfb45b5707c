"""OCSP for a responder (RFC 6960; the nonce by RFC 9654): read a request, build a response. Pure.

A request asks for one certificate, as the lightweight profile wants (RFC 9919); one that asks for several is malformed.
A client's signature on a request is ignored.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshtls.errors import ConfigError, MeshtlsError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.revocation.building import hash_for, key_usage
from meshtls.svid.der import BIT_STRING, SEQUENCE, parts
from meshtls.svid.leaf_rules import extension_of
from meshtls.svid.presented import spki_of
from meshtls.svid.x509 import PrivateKey, format_serial

__all__ = [
    "MAX_NONCE",
    "MAX_REQUEST_BYTES",
    "NOT_ISSUED",
    "OCSP_GOOD",
    "CertificateState",
    "OcspError",
    "OcspFault",
    "OcspQuery",
    "OcspSigner",
    "build_response",
    "delegate_certificate",
    "fault_response",
    "parse_request",
    "request_of_path",
]

#: A plain request has some 100 bytes; a client may add its signature and certificates.
MAX_REQUEST_BYTES = 8 << 10
MAX_NONCE = 128
_MAX_SERIAL_BITS = 160
_Digest = hashes.SHA1 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512


class OcspFault(Enum):
    """The unsigned responses (RFC 6960, section 2.3)."""

    MALFORMED = ocsp.OCSPResponseStatus.MALFORMED_REQUEST
    INTERNAL = ocsp.OCSPResponseStatus.INTERNAL_ERROR
    TRY_LATER = ocsp.OCSPResponseStatus.TRY_LATER
    UNAUTHORIZED = ocsp.OCSPResponseStatus.UNAUTHORIZED


class OcspError(MeshtlsError):
    """A request that can't be answered with a status; the ``fault`` says which response it gets."""

    def __init__(self, message: str, fault: OcspFault = OcspFault.MALFORMED) -> None:
        super().__init__(message)
        self.fault = fault


@dataclass(frozen=True, slots=True)
class OcspQuery:
    """The certificate that a request asks for: its serial number, and its issuer by two hashes. ``nonce`` is None where
    none was sent.
    """

    algorithm: hashes.HashAlgorithm
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial_number: int
    nonce: bytes | None


@dataclass(frozen=True, slots=True)
class CertificateState:
    """What a responder knows of one certificate. ``status`` UNKNOWN: its issuer never issued this serial number.

    ``revoked_at``, aware, and ``reason`` are of a revoked one.
    """

    status: ocsp.OCSPCertStatus
    revoked_at: datetime | None = None
    reason: x509.ReasonFlags | None = None

    @classmethod
    def revoked(cls, at: datetime, reason: x509.ReasonFlags | None = None) -> CertificateState:
        told = None if reason is x509.ReasonFlags.unspecified else reason
        return cls(ocsp.OCSPCertStatus.REVOKED, at, told)


OCSP_GOOD = CertificateState(ocsp.OCSPCertStatus.GOOD)
NOT_ISSUED = CertificateState(ocsp.OCSPCertStatus.UNKNOWN)


@dataclass(frozen=True, slots=True)
class OcspSigner:
    """Signs responses about the certificates of ``issuer``: with the issuer's own key, or with that of a certificate
    which the issuer has delegated this to (RFC 6960, section 4.2.2.2). Raises ConfigError if it has not.
    """

    issuer: x509.Certificate
    certificate: x509.Certificate
    key: PrivateKey = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.key.public_key() != self.certificate.public_key():
            raise ConfigError(
                f"OCSP responder: the private key does not belong to certificate {format_serial(self.certificate)}"
            )
        if not self.is_delegated:
            return
        called = f"OCSP responder's certificate {format_serial(self.certificate)}"
        usage = extension_of(self.certificate, x509.ExtendedKeyUsage)
        if usage is None or ExtendedKeyUsageOID.OCSP_SIGNING not in usage.value:
            raise ConfigError(f"{called}: wanted OCSPSigning in its extendedKeyUsage")
        try:
            self.certificate.verify_directly_issued_by(self.issuer)
        except (InvalidSignature, *PARSE_ERRORS) as error:
            raise ConfigError(f"{called}: it was not signed by CA {format_serial(self.issuer)}") from error

    @property
    def is_delegated(self) -> bool:
        return self.certificate != self.issuer

    def answers(self, query: OcspQuery) -> bool:
        """Whether the query is about a certificate of this issuer."""
        name = _hash(query.algorithm, self.issuer.subject.public_bytes())
        return name == query.issuer_name_hash and _key_hash(query.algorithm, self.issuer) == query.issuer_key_hash


def parse_request(der: bytes) -> OcspQuery:
    """Read a request. Raises OcspError for one that is out of bounds or malformed."""
    if len(der) > MAX_REQUEST_BYTES:
        raise OcspError(f"OCSP request: wanted at most {MAX_REQUEST_BYTES} bytes, got {len(der)}")
    try:
        request = ocsp.load_der_ocsp_request(der)
        algorithm, serial, extensions = request.hash_algorithm, request.serial_number, list(request.extensions)
    except NotImplementedError as error:
        raise OcspError("OCSP request: wanted one certificate a request, got several or none") from error
    except PARSE_ERRORS as error:
        raise OcspError(f"OCSP request: wanted one in DER: {error}") from error
    if not isinstance(algorithm, _Digest):
        raise OcspError("OCSP request: wanted hashes by SHA-1, SHA-256, SHA-384 or SHA-512, got another")
    if serial.bit_length() > _MAX_SERIAL_BITS:
        raise OcspError(f"OCSP request: wanted a serial number of at most {_MAX_SERIAL_BITS} bits, got more")
    nonce = None
    for one in extensions:
        if isinstance(one.value, x509.OCSPNonce):
            nonce = one.value.nonce
        elif one.critical:
            raise OcspError(f"OCSP request: critical extension {one.oid.dotted_string} is not understood here")
    if nonce is not None and not 0 < len(nonce) <= MAX_NONCE:
        raise OcspError(f"OCSP request: wanted a nonce of 1 to {MAX_NONCE} bytes, got {len(nonce)}")
    return OcspQuery(algorithm, request.issuer_name_hash, request.issuer_key_hash, serial, nonce)


def request_of_path(path: str) -> bytes:
    """The request's DER from what follows the responder's URL in a GET (RFC 6960, appendix A.1). Raises OcspError."""
    if len(path) > 2 * MAX_REQUEST_BYTES:
        raise OcspError(f"OCSP request: wanted at most {2 * MAX_REQUEST_BYTES} bytes in a path, got {len(path)}")
    try:
        return base64.b64decode(unquote_to_bytes(path), validate=True)
    except binascii.Error as error:
        raise OcspError(f"OCSP request: wanted base64 in the path: {error}") from error


def build_response(
    query: OcspQuery, signer: OcspSigner, state: CertificateState, now: datetime, next_update: datetime
) -> bytes:
    """The signed response in DER. The signer must be one that ``answers`` the query."""
    builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
        query.issuer_name_hash,
        query.issuer_key_hash,
        query.serial_number,
        query.algorithm,
        state.status,
        now,
        next_update,
        state.revoked_at,
        state.reason,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    if signer.is_delegated:
        builder = builder.certificates([signer.certificate])
    if query.nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(query.nonce), critical=False)
    return builder.sign(signer.key, hash_for(signer.key)).public_bytes(Encoding.DER)


def fault_response(fault: OcspFault) -> bytes:
    """An unsigned response in DER."""
    return ocsp.OCSPResponseBuilder.build_unsuccessful(fault.value).public_bytes(Encoding.DER)


def delegate_certificate(
    issuer: x509.Certificate, issuer_key: PrivateKey, responder: PrivateKey, not_before: datetime, not_after: datetime
) -> x509.Certificate:
    """A certificate with which ``responder`` may sign responses about the issuer's certificates.

    It has id-pkix-ocsp-nocheck, since nobody could ask for its status but itself (RFC 6960, section 4.2.2.2.1): so it
    should be short-lived. It has no SPIFFE ID, and can't authenticate a workload. It does not outlive the issuer.
    """
    key = responder.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "meshtls OCSP responder")]))
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(min(not_after, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), critical=False)
        .add_extension(x509.OCSPNoCheck(), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(key_usage(ca=False), critical=True)
        .sign(issuer_key, hash_for(issuer_key))
    )


def _key_hash(algorithm: hashes.HashAlgorithm, issuer: x509.Certificate) -> bytes:
    """The hash of the BIT STRING's value without the count of unused bits (RFC 6960, section 4.1.1)."""
    [(_, spki, _)] = parts(spki_of(issuer), SEQUENCE)
    _, (_, bits, _) = parts(spki, SEQUENCE, BIT_STRING)
    return _hash(algorithm, bits[1:])


def _hash(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()
