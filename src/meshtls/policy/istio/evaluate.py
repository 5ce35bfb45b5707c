"""Decides on requests by a workload's compiled policies: CUSTOM is asked by the caller, then DENY, then ALLOW. Pure.

Nothing here raises for any request. AUDIT never changes a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from meshtls.policy.decision import Decision, PolicyVerdict
from meshtls.policy.istio.explain import Judged, denied_by_rule, missed, unanswerable
from meshtls.policy.istio.facts import ConnectionFacts, HttpFacts
from meshtls.policy.istio.index import Index, NarrowIndex
from meshtls.policy.istio.model import Action, JwtRule, MtlsMode, Normalization
from meshtls.policy.istio.modes import Modes
from meshtls.policy.istio.paths import normalize
from meshtls.policy.istio.rules import CompiledRule
from meshtls.policy.request import HttpRequest, Request, RequestAuth

__all__ = ["CustomMatch", "NarrowPolicies", "Ruleset", "WorkloadPolicies"]

_NO_REQUEST = HttpFacts(HttpRequest("", "", ""), None)
_OPEN = Decision.of(PolicyVerdict.ALLOW, "allowed: no DENY rule matches, and no ALLOW policy applies to this workload")
_NEEDS_HTTP = Decision.of(PolicyVerdict.NEEDS_HTTP)


class CustomMatch(NamedTuple):
    """A CUSTOM rule that matches: its provider has to be asked, unless there is a ``refusal``."""

    provider: str
    policy: str
    rule: str
    #: A denial, since the rule has fields of HTTP and the port is read without it: no provider can be asked.
    refusal: Decision | None = None

    @property
    def question(self) -> tuple[str, str]:
        """Which question the provider's answer answers: the same policy may name another provider later."""
        return self.policy, self.provider

    def deny(self, why: str) -> Decision:
        """The ``refusal``, or else a denial by this rule for this reason."""
        if self.refusal is not None:  # not ``or``: a Decision that denies is falsy
            return self.refusal
        return Decision.of(PolicyVerdict.DENY, why, policy=self.policy, rule=self.rule)

    def deny_as_provider(self, reason: str) -> Decision:
        """The provider's denial, in its words."""
        return self.deny(f"denied by {self.policy}: {reason}")


class Ruleset:
    """DENY and ALLOW rules, in an index for each thing that may be known: the request, none, or none yet."""

    __slots__ = (
        "_allow",
        "_allow_certain",
        "_allow_possible",
        "_allow_tcp",
        "_deny",
        "_deny_certain",
        "_deny_possible",
        "_empty",
        "_has_allow",
    )

    def __init__(self, rules: Iterable[CompiledRule], *, has_allow: bool, empty: tuple[str, ...] = ()) -> None:
        """``has_allow``: whether there is an ALLOW policy. ``empty`` are those without rules, by name."""
        rules = tuple(rules)
        deny = tuple(one for one in rules if one.action is Action.DENY)
        allow = tuple(one for one in rules if one.action is Action.ALLOW)
        self._has_allow, self._empty = has_allow, empty
        self._deny, self._allow = Index(deny), Index(allow)
        self._deny_certain = _variant(self._deny, _certain(deny))
        self._allow_certain = _variant(self._allow, _certain(allow))
        # A TCP connection's DENY drops the fields of HTTP; its ALLOW has none.
        self._deny_possible = _variant(self._deny, (one.without_http() for one in deny))
        self._allow_possible = _variant(self._allow, (one.without_http() for one in allow))
        self._allow_tcp = _variant(self._allow, (one for one in allow if not one.uses_http))

    @property
    def rules(self) -> tuple[CompiledRule, ...]:
        return (*self._deny.rules, *self._allow.rules)

    def decide(self, connection: ConnectionFacts, http: HttpFacts) -> Decision:
        """On one HTTP request."""
        rule = self._deny.first(connection, http)
        if rule is not None:
            return denied_by_rule(rule, Judged(connection, http, True))
        if not self._has_allow:
            return _OPEN
        rule = self._allow.first(connection, http)
        return self.deny_missed(Judged(connection, http, True)) if rule is None else rule.allowed

    def decide_tcp(self, connection: ConnectionFacts) -> Decision:
        """On a connection whose bytes are not read as HTTP."""
        judged = Judged(connection, None, False)
        rule = self._deny_possible.first(connection, _NO_REQUEST)
        if rule is not None:
            return denied_by_rule(rule, judged)
        if not self._has_allow:
            return _OPEN
        rule = self._allow_tcp.first(connection, _NO_REQUEST)
        return self.deny_missed(judged) if rule is None else rule.allowed

    def decide_before_http(self, connection: ConnectionFacts) -> Decision:
        """On a connection whose first request is not read yet: what every request on it would get, or NEEDS_HTTP."""
        judged = Judged(connection, None, True)
        rule = self._deny_certain.first(connection, _NO_REQUEST)
        if rule is not None:
            return denied_by_rule(rule, judged)
        if self._has_allow and self._allow_possible.first(connection, _NO_REQUEST) is None:
            return self.deny_missed(judged)
        if self._deny_possible.first(connection, _NO_REQUEST) is not None:
            return _NEEDS_HTTP
        if not self._has_allow:
            return _OPEN
        rule = self._allow_certain.first(connection, _NO_REQUEST)
        return _NEEDS_HTTP if rule is None else rule.allowed

    def deny_missed(self, judged: Judged) -> Decision:
        return missed(judged, self._allow.near(judged.connection, judged.http or _NO_REQUEST), self._empty)

    def narrow(self, connection: ConnectionFacts) -> tuple[NarrowIndex, NarrowIndex | None]:
        """DENY, and ALLOW: None where no ALLOW policy applies."""
        return self._deny.narrow(connection), self._allow.narrow(connection) if self._has_allow else None


