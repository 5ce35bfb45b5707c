"""An authorizer that records the peers it judges."""

from __future__ import annotations

from meshtls.policy.authorizer import Authorizer, Decision, Target
from meshtls.svid.verify import VerifiedPeer

__all__ = ["noting"]


def noting(authorizer: Authorizer, serials: list[str]) -> Authorizer:
    """``authorizer``, wrapped to append each judged peer's serial number to ``serials``."""

    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        serials.append(peer.serial)
        return authorizer(peer, target)

    return decide
