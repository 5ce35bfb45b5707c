"""Who may come through a listener: shared by all that was ever configured behind it, so that a change of policy reaches
connections of an older configuration, too.
"""

from __future__ import annotations

from meshtls.policy.authorizer import Authorizer, Decision, Target, check_authorizer
from meshtls.svid.verify import VerifiedPeer

__all__ = ["Gate"]


class Gate:
    """An Authorizer that asks another one, which may be replaced."""

    def __init__(self, decide: Authorizer) -> None:
        check_authorizer(decide)
        self._decide = decide

    def replace(self, decide: Authorizer) -> None:
        """From now on ask this one; ``Registry.recheck`` asks it about what is there. TypeError for no authorizer."""
        check_authorizer(decide)
        self._decide = decide

    def __call__(self, peer: VerifiedPeer, target: Target) -> Decision:
        return self._decide(peer, target)