def _variant(index: Index, rules: Iterable[CompiledRule]) -> Index:
    """The index of these rules, which are those of ``index`` itself where none has a field of HTTP."""
    rules = tuple(rules)
    return index if rules == index.rules else Index(rules)


def _certain(rules: Iterable[CompiledRule]) -> Iterable[CompiledRule]:
    return (one for rule in rules if (one := rule.certain()) is not None)


class WorkloadPolicies:
    """All policies that apply to one workload. Paths of requests have to be normalized before: see ``normalize``."""

    __slots__ = (
        "_audit",
        "_audit_possible",
        "_custom",
        "_custom_possible",
        "_modes",
        "_normalization",
        "_proposed",
        "_proposed_custom",
        "_ruleset",
        "jwt_rules",
    )

    def __init__(
        self,
        ruleset: Ruleset,
        custom: Iterable[CompiledRule],
        audit: Iterable[CompiledRule],
        proposed: Ruleset | None,
        proposed_custom: Iterable[CompiledRule],
        modes: Modes,
        jwt_rules: tuple[JwtRule, ...],
        normalization: Normalization,
    ) -> None:
        """``proposed`` is the ruleset with the dry-run policies in force; None without any."""
        self._ruleset, self._proposed = ruleset, proposed
        self._custom, self._audit, self._proposed_custom = Index(custom), Index(audit), Index(proposed_custom)
        self._custom_possible = _variant(self._custom, (one.without_http() for one in self._custom.rules))
        self._audit_possible = _variant(self._audit, (one.without_http() for one in self._audit.rules))
        self._modes, self._normalization = modes, normalization
        #: Of all RequestAuthentications that apply.
        self.jwt_rules = jwt_rules

    @property
    def rules(self) -> tuple[CompiledRule, ...]:
        """The rules in force, with their principals expanded: for those who want to see them."""
        return (*self._custom.rules, *self._ruleset.rules, *self._audit.rules)

    @property
    def asks(self) -> bool:
        """Whether there is a CUSTOM policy in force: otherwise ``custom`` finds nothing."""
        return bool(self._custom)

    @property
    def audits(self) -> bool:
        """Whether there is an AUDIT policy in force: otherwise ``audit`` finds nothing."""
        return bool(self._audit)

    @property
    def dry_runs(self) -> bool:
        """Whether there is a dry-run policy: otherwise ``shadow`` finds nothing."""
        return self._proposed is not None or bool(self._proposed_custom)

    def evaluate(self, request: Request, *, reads_http: bool) -> Decision:
        """ALLOW or DENY by the DENY and ALLOW policies. The caller asks the providers that ``custom`` names first.

        ``reads_http``: whether the connection's HTTP requests are judged, each by itself. If so, and ``request.http``
        is None, the answer is NEEDS_HTTP unless it is the same for each request that may come, also for CUSTOM
        policies. If not, fields of HTTP are as Istio's sidecars take them on TCP: an ALLOW rule with one is skipped,
        and of a DENY rule only the field is dropped.
        """
        return self._decide(self._ruleset, ConnectionFacts(request), _http(request, reads_http), reads_http)

    def _decide(
        self, ruleset: Ruleset, connection: ConnectionFacts, http: HttpFacts | None, reads_http: bool
    ) -> Decision:
        if not reads_http:
            return ruleset.decide_tcp(connection)
        if http is not None:
            return ruleset.decide(connection, http)
        decision = ruleset.decide_before_http(connection)
        if decision.allowed and self._custom_possible.first(connection, _NO_REQUEST) is not None:
            return _NEEDS_HTTP
        return decision

    def shadow(self, request: Request, *, reads_http: bool = True) -> tuple[Decision, ...]:
        """What ``evaluate`` would answer with the dry-run policies in force; nothing without dry-run policies.

        A dry-run CUSTOM rule that matches adds an ALLOW with the provider that would be asked.
        """
        return self.shadow_of(ConnectionFacts(request), _http(request, reads_http), reads_http)

    def shadow_of(
        self, connection: ConnectionFacts, http: HttpFacts | None, reads_http: bool = True
    ) -> tuple[Decision, ...]:
        asked = _matches(self._proposed_custom, connection, http)
        if self._proposed is None:
            return asked
        return (self._decide(self._proposed, connection, http, reads_http), *asked)

    def custom(self, request: Request, *, reads_http: bool = True) -> tuple[CustomMatch, ...]:
        """The CUSTOM rules that match, one of each policy: each one's provider has to allow the request too.

        Without a request, those that may match, or that do on a TCP connection, where fields of HTTP are dropped.
        """
        return self.custom_of(ConnectionFacts(request), _http(request, reads_http), reads_http)

    def custom_of(
        self, connection: ConnectionFacts, http: HttpFacts | None, reads_http: bool = True
    ) -> tuple[CustomMatch, ...]:
        index = self._custom_possible if http is None else self._custom
        judged = Judged(connection, http, reads_http)
        found: dict[tuple[str, str], CustomMatch] = {}
        for rule in index.all(connection, http or _NO_REQUEST):
            refusal = unanswerable(rule.whole, judged) if not reads_http and rule.whole.uses_http else None
            match = CustomMatch(rule.provider or "", rule.policy, rule.rule, refusal)
            # Of a policy's rules one that its provider can't be asked about counts.
            kept = found.get((match.policy, match.provider))
            if kept is None or kept.refusal is None:
                found[match.policy, match.provider] = match
        return tuple(found.values())

    def audit(self, request: Request, *, reads_http: bool = True) -> tuple[str, ...]:
        """The names of the AUDIT rules that match; on TCP their fields of HTTP are dropped."""
        return self.audit_of(ConnectionFacts(request), _http(request, reads_http))

    def audit_of(self, connection: ConnectionFacts, http: HttpFacts | None) -> tuple[str, ...]:
        index = self._audit_possible if http is None else self._audit
        return tuple(one.name for one in index.all(connection, http or _NO_REQUEST))

    def mode(self, port: int | None) -> tuple[MtlsMode, str | None]:
        """The mode of an inbound port of the workload, never UNSET, and the policy that sets it; None for none."""
        return self._modes.of(port)

    def normalize(self, path: str) -> str:
        """The path as it has to be judged, and as the app has to get it. Raises RequestError: 400."""
        return normalize(path, self._normalization)

    def narrow(self, request: Request) -> NarrowPolicies:
        """The policies for the HTTP requests of one connection: all but ``http`` and ``auth`` stays as it is in
        ``request``.
        """
        return NarrowPolicies(self, self._ruleset, request)


