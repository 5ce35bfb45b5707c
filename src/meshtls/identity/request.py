"""One SVID from an issuer: a new key, a CSR, and verification of the answer as a peer would do it."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet
from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError, MeshtlsError, PeerError
from meshtls.identity.issuer import Issuer
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import PrivateKey, X509Svid

__all__ = ["checked_svid", "fetch_svid", "new_key", "request_for"]


async def fetch_svid(issuer: Issuer, clock: Clock) -> tuple[X509Svid, BundleSet]:
    """Make a P-256 key, have it certified and return the SVID with the bundles that came with it.

    Raises LocalIdentityError for every failure: of the issuer, of the issued certificate, or of the clocks.
    """
    key = new_key()
    try:
        issued = await issuer.issue(request_for(key))
    except LocalIdentityError:
        raise
    except (MeshtlsError, OSError) as error:
        raise LocalIdentityError(f"certificate request failed: {error}") from error
    return checked_svid(issued.chain, key, issued.bundles, clock), issued.bundles


def new_key() -> PrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def request_for(key: PrivateKey) -> bytes:
    """A PKCS#10 request for this key, DER."""
    # The subject stays empty: the identity is bound to the issuer, not requested.
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def checked_svid(
    chain: Sequence[x509.Certificate], key: PrivateKey, bundles: BundleSet, clock: Clock, hint: str = ""
) -> X509Svid:
    """The SVID of a chain that a CA issued for this key. Raises LocalIdentityError if it fails verification."""
    svid = X509Svid.from_chain(chain, key, hint)
    try:
        verify_peer([one.public_bytes(Encoding.DER) for one in svid.chain], bundles, clock.now())
    except PeerError as error:
        raise LocalIdentityError(f"issued SVID fails verification: {error}") from error
    return svid
