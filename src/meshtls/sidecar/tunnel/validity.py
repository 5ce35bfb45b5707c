"""How long what a tunnel's handshake showed may stand. Pure."""

from __future__ import annotations

from datetime import datetime

from meshtls.svid.context import X509Context
from meshtls.svid.verify import VerifiedPeer

__all__ = ["first_end"]


def first_end(peer: VerifiedPeer, trusted: X509Context, now: datetime) -> datetime:
    """When the first certificate ends that may be in the peer's path: its verdict is good until then.

    An intermediate may end before its leaf. What ended before ``now``, when the peer was verified, is not in the path.
    """
    authorities = trusted.bundles[peer.spiffe_id.trust_domain].x509_authorities
    ends = (certificate.not_valid_after_utc for certificate in (*peer.chain, *authorities))
    return min((end for end in ends if end >= now), default=now)
