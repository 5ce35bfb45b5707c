"""The x509pop proof, for both sides: a node proves possession of its certificate's private key. Pure.

The node signs the purpose, the trust domain, a nonce from each side and the hash of the CSR. So a proof is valid for
one attestation of one new key in one trust domain, and a signature made for another purpose is not a proof.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from meshtls.errors import AccessError
from meshtls.spiffeid import TrustDomain
from meshtls.svid.leaf_rules import extension_of, readable_violations
from meshtls.svid.path import NoPathError, find_path, trusted
from meshtls.svid.presented import read_presented
from meshtls.svid.x509 import PrivateKey, format_moment
from meshtls.x509_names import name_text

__all__ = ["NONCE_BYTES", "Challenge", "check_node_chain", "check_proof", "new_nonce", "prove"]

NONCE_BYTES = 32
_PURPOSE = b"meshtls node attestation x509pop 1\0"
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)


class Challenge:
    """The challenge of one attestation. ``signed`` are the bytes that the node signs."""

    def __init__(self, trust_domain: TrustDomain, csr: bytes, server_nonce: bytes, node_nonce: bytes) -> None:
        if len(server_nonce) != NONCE_BYTES or len(node_nonce) != NONCE_BYTES:
            raise AccessError(f"x509pop: wanted nonces of {NONCE_BYTES} bytes")
        name = hashlib.sha256(str(trust_domain).encode()).digest()
        self.signed = _PURPOSE + name + server_nonce + node_nonce + hashlib.sha256(csr).digest()


def new_nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def prove(key: PrivateKey, challenge: Challenge) -> bytes:
    """The node's signature."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(challenge.signed, _PSS, hashes.SHA256())
    return key.sign(challenge.signed, ec.ECDSA(hashes.SHA256()))


def check_proof(certificate: x509.Certificate, challenge: Challenge, signature: bytes) -> None:
    """Raises AccessError unless the signature was made by this certificate's key."""
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
    chain: Sequence[bytes], roots: tuple[x509.Certificate, ...], now: datetime
) -> tuple[x509.Certificate, ...]:
    """The path from the leaf of this DER chain (first) to one of the node CAs (last).

    The path has no other certificates that the node presented. The caller is anonymous, so ``svid.presented`` bounds
    the input and ``svid.path`` the search. Raises InvalidSvidError for a chain that is out of bounds or can't be
    decoded, AccessError for one that is not trusted.
    """
    leaf, *others = read_presented(chain)
    if broken := readable_violations(leaf.certificate):
        raise AccessError(f"x509pop: the node's certificate can't be used: {'; '.join(broken)}")
    constraints = extension_of(leaf.certificate, x509.BasicConstraints)
    if constraints and constraints.value.ca:
        raise AccessError("x509pop: wanted a node's certificate, got a CA's")
    usage = extension_of(leaf.certificate, x509.KeyUsage)
    if usage and not usage.value.digital_signature:
        raise AccessError("x509pop: the node's certificate may not sign: its keyUsage has no digitalSignature")
    try:
        path = find_path(leaf, others, trusted(roots), now)
    except NoPathError as error:
        raise AccessError(
            f"x509pop: no path from the node's certificate {name_text(leaf.certificate.subject)}"
            f" to a CA of the configured bundle: {error}"
        ) from error
    if not leaf.valid_at(now):
        raise AccessError(
            f"x509pop: the node's certificate is valid from {format_moment(leaf.not_before)}"
            f" to {format_moment(leaf.not_after)}; our clock says {format_moment(now)}"
        )
    return tuple(one.certificate for one in path)
