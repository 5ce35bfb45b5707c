"""meshtls: a SPIFFE service mesh in one pip install.

The library's API, with names as in go-spiffe: a source of X509-SVIDs, an authorizer that decides which peers are
allowed, and ``listen``/``dial`` or an ``ssl.SSLContext`` that use both.

A name is imported when it is first used: ``import meshtls`` alone imports neither gRPC nor cryptography.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshtls import policy
    from meshtls.bundle import BundleSet, TrustBundle
    from meshtls.errors import (
        AccessError,
        AlertError,
        BundleError,
        ClosedEarlyError,
        ConfigError,
        ConflictError,
        HandshakeError,
        HandshakeTimeoutError,
        IdentityWithdrawnError,
        InvalidSpiffeIdError,
        InvalidSvidError,
        LocalIdentityError,
        LogProofError,
        MeshtlsError,
        NoBundleError,
        NoCertificateError,
        NotAuthorizedError,
        NotFoundError,
        OverloadError,
        PeerError,
        PlaintextError,
        RequestError,
        RevocationUnknownError,
        RevokedError,
        StoreError,
        TokenError,
        UntrustedPeerError,
        ValidityError,
    )
    from meshtls.integrations.blocking import blocking
    from meshtls.integrations.metrics import metrics
    from meshtls.integrations.peers import verified_peer
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
    from meshtls.svid.context import ConstantSource, X509Context, X509ContextSource
    from meshtls.svid.jwt import JwtSvid
    from meshtls.svid.verify import VerifiedPeer, verify_peer
    from meshtls.svid.x509 import X509Svid
    from meshtls.tls.context import TlsOptions
    from meshtls.tls.rotating import RotatingContext, client_context, server_context
    from meshtls.tls.streams import Listener, dial, listen, peer_id
    from meshtls.workload.client import WorkloadApiClient
    from meshtls.workload.jwt_source import JwtSource
    from meshtls.workload.x509_source import X509Source

    __version__: str

# The same names as under TYPE_CHECKING, for __getattr__; a test compares both with __all__.
_MODULES = {
    "bundle": ("BundleSet", "TrustBundle"),
    "errors": (
        "AccessError",
        "AlertError",
        "BundleError",
        "ClosedEarlyError",
        "ConfigError",
        "ConflictError",
        "HandshakeError",
        "HandshakeTimeoutError",
        "IdentityWithdrawnError",
        "InvalidSpiffeIdError",
        "InvalidSvidError",
        "LocalIdentityError",
        "LogProofError",
        "MeshtlsError",
        "NoBundleError",
        "NoCertificateError",
        "NotAuthorizedError",
        "NotFoundError",
        "OverloadError",
        "PeerError",
        "PlaintextError",
        "RequestError",
        "RevocationUnknownError",
        "RevokedError",
        "StoreError",
        "TokenError",
        "UntrustedPeerError",
        "ValidityError",
    ),
    "integrations.blocking": ("blocking",),
    "integrations.metrics": ("metrics",),
    "integrations.peers": ("verified_peer",),
    "policy.authorizer": (
        "Authorizer",
        "Decision",
        "Target",
        "authorize_any",
        "authorize_id",
        "authorize_member_of",
        "authorize_one_of",
    ),
    "spiffeid": ("SpiffeId", "TrustDomain"),
    "svid.context": ("ConstantSource", "X509Context", "X509ContextSource"),
    "svid.jwt": ("JwtSvid",),
    "svid.verify": ("VerifiedPeer", "verify_peer"),
    "svid.x509": ("X509Svid",),
    "tls.context": ("TlsOptions",),
    "tls.rotating": ("RotatingContext", "client_context", "server_context"),
    "tls.streams": ("Listener", "dial", "listen", "peer_id"),
    "workload.client": ("WorkloadApiClient",),
    "workload.jwt_source": ("JwtSource",),
    "workload.x509_source": ("X509Source",),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    "AccessError",
    "AlertError",
    "Authorizer",
    "BundleError",
    "BundleSet",
    "ClosedEarlyError",
    "ConfigError",
    "ConflictError",
    "ConstantSource",
    "Decision",
    "HandshakeError",
    "HandshakeTimeoutError",
    "IdentityWithdrawnError",
    "InvalidSpiffeIdError",
    "InvalidSvidError",
    "JwtSource",
    "JwtSvid",
    "Listener",
    "LocalIdentityError",
    "LogProofError",
    "MeshtlsError",
    "NoBundleError",
    "NoCertificateError",
    "NotAuthorizedError",
    "NotFoundError",
    "OverloadError",
    "PeerError",
    "PlaintextError",
    "RequestError",
    "RevocationUnknownError",
    "RevokedError",
    "RotatingContext",
    "SpiffeId",
    "StoreError",
    "Target",
    "TlsOptions",
    "TokenError",
    "TrustBundle",
    "TrustDomain",
    "UntrustedPeerError",
    "ValidityError",
    "VerifiedPeer",
    "WorkloadApiClient",
    "X509Context",
    "X509ContextSource",
    "X509Source",
    "X509Svid",
    "__version__",
    "authorize_any",
    "authorize_id",
    "authorize_member_of",
    "authorize_one_of",
    "blocking",
    "client_context",
    "dial",
    "listen",
    "metrics",
    "peer_id",
    "policy",
    "server_context",
    "verified_peer",
    "verify_peer",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version(__name__)
    elif name == "policy":
        value = import_module("meshtls.policy")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
