"""Who may come through a listener: shared by all that was ever configured behind it, so that a change of policy reaches
connections of an older configuration, too.
"""

from __future__ import annotations

from meshtls.policy.authorizer import Authorizer, Decision, Target, check_authorizer, evaluate
from meshtls.policy.request import Request
from meshtls.svid.verify import VerifiedPeer

__all__ = ["Gate"]

_PLAINTEXT_ALLOWED = Decision(True, "plaintext is allowed here")
_PLAINTEXT_DENIED = Decision(False, "plaintext proves no identity, and this listener requires mutual TLS")


class Gate:
    """One listener's policy, which may be replaced: ``Registry.recheck`` then asks it about the live connections.

    It is called as an Authorizer within a handshake, where a no is final and a yes is not: the connection's own verdict
    is ``judge``. ``plaintext``: whether a connection without TLS may come through.
    """

    def __init__(self, authorizer: Authorizer, *, plaintext: bool = False) -> None:
        check_authorizer(authorizer)
        self._authorizer = authorizer
        self.plaintext = plaintext

    def replace(self, authorizer: Authorizer) -> None:
        """Ask this one from now on. Raises TypeError for what is no authorizer."""
        check_authorizer(authorizer)
        self._authorizer = authorizer

    def __call__(self, peer: VerifiedPeer, target: Target) -> Decision:
        return self._authorizer(peer, target)

    def judge(self, request: Request) -> Decision:
        """The verdict on a connection or a stream, when it begins and whenever the policy has changed."""
        if request.peer is None:
            return _PLAINTEXT_ALLOWED if self.plaintext else _PLAINTEXT_DENIED
        return evaluate(self._authorizer, request.peer, Target(request.destination, request.port))

    def __repr__(self) -> str:
        return f"<Gate [{'mutual TLS or plaintext' if self.plaintext else 'mutual TLS'}]>"
