"""The proof of x509pop: that a node holds the key of the certificate that it shows. For both ends; pure.

What is signed names the purpose and the trust domain, holds a nonce of each side and the hash of the CSR: a proof
is good for one attestation, of one new key, to one trust domain, and a signature made elsewhere is none.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from meshtls.errors import AccessError
from meshtls.spiffeid import TrustDomain
from meshtls.svid.leaf_rules import signing_violations
from meshtls.svid.x509 import PrivateKey

__all__ = ["NONCE_BYTES", "Challenge", "check_node_chain", "check_proof", "new_nonce", "prove"]

NONCE_BYTES = 32
_PURPOSE = b"meshtls node attestation x509pop 1\0"
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)


class Challenge:
    """What one attestation is about; ``signed`` is what the node signs."""

    def __init__(self, trust_domain: TrustDomain, csr: bytes, server_nonce: bytes, node_nonce: bytes) -> None:
        if len(server_nonce) != NONCE_BYTES or len(node_nonce) != NONCE_BYTES:
            raise AccessError(f"x509pop: wanted nonces of {NONCE_BYTES} bytes")
        name = hashlib.sha256(str(trust_domain).encode()).digest()
        self.signed = _PURPOSE + name + server_nonce + node_nonce + hashlib.sha256(csr).digest()


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def prove(key: PrivateKey, challenge: Challenge) -> bytes:
    """The node's answer."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(challenge.signed, _PSS, hashes.SHA256())
    return key.sign(challenge.signed, ec.ECDSA(hashes.SHA256()))


def check_proof(certificate: x509.Certificate, challenge: Challenge, signature: bytes) -> None:
    """Raises AccessError where the answer was not made with this certificate's key."""
    key = certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, challenge.signed, _PSS, hashes.SHA256())
            return
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, challenge.signed, ec.ECDSA(hashes.SHA256()))
            return
    except InvalidSignature as error:
        raise AccessError("x509pop: the answer was not signed with the key of the node's certificate") from error
    raise AccessError("x509pop: wanted a node certificate with an EC or RSA key")


def check_node_chain(
    chain: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...], now: datetime
) -> tuple[x509.Certificate, ...]:
    """The path from this chain's leaf, which is first, to one of the CAs that vouch for nodes. Raises AccessError.

    What else the node presented is not in it.
    """
    leaf, *between = chain
    _check_may_sign(leaf)
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(now)
        .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        return tuple(verifier.verify(leaf, between).chain)
    except VerificationError as error:
        raise AccessError(
            f"x509pop: no path from the node's certificate {leaf.subject.rfc4514_string()!r}"
            f" to a CA of the configured bundle: {str(error).split(' (encountered')[0]}"
        ) from error


def _check_may_sign(leaf: x509.Certificate) -> None:
    if not signing_violations(leaf):
        raise AccessError("x509pop: wanted a node's certificate, got a CA's")
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise AccessError(f"x509pop: the node certificate's extensions can't be read: {error}") from error
    if not usage.digital_signature:
        raise AccessError("x509pop: the node's certificate may not sign: its keyUsage has no digitalSignature")
