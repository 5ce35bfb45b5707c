"""Takes the public key from a certificate signing request, whose signature proves that the requester has the key.

Names in the request are ignored: the requester's identity was established before, by means that it does not control.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshtls.ca.profile import PublicKey
from meshtls.errors import RequestError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.svid.keys import MAX_EXPONENT, MAX_RSA_BITS, MIN_RSA_BITS

__all__ = ["MAX_REQUEST_BYTES", "check_public_key", "public_key_of_csr", "verified_csr"]

#: The limit for a request in PEM or DER. A request for RSA-4096 has 1.7 KiB in PEM.
MAX_REQUEST_BYTES = 16 << 10
_CURVES = ("secp256r1", "secp384r1")
_WANTED_KEYS = (
    f"wanted EC P-256, EC P-384 or RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits with a public exponent below 2^32"
)


def public_key_of_csr(request: bytes) -> PublicKey:
    """The public key of ``verified_csr``. Raises RequestError as that does."""
    _, key = verified_csr(request)
    return key


def verified_csr(request: bytes) -> tuple[x509.CertificateSigningRequest, PublicKey]:
    """A PKCS#10 request in PEM or DER and its public key, after its signature is verified (RFC 2986).

    Raises RequestError for an invalid or too large request, an unsupported key, or a signature by another key.
    """
    if len(request) > MAX_REQUEST_BYTES:
        raise RequestError(f"CSR: wanted at most {MAX_REQUEST_BYTES} bytes, got {len(request)}")
    try:
        pem = b"-----BEGIN" in request
        csr = x509.load_pem_x509_csr(request) if pem else x509.load_der_x509_csr(request)
        # Checked before it verifies anything: with a large key of a stranger, verification is expensive.
        key = check_public_key(csr.public_key())
        signed = csr.is_signature_valid
    except RequestError:
        raise
    except (InvalidSignature, *PARSE_ERRORS) as error:
        raise RequestError(f"CSR: wanted a PKCS#10 request in PEM or DER: {error}") from error
    if not signed:
        raise RequestError("CSR: its signature is not by the key it holds; sign it with that key")
    return csr, key


def check_public_key(key: object) -> PublicKey:
    """Return this key if the CA certifies keys of its kind. Raises RequestError that names the kind."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise RequestError(f"public key: {_WANTED_KEYS}, got EC {key.curve.name}")
        return key
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            raise RequestError(f"public key: {_WANTED_KEYS}, got RSA of {key.key_size} bits")
        if (exponent := key.public_numbers().e) > MAX_EXPONENT:
            raise RequestError(f"public key: {_WANTED_KEYS}, got RSA with an exponent of {exponent.bit_length()} bits")
        return key
    raise RequestError(f"public key: {_WANTED_KEYS}, got {type(key).__name__.removesuffix('PublicKey')}")
