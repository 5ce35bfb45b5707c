"""Checks that a stored root and its intermediates match each other, their keys and the trust domain. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from meshtls.ca.keys.manager import KeyManager, Slot
from meshtls.ca.keys.token_keys import is_offline
from meshtls.ca.profile import Signer
from meshtls.errors import ConfigError
from meshtls.spiffeid import TrustDomain
from meshtls.svid.leaf_rules import signing_violations, uri_names

__all__ = ["check_hierarchy"]


def check_hierarchy(trust_domain: TrustDomain, stored: Mapping[Slot, Signer], keys: KeyManager) -> None:
    """Check the stored CAs, the root among them. Raises ConfigError with the place of the key and what is wrong."""
    for slot, signer in stored.items():
        for violation in _violations(trust_domain, signer, stored[Slot.ROOT].certificate):
            raise ConfigError(f"{keys.where(slot)}: {violation}")


def _violations(trust_domain: TrustDomain, signer: Signer, root: x509.Certificate) -> Iterator[str]:
    certificate = signer.certificate
    if certificate.public_key() != signer.private_key.public_key():
        yield "the private key does not belong to the certificate; restore the file from a backup"
    yield from signing_violations(certificate)
    names = uri_names(certificate)
    # An offline root may be that of several trust domains.
    if names != [str(trust_domain.id)] and not (is_offline(signer.private_key) and not names):
        yield (
            f"wanted a CA of trust domain {trust_domain}, got {', '.join(names) or 'one with no name'};"
            " give the data directory of this trust domain, or an empty one"
        )
    path = (certificate, *signer.above, root)
    try:
        for one, issuer in pairwise(path):
            one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        yield "the certificate was not signed by the stored root; restore both files from the same backup"
