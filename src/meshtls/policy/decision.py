"""What a policy answers, and by which of its rules. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from meshtls.lazy_text import LazyText
from meshtls.scalars import shown

__all__ = ["DENIED_TEXT", "Decision", "NearMiss", "PolicyVerdict", "provider_missing"]

#: What the client of a denied HTTP request reads, from a sidecar and from a service: the reason is for the log.
DENIED_TEXT = "access denied by policy\n"


def provider_missing(name: str, configured: Iterable[str]) -> str:
    """Why a CUSTOM policy denies whose provider is not one of those that are configured."""
    known = ", ".join(map(repr, sorted(configured))) or "none"
    return f"no ext_authz provider {shown(name)} is configured; configured: {known}"


class PolicyVerdict(Enum):
    """NEEDS_HTTP: the policies can only decide on an HTTP request. Where none is read, that is a denial."""

    ALLOW = "allow"
    DENY = "deny"
    NEEDS_HTTP = "needs http"


class NearMiss(NamedTuple):
    """The rule that came nearest to allowing a request, and its first clause that did not match."""

    policy: str
    rule: str
    clause: str

    def __str__(self) -> str:
        return f"policy {self.policy}, rule {self.rule}: {self.clause}"


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Decision:
    """An authorizer's answer: ``Decision(True, "why")``, or ``Decision(False, "why not")``. True in a boolean context
    only where it allows.

    ``policy`` and ``rule`` name what decided, where a policy with rules did. ``clause`` is what matched of a DENY rule,
    or the first clause that failed of the rule that missed by least, which is ``nearest``. Each is None where it does
    not apply.
    """

    verdict: PolicyVerdict
    allowed: bool
    policy: str | None
    rule: str | None
    _clause: str | Callable[[], str | None] | None
    _nearest: NearMiss | Callable[[], NearMiss | None] | None
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
        clause: str | Callable[[], str | None] | None = None,
        nearest: NearMiss | Callable[[], NearMiss | None] | None = None,
    ) -> Decision:
        """The general form. ``reason``, ``clause`` and ``nearest`` may be functions, called each time that the value is
        read and not before: to find the nearest rule takes longer than to decide. Without a reason the text is made of
        the other parts. Raises TypeError for a ``verdict`` that is none.
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
        clause: str | Callable[[], str | None] | None = None,
        nearest: NearMiss | Callable[[], NearMiss | None] | None = None,
    ) -> None:
        put = object.__setattr__  # the class is frozen
        put(self, "verdict", verdict)
        put(self, "allowed", verdict is PolicyVerdict.ALLOW)
        put(self, "_reason", reason)
        put(self, "policy", policy)
        put(self, "rule", rule)
        put(self, "_clause", clause)
        put(self, "_nearest", nearest)

    @property
    def clause(self) -> str | None:
        return self._clause() if callable(self._clause) else self._clause

    @property
    def nearest(self) -> NearMiss | None:
        return self._nearest() if callable(self._nearest) else self._nearest

    @property
    def reason(self) -> str:
        """The verdict in words."""
        given = self._reason() if callable(self._reason) else self._reason
        if given and self.verdict is not PolicyVerdict.NEEDS_HTTP:
            return given
        named = [f"{kind} {name}" for kind, name in (("policy", self.policy), ("rule", self.rule)) if name]
        by = f" by {', '.join(named)}" if named else ""
        said = f": {words}" if (words := given or self.clause) else ""
        missed = f"; nearest: {nearest}" if (nearest := self.nearest) else ""
        return f"{_WORDS[self.verdict]}{by}{said}{missed}"

    @property
    def words(self) -> LazyText:
        """The reason as a text that is made when it is read. ``short`` names the rule."""
        by = f" by {self.policy}-rule[{self.rule}]" if self.policy and self.rule else ""
        return LazyText(lambda: self.reason, f"{_WORDS[self.verdict]}{by}")

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
