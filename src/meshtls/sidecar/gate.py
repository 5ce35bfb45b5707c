"""Who may come through a listener. A gate lives as long as its listener, across reconfigurations, so that a change of
policy also reaches connections of an older configuration.

The sidecar authorizes here, and once: each connection and each stream of a tunnel, plaintext included, when it is
registered (``Connection.admit``), and each HTTP request where HTTP is read. The ``precheck``, which TLS calls within a
handshake, can only refuse.

An inbound listener has policies (``rules``) or an authorizer; without policies, an authorizer is all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from meshtls.ext_authz.asking import deny_if_unasked
from meshtls.logs import logger
from meshtls.policy.authorizer import Authorizer, Decision, Target, authorize_one_of, check_authorizer, evaluate
from meshtls.policy.decision import PolicyVerdict
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.request import Request
from meshtls.sidecar.view import Policy
from meshtls.svid.verifier import CurrentVerifier
from meshtls.svid.verify import VerifiedPeer

__all__ = ["Gate", "evaluate_or_deny", "gate_of"]

T = TypeVar("T")
log = logger("meshtls.policy")

_PLAINTEXT_ALLOWED = Decision(True, "plaintext is allowed here")
_PLAINTEXT_DENIED = Decision(False, "plaintext proves no identity, and this listener requires mutual TLS")
_JUDGED_LATER = Decision(True, "each request is judged by itself")


class Gate:
    """One listener's policy, which may be replaced: ``Registry.recheck`` then applies it to the live connections.

    ``plaintext``: whether a connection without TLS is allowed. ``rules``: the policies that decide instead of the
    authorizer. ``verifier`` holds the sidecar's newest trust. ``dialled``: this side has called the peer.
    """

    def __init__(
        self,
        authorizer: Authorizer,
        *,
        plaintext: bool = False,
        rules: WorkloadPolicies | None = None,
        verifier: CurrentVerifier | None = None,
        dialled: bool = False,
    ) -> None:
        check_authorizer(authorizer)
        self._authorizer = authorizer
        self._dialled = dialled
        self.plaintext = plaintext
        self.rules = rules
        self.verifier = verifier or CurrentVerifier()
        #: What the latest peer asked for, which is mostly what the next one asks for. The precheck and the verdict have
        #: the same one, so that an authorizer that knows its latest answer decides once.
        self._target: Target | None = None

    def replace(self, authorizer: Authorizer, rules: WorkloadPolicies | None = None) -> None:
        """Use these from now on. Raises TypeError for what is no authorizer."""
        check_authorizer(authorizer)
        self._authorizer = authorizer
        self.rules = rules

    def precheck(self, peer: VerifiedPeer, target: Target) -> Decision:
        """An Authorizer for TLS to call within the handshake, so that a denied peer gets an alert there.

        A denial is final. An allowing answer is not: the connection is not registered yet, so a change of policy could
        not reach it. Rules need more than the peer, and refuse it once the handshake is over.
        """
        if self.rules is not None:
            return _JUDGED_LATER
        self._target = target
        return self._authorizer(peer, target)

    def judge(
        self, request: Request, *, reads_http: bool = False, allowed_by: frozenset[tuple[str, str]] | None = frozenset()
    ) -> Decision:
        """The verdict on a connection or a stream, when it begins and whenever the policy has changed.

        ``reads_http``: rules judge its HTTP requests one by one, and the connection only by its mode. Elsewhere
        NEEDS_HTTP denies. ``allowed_by``: the CUSTOM policies whose providers allowed it; None for a tunnel, whose
        streams the providers are asked about one by one.
        """
        if request.peer is None and not self.plaintext:
            return _PLAINTEXT_DENIED
        rules = self.rules
        if rules is not None:
            if reads_http:
                return _JUDGED_LATER
            if rules.asks and allowed_by is not None:
                found = evaluate_or_deny(lambda: rules.custom(request, reads_http=False))
                if isinstance(found, Decision):
                    return found
                denied = deny_if_unasked(found, allowed_by, "connection")
                if denied is not None:  # not ``or``: a denial is falsy
                    return denied
            return evaluate_or_deny(lambda: rules.evaluate(request, reads_http=False))
        if request.peer is None:
            return _PLAINTEXT_ALLOWED
        target = self._target
        if target is None or target.local_id is not request.destination or target.port != request.port:
            target = self._target = Target(request.destination, request.port, self._dialled)
        return evaluate(self._authorizer, request.peer, target)

    def shadow(self, request: Request) -> tuple[Decision, ...]:
        """What dry-run policies would say of a connection, or a stream, whose bytes are not read."""
        rules = self.rules
        if rules is None or not rules.dry_runs or (request.peer is None and not self.plaintext):
            return ()
        found = evaluate_or_deny(lambda: rules.shadow(request, reads_http=False))
        return () if isinstance(found, Decision) else found

    def __repr__(self) -> str:
        return f"<Gate [{'mutual TLS or plaintext' if self.plaintext else 'mutual TLS'}]>"


def gate_of(policy: Policy, verifier: CurrentVerifier | None = None) -> Gate:
    """The gate of an inbound listener with this policy."""
    return Gate(authorize_one_of(*policy.allow), plaintext=policy.plaintext, rules=policy.compiled, verifier=verifier)


def evaluate_or_deny(evaluation: Callable[[], T]) -> T | Decision:
    """Evaluate policies, and deny if that fails. The sidecar catches such failures here alone."""
    try:
        return evaluation()
    except Exception as error:  # unforeseen, whatever it is: nobody is let in by it
        log.exception("the policies failed; denying")
        return Decision.of(
            PolicyVerdict.DENY, f"denied: the policies could not be evaluated: {type(error).__name__}; see the log"
        )
