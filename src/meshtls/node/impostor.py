"""A certificate to attempt a handshake with where the node holds no key for the one that it was given.

TLS presents nothing without the key's proof. So the attempt is made with a copy that says the same under a new key,
signed by a CA that nobody trusts and that is thrown away with it: the server gets to judge the same names and times.
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
    """An SVID of this ID that is right in all but its CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = Authority.create(claimed.trust_domain, clock).issue(claimed, key.public_key())
    return X509Svid.from_chain(chain, key)


def foreign_copy(original: x509.Certificate, claimed: SpiffeId) -> X509Svid | None:
    """All that ``original`` says, for a new key and by another CA; None where it holds what can't be written again.

    ``claimed`` is who the copy is presented as; its own names stay whatever they are.
    """
    key, foreign = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    try:
        copy = _template(original).public_key(key.public_key()).sign(foreign, hashes.SHA256())
    except PARSE_ERRORS:
        return None
    return X509Svid(claimed, (copy,), key)


def _template(original: x509.Certificate) -> x509.CertificateBuilder:
    template = (
        x509.CertificateBuilder()
        .subject_name(original.subject)
        .issuer_name(original.issuer)
        .serial_number(original.serial_number)
        .not_valid_before(original.not_valid_before_utc)
        .not_valid_after(original.not_valid_after_utc)
    )
    for extension in original.extensions:
        template = template.add_extension(extension.value, extension.critical)
    return template
