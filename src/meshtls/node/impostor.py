"""A stand-in for a certificate whose key the node does not hold, for a handshake that must be refused.

TLS can't present a certificate without its private key. So the attempt is made with a copy that has the same contents
with a new key, signed by a throw-away CA that nobody trusts: the server judges the same names and times.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.ca.authority import Authority
from meshtls.clock import Clock
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import X509Svid

__all__ = ["foreign_copy", "foreign_svid"]


def foreign_svid(claimed: SpiffeId, clock: Clock) -> X509Svid:
    """An SVID of this ID that is valid except for its CA, which nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = Authority.create(claimed.trust_domain, clock).issue(claimed, key.public_key())
    return X509Svid.from_chain(chain, key)


def foreign_copy(original: x509.Certificate, claimed: SpiffeId) -> X509Svid | None:
    """A copy of ``original`` for a new key, signed by another key; None if an extension can't be encoded again.

    ``claimed`` is the ID that the copy is presented as. The names in the certificate stay as they are.
    """
    key, foreign = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    try:
        template = (
            x509.CertificateBuilder()
            .subject_name(original.subject)
            .issuer_name(original.issuer)
            .serial_number(original.serial_number)
            .not_valid_before(original.not_valid_before_utc)
            .not_valid_after(original.not_valid_after_utc)
            .public_key(key.public_key())
        )
        for extension in original.extensions:
            template = template.add_extension(extension.value, extension.critical)
        copy = template.sign(foreign, hashes.SHA256())
    except PARSE_ERRORS:
        return None
    return X509Svid(claimed, (copy,), key)