class NarrowPolicies:
    """The policies for one connection's HTTP requests. Its answers are those of ``WorkloadPolicies``."""

    __slots__ = ("_allow", "_connection", "_deny", "_policies", "_ruleset")

    def __init__(self, policies: WorkloadPolicies, ruleset: Ruleset, request: Request) -> None:
        self._policies, self._ruleset = policies, ruleset
        self._connection = ConnectionFacts(request)
        self._deny, self._allow = ruleset.narrow(self._connection)

    def evaluate(self, http: HttpRequest, auth: RequestAuth | None = None) -> Decision:
        facts = HttpFacts(http, auth)
        if self._deny:
            rule = self._deny.first(facts)
            if rule is not None:
                return denied_by_rule(rule.whole, Judged(self._connection, facts, True))
        if self._allow is None:
            return _OPEN
        rule = self._allow.first(facts)
        if rule is not None:
            return rule.allowed
        return self._ruleset.deny_missed(Judged(self._connection, facts, True))

    def custom(self, http: HttpRequest, auth: RequestAuth | None = None) -> tuple[CustomMatch, ...]:
        return self._policies.custom_of(self._connection, HttpFacts(http, auth))

    def shadow(self, http: HttpRequest, auth: RequestAuth | None = None) -> tuple[Decision, ...]:
        return self._policies.shadow_of(self._connection, HttpFacts(http, auth))

    def audit(self, http: HttpRequest, auth: RequestAuth | None = None) -> tuple[str, ...]:
        return self._policies.audit_of(self._connection, HttpFacts(http, auth))


def _http(request: Request, reads_http: bool) -> HttpFacts | None:
    return HttpFacts(request.http, request.auth) if reads_http and request.http is not None else None


def _matches(index: Index, connection: ConnectionFacts, http: HttpFacts | None) -> tuple[Decision, ...]:
    if http is None:
        return ()
    found = {one.policy: one for one in index.all(connection, http)}
    return tuple(
        Decision.of(
            PolicyVerdict.ALLOW,
            f"dry run: {one.name} would ask the provider {one.provider}",
            policy=one.policy,
            rule=one.rule,
        )
        for one in found.values()
    )
