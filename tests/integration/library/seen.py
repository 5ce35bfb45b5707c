"""An authorizer that remembers whom it was asked about."""

from __future__ import annotations

from meshtls.policy.authorizer import Authorizer, Decision, Target
from meshtls.svid.verify import VerifiedPeer

__all__ = ["noting"]


def noting(authorizer: Authorizer, serials: list[str]) -> Authorizer:
    """``authorizer``, which adds the serial number of each peer that it judges to ``serials``."""

    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        serials.append(peer.serial)
        return authorizer(peer, target)

    return decide
