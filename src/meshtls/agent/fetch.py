"""One SVID from an issuer: a new key, a CSR, and a look at the answer with a peer's eyes."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.agent.issuer import Issuer
from meshtls.bundle import BundleSet
from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError, MeshtlsError, PeerError
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import PrivateKey, X509Svid

__all__ = ["fetch_svid"]


async def fetch_svid(issuer: Issuer, clock: Clock) -> tuple[X509Svid, BundleSet]:
    """Make a P-256 key, have it certified and give the SVID with the bundles that came with it.

    Raises LocalIdentityError, whatever went wrong: the issuer, the answer's certificate, or the clocks.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    try:
        issued = await issuer.issue(_csr(key))
        svid = X509Svid.from_chain(issued.chain, key)
    except LocalIdentityError:
        raise
    except (MeshtlsError, OSError) as error:
        raise LocalIdentityError(f"the CA refused us a certificate: {error}") from error
    try:
        verify_peer([one.public_bytes(Encoding.DER) for one in svid.chain], issued.bundles, clock.now())
    except PeerError as error:
        raise LocalIdentityError(f"the CA gave us a certificate that every peer would refuse: {error}") from error
    return svid, issued.bundles


def _csr(key: PrivateKey) -> bytes:
    # It asks for no name: who this is, the issuer knows from elsewhere.
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)
