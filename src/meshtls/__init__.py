"""meshtls: a SPIFFE service mesh in one pip install.

The library's calls, with names that people of this field know from go-spiffe: a source of X509-SVIDs, an authorizer
that says which peers are welcome, and ``listen``/``dial`` or an ``ssl.SSLContext`` that combine them.
"""

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import ConfigError, LocalIdentityError, MeshtlsError, PeerError, RequestError
from meshtls.policy.authorizer import (
    Authorizer,
    Decision,
    Target,
    authorize_any,
    authorize_id,
    authorize_member_of,
    authorize_one_of,
)
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context, X509ContextSource
from meshtls.svid.jwt import JwtSvid
from meshtls.svid.verify import VerifiedPeer, verify_peer
from meshtls.svid.x509 import X509Svid
from meshtls.tls.context import TlsOptions
from meshtls.tls.rotating import client_context, server_context
from meshtls.tls.streams import Listener, dial, listen, peer_id
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.jwt_source import JwtSource
from meshtls.workload.x509_source import X509Source

__all__ = [
    "Authorizer",
    "BundleSet",
    "ConfigError",
    "Decision",
    "JwtSource",
    "JwtSvid",
    "Listener",
    "LocalIdentityError",
    "MeshtlsError",
    "PeerError",
    "RequestError",
    "SpiffeId",
    "Target",
    "TlsOptions",
    "TrustBundle",
    "TrustDomain",
    "VerifiedPeer",
    "WorkloadApiClient",
    "X509Context",
    "X509ContextSource",
    "X509Source",
    "X509Svid",
    "authorize_any",
    "authorize_id",
    "authorize_member_of",
    "authorize_one_of",
    "client_context",
    "dial",
    "listen",
    "peer_id",
    "server_context",
    "verify_peer",
]
