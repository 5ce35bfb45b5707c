"""Who may come through a listener. A gate lives as long as its listener, across reconfigurations, so that a change of
policy also reaches connections of an older configuration.

The sidecar authorizes here, and once: each connection and each stream of a tunnel, plaintext included, when it is
registered (``Connection.admit``). The ``precheck``, which TLS calls within a handshake, can only refuse.
"""

from __future__ import annotations

from meshtls.policy.authorizer import Authorizer, Decision, Target, check_authorizer, evaluate
from meshtls.policy.request import Request
from meshtls.svid.verifier import CurrentVerifier
from meshtls.svid.verify import VerifiedPeer

__all__ = ["Gate"]

_PLAINTEXT_ALLOWED = Decision(True, "plaintext is allowed here")
_PLAINTEXT_DENIED = Decision(False, "plaintext proves no identity, and this listener requires mutual TLS")


class Gate:
    """One listener's policy, which may be replaced: ``Registry.recheck`` then applies it to the live connections.

    ``plaintext``: whether a connection without TLS is allowed. ``verifier`` holds the sidecar's newest trust.
    """

    def __init__(
        self, authorizer: Authorizer, *, plaintext: bool = False, verifier: CurrentVerifier | None = None
    ) -> None:
        check_authorizer(authorizer)
        self._authorizer = authorizer
        self.plaintext = plaintext
        self.verifier = verifier or CurrentVerifier()

    def replace(self, authorizer: Authorizer) -> None:
        """Use this authorizer from now on. Raises TypeError if it is not one."""
        check_authorizer(authorizer)
        self._authorizer = authorizer

    def precheck(self, peer: VerifiedPeer, target: Target) -> Decision:
        """An Authorizer for TLS to call within the handshake, so that a denied peer gets an alert there.

        A denial is final. An allowing answer is not: the connection is not registered yet, so a change of policy could
        not reach it.
        """
        return self._authorizer(peer, target)

    def judge(self, request: Request) -> Decision:
        """The verdict on a connection or a stream, when it begins and whenever the policy has changed.

        No listener reads HTTP requests, so NEEDS_HTTP is a denial like any other that does not allow.
        """
        if request.peer is None:
            return _PLAINTEXT_ALLOWED if self.plaintext else _PLAINTEXT_DENIED
        return evaluate(self._authorizer, request.peer, Target(request.destination, request.port))

    def __repr__(self) -> str:
        return f"<Gate [{'mutual TLS or plaintext' if self.plaintext else 'mutual TLS'}]>"
