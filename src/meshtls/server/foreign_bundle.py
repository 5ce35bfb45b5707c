"""What the bundle of another trust domain has to be, wherever it comes from. Pure."""

from __future__ import annotations

from cryptography import x509

from meshtls.bundle import TrustBundle
from meshtls.errors import InvalidSpiffeIdError, RequestError
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.leaf_rules import uri_names

__all__ = ["check_foreign_bundle", "has_authority_of"]


def check_foreign_bundle(bundle: TrustBundle, own: TrustDomain) -> None:
    """Raises RequestError for a bundle without a usable key, or with an authority of ``own``, our trust domain."""
    if not bundle.x509_authorities and not bundle.jwt_authorities:
        raise RequestError(
            f"bundle of trust domain {bundle.trust_domain}: wanted at least one usable key, got none"
            + "".join(f"; {line}" for line in bundle.unusable)
        )
    if has_authority_of(bundle, own):
        raise RequestError(
            f"bundle of trust domain {bundle.trust_domain}: wanted its own authorities, got one of {own}, this server's"
            " trust domain; ask the other trust domain for its bundle"
        )


def has_authority_of(bundle: TrustBundle, own: TrustDomain) -> bool:
    """Whether an X.509 authority of the bundle has a SPIFFE ID of this trust domain.

    An authority need not have an ID, and two trust domains may share one without. One that names ours is ours, or is to
    be taken for ours.
    """
    return any(_names(authority, own) for authority in bundle.x509_authorities)


def _names(authority: x509.Certificate, own: TrustDomain) -> bool:
    for name in uri_names(authority):
        try:
            if SpiffeId.parse(name).trust_domain == own:
                return True
        except InvalidSpiffeIdError:
            continue
    return False
