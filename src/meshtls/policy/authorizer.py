"""An authorizer is a function from a verified peer to a decision (names as in go-spiffe's tlsconfig)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meshtls.errors import InvalidSpiffeIdError, NotAuthorizedError
from meshtls.logs import logger
from meshtls.policy.decision import Decision, PolicyVerdict
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import VerifiedPeer

__all__ = [
    "Authorizer",
    "Decision",
    "Target",
    "authorize_any",
    "authorize_id",
    "authorize_member_of",
    "authorize_one_of",
    "check",
    "check_authorizer",
    "evaluate",
]

log = logger("meshtls.policy")


@dataclass(frozen=True, slots=True)
class Target:
    """What the peer asks for: this side's own ID, and the local port where there is one.

    ``dialled``: this side has called the peer, and asks whether it is the right one.
    """

    local_id: SpiffeId
    port: int | None = None
    dialled: bool = False


Authorizer = Callable[[VerifiedPeer, Target], Decision]


def evaluate(authorizer: Authorizer, peer: VerifiedPeer, target: Target) -> Decision:
    """Ask the authorizer. Deny where it fails, or returns anything but a Decision.

    It may be a user's function. A coroutine, a text that says "denied" or a pair are all true in a boolean context.
    """
    try:
        decision: object = authorizer(peer, target)
    except Exception as error:  # a user's function: whatever it raises, the peer is denied
        log.exception("authorizer failed on peer %s; denying", peer.spiffe_id)
        return Decision(False, f"peer {peer.spiffe_id} is not allowed: the authorizer failed: {type(error).__name__}")
    if isinstance(decision, Decision):
        return decision
    if inspect.iscoroutine(decision):
        decision.close()
    log.error("authorizer returned %s, expected a Decision; denying", _kind(decision))
    return Decision(
        False, f"peer {peer.spiffe_id} is not allowed: authorizer returned {_kind(decision)}, expected a Decision"
    )


def check(authorizer: Authorizer, peer: VerifiedPeer, target: Target) -> NotAuthorizedError | None:
    """What to raise where the authorizer does not allow this peer; None where it does.

    NEEDS_HTTP is no permission: the caller has no HTTP request.
    """
    decision = evaluate(authorizer, peer, target)
    return None if decision.allowed else NotAuthorizedError(decision.words, peer)


def check_authorizer(authorizer: object) -> None:
    """Raises TypeError for what can't be one."""
    if not callable(authorizer):
        raise TypeError(
            "authorizer: wanted a function that takes a VerifiedPeer and a Target and gives a Decision,"
            f" such as authorize_id(...), got {authorizer!r}"
        )


def authorize_any() -> Authorizer:
    """Allow every verified peer, of any trust domain whose bundle is known."""
    return lambda peer, target: Decision(True, "any verified peer is allowed")


def authorize_id(spiffe_id: SpiffeId | str) -> Authorizer:
    """Allow exactly this ID. Raises InvalidSpiffeIdError for a text that is none, TypeError for anything else."""
    if not isinstance(spiffe_id, SpiffeId | str):
        raise TypeError(f"authorize_id: wanted a SPIFFE ID, a str or SpiffeId, got {spiffe_id!r}{_advice(spiffe_id)}")
    return authorize_one_of(spiffe_id)


def authorize_one_of(*spiffe_ids: SpiffeId | str) -> Authorizer:
    """Allow these IDs and no other; with none, nobody. Each is an argument: ``authorize_one_of(*ids)``.

    Raises InvalidSpiffeIdError for a text that is no SPIFFE ID, TypeError for anything else.
    """
    allowed = frozenset(_ids(spiffe_ids))
    listed = ", ".join(sorted(map(str, allowed))) or "nobody"
    #: The latest that was allowed: the streams of a tunnel ask the same in a row.
    latest: tuple[VerifiedPeer, Target, Decision] | None = None

    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        nonlocal latest
        known = latest  # read once: other threads ask, too
        if known is not None and known[0] is peer and known[1] is target:
            return known[2]
        if peer.spiffe_id not in allowed:
            return Decision.of(PolicyVerdict.DENY, lambda: _refused(peer, target, listed))
        decision = Decision.of(PolicyVerdict.ALLOW, lambda: _permitted(peer, target))
        latest = peer, target, decision
        return decision

    return decide


def authorize_member_of(trust_domain: TrustDomain | str) -> Authorizer:
    """Allow every ID of this trust domain.

    Raises InvalidSpiffeIdError, also for the ID of a single workload, and TypeError for what is no str or TrustDomain.
    """
    if isinstance(trust_domain, str) and "://" in trust_domain and SpiffeId.parse(trust_domain).path:
        raise InvalidSpiffeIdError(
            f"authorize_member_of: wanted a trust domain, got the ID of one workload, {trust_domain!r}"
        )
    wanted = TrustDomain.parse(trust_domain) if isinstance(trust_domain, str) else trust_domain
    if not isinstance(wanted, TrustDomain):
        raise TypeError(
            f"authorize_member_of: wanted a trust domain, got {wanted!r}; give a TrustDomain or its name, as in"
            " authorize_member_of('example.org')"
        )

    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        allowed = peer.spiffe_id.member_of(wanted)
        word = "is" if allowed else "is not"
        verdict = PolicyVerdict.ALLOW if allowed else PolicyVerdict.DENY
        return Decision.of(verdict, lambda: f"peer {peer.spiffe_id} {word} a member of trust domain {wanted}")

    return decide


def _permitted(peer: VerifiedPeer, target: Target) -> str:
    if target.dialled:
        return f"the server is {peer.spiffe_id}, as expected"
    return f"peer {peer.spiffe_id} is allowed to reach {target.local_id}"


def _refused(peer: VerifiedPeer, target: Target, listed: str) -> str:
    if target.dialled:
        return f"the server is {peer.spiffe_id}; expected: {listed}"
    return f"peer {peer.spiffe_id} is not allowed to reach {target.local_id}; allowed: {listed}"


def _kind(decision: object) -> str:
    if inspect.iscoroutine(decision):
        return "a coroutine (it can't be async)"
    return type(decision).__name__


def _ids(spiffe_ids: Iterable[SpiffeId | str]) -> Iterable[SpiffeId]:
    for one in spiffe_ids:
        if not isinstance(one, SpiffeId | str):
            raise TypeError(f"authorize_one_of: wanted SPIFFE IDs, each a str or SpiffeId, got {one!r}{_advice(one)}")
        yield SpiffeId.parse(one) if isinstance(one, str) else one


def _advice(given: object) -> str:
    if isinstance(given, TrustDomain):
        return f"; for all of its workloads use authorize_member_of('{given}')"
    if isinstance(given, bytes):
        return "; decode it first"
    if isinstance(given, Iterable):
        return "; for several IDs write authorize_one_of(*ids)"
    return ""
