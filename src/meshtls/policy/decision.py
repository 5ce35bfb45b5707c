"""What a policy answers, and by which of its rules. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

__all__ = ["Decision", "NearMiss", "PolicyVerdict"]


class PolicyVerdict(Enum):
    """NEEDS_HTTP: the policy can only decide on an HTTP request. Where none is read, that is a denial. It is for the
    policy engine; no authorizer of ours returns it yet.
    """

    ALLOW = "allow"
    DENY = "deny"
    NEEDS_HTTP = "needs http"


class NearMiss(NamedTuple):
    """The rule that came nearest to allowing a request, and its first clause that did not match. For the policy engine;
    nothing makes one yet.
    """

    policy: str
    rule: str
    clause: str

    def __str__(self) -> str:
        return f"policy {self.policy}, rule {self.rule}: {self.clause}"


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Decision:
    """An authorizer's answer: ``Decision(True, "why")``, or ``Decision(False, "why not")``. True in a boolean context
    only where it allows.

    ``policy``, ``rule`` and ``clause`` name what decided, where a policy with rules did; ``nearest`` is the rule that
    missed by least, of a denial because no rule allows. Each is None where it does not apply. They are for the policy
    engine; no authorizer of ours sets them yet.
    """

    verdict: PolicyVerdict
    policy: str | None
    rule: str | None
    clause: str | None
    nearest: NearMiss | None
    _reason: str | Callable[[], str]

    def __init__(self, allowed: bool, reason: str) -> None:
        """``reason`` stands in the log and in replies. Raises TypeError where ``allowed`` is no bool."""
        if not isinstance(allowed, bool):
            raise TypeError(f"Decision: wanted True or False, got {type(allowed).__name__}")
        self._set(PolicyVerdict.ALLOW if allowed else PolicyVerdict.DENY, reason)

    @classmethod
    def of(
        cls,
        verdict: PolicyVerdict,
        reason: str | Callable[[], str] = "",
        *,
        policy: str | None = None,
        rule: str | None = None,
        clause: str | None = None,
        nearest: NearMiss | None = None,
    ) -> Decision:
        """The general form. ``reason`` may be a function, called each time that the text is read and not before;
        without one the text is made of the other parts. Raises TypeError for a ``verdict`` that is none.
        """
        if not isinstance(verdict, PolicyVerdict):
            raise TypeError(f"Decision: wanted a PolicyVerdict, got {type(verdict).__name__}")
        decision = cls.__new__(cls)
        decision._set(verdict, reason, policy, rule, clause, nearest)
        return decision

    def _set(
        self,
        verdict: PolicyVerdict,
        reason: str | Callable[[], str],
        policy: str | None = None,
        rule: str | None = None,
        clause: str | None = None,
        nearest: NearMiss | None = None,
    ) -> None:
        put = object.__setattr__  # the class is frozen
        put(self, "verdict", verdict)
        put(self, "_reason", reason)
        put(self, "policy", policy)
        put(self, "rule", rule)
        put(self, "clause", clause)
        put(self, "nearest", nearest)

    @property
    def allowed(self) -> bool:
        return self.verdict is PolicyVerdict.ALLOW

    @property
    def reason(self) -> str:
        """The verdict in words."""
        given = self._reason() if callable(self._reason) else self._reason
        if given and self.verdict is not PolicyVerdict.NEEDS_HTTP:
            return given
        named = [f"{kind} {name}" for kind, name in (("policy", self.policy), ("rule", self.rule)) if name]
        by = f" by {', '.join(named)}" if named else ""
        said = f": {given or self.clause}" if given or self.clause else ""
        missed = f"; nearest: {self.nearest}" if self.nearest else ""
        return f"{_WORDS[self.verdict]}{by}{said}{missed}"

    def __bool__(self) -> bool:
        return self.allowed

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decision):
            return NotImplemented
        return self._parts() == other._parts() and self.reason == other.reason

    def __hash__(self) -> int:
        return hash(self._parts())

    def _parts(self) -> tuple[object, ...]:
        return self.verdict, self.policy, self.rule, self.clause, self.nearest

    def __repr__(self) -> str:
        return f"<Decision {self.verdict.name} {self.reason!r}>"


_WORDS = {
    PolicyVerdict.ALLOW: "allowed",
    PolicyVerdict.DENY: "denied",
    PolicyVerdict.NEEDS_HTTP: "denied: the policy decides on HTTP requests, and none is read here",
}
