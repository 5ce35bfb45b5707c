"""A rule, compiled: any(sources) and any(operations) and all(conditions), and the variants that an index is made of.

Variants leave out what is not known of a connection without a request. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from meshtls.config.document import Place
from meshtls.errors import ConfigError, RequestError
from meshtls.policy.decision import Decision, PolicyVerdict
from meshtls.policy.istio.clauses import Anchor, Clause, Dialect, Term, condition_term, operation_term, source_term
from meshtls.policy.istio.facts import ConnectionFacts, HttpFacts
from meshtls.policy.istio.model import Action, AuthorizationPolicy, MeshSettings, Rule
from meshtls.policy.istio.scope import policy_name

__all__ = ["CompiledRule", "compile_rules"]

#: Policies whose rules are kept, so that a change of some documents compiles no others, and each listener has the same.
_MOST_KEPT = 1 << 14


class CompiledRule:
    """One rule of an AuthorizationPolicy, compiled. ``groups`` are sources, operations and conditions: of each that has
    terms, one has to match.

    ``policy`` is ``ns[X]-policy[Y]`` and ``rule`` the number of the rule in it, from 0. ``allowed`` is the Decision
    that all requests share which the rule allows.
    """

    __slots__ = (
        "_anchors",
        "_anyone",
        "_connection",
        "_http",
        "_without_http",
        "action",
        "allowed",
        "dry_run",
        "groups",
        "place",
        "policy",
        "provider",
        "rule",
        "unconditional",
        "uses_http",
        "whole",
    )

    def __init__(
        self,
        policy: str,
        rule: str,
        action: Action,
        place: Place,
        groups: tuple[tuple[Term, ...], ...],
        provider: str | None = None,
        dry_run: bool = False,
        whole: CompiledRule | None = None,
    ) -> None:
        self.policy, self.rule, self.action, self.place = policy, rule, action, place
        self.groups, self.provider, self.dry_run = groups, provider, dry_run
        if whole is None:
            #: The rule that this is a variant of, or itself.
            self.whole = self
            self.allowed = Decision.of(PolicyVerdict.ALLOW, f"allowed by {self.name}", policy=policy, rule=rule)
        else:
            self.whole, self.allowed = whole, whole.allowed
        #: Whether any of its fields, needed for a match or not, is of HTTP.
        self.uses_http = any(term.http for group in groups for term in group)
        self.unconditional = not (self.uses_http or any(term.connection for group in groups for term in group))
        # Made once, since a rule is in several indexes, and in those of the next generation of documents.
        self._anchors: tuple[Anchor, ...] | None = None
        self._without_http: CompiledRule | None = None if self.uses_http else self
        single = [group[0] for group in groups if len(group) == 1]
        self._connection = tuple(clause.test for term in single for clause in term.connection)
        self._http = tuple(clause.test for term in single for clause in term.http)
        self._anyone = tuple(group for group in groups if len(group) > 1)

    @property
    def name(self) -> str:
        """As Istio names it: ``ns[X]-policy[Y]-rule[i]``."""
        return f"{self.policy}-rule[{self.rule}]"

    def __repr__(self) -> str:
        return f"<CompiledRule {self.action.value} {self.name}>"

    def matches(self, connection: ConnectionFacts, http: HttpFacts) -> bool:
        for of_http in self._http:
            if not of_http(http):
                return False
        for of_connection in self._connection:
            if not of_connection(connection):
                return False
        return not self._anyone or all(
            any(_term_matches(term, connection, http) for term in group) for group in self._anyone
        )

    @property
    def http_fields(self) -> tuple[str, ...]:
        found = (clause.field for group in self.groups for term in group for clause in term.http)
        return tuple(dict.fromkeys(found))

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """Each by which an index may find the rule: every request that it matches has one of the anchor's keys."""
        if self._anchors is None:
            self._anchors = tuple(one for group in self.groups for one in _anchors(group))
        return self._anchors

    def without_http(self) -> CompiledRule:
        """Only the fields of the connection have to match: whether the rule may match, or a TCP connection's DENY."""
        if self._without_http is None:
            groups = tuple(tuple(Term(term.connection) for term in group) for group in self.groups)
            self._without_http = self._variant(groups)
        return self._without_http

    def certain(self) -> CompiledRule | None:
        """What matches whatever the request is, None where nothing does: no term with a field of HTTP."""
        if not self.uses_http:
            return self
        groups = tuple(tuple(term for term in group if not term.http) for group in self.groups)
        return None if any(not group for group in groups) else self._variant(groups)

    def left_for(self, connection: ConnectionFacts) -> tuple[tuple[Term, ...], ...] | None:
        """What is left to ask of a request on this connection, as ``groups``; None where none can match."""
        groups = []
        for group in self.groups:
            left = tuple(
                Term((), term.http) for term in group if all(clause.test(connection) for clause in term.connection)
            )
            if not left:
                return None
            if all(term.http for term in left):
                groups.append(left)
        return tuple(groups)

    def narrowed(self, left: tuple[tuple[Term, ...], ...]) -> CompiledRule:
        """With only what ``left_for`` leaves."""
        return self._variant(left)

    @property
    def needed(self) -> tuple[Clause[Any], ...]:
        """Clauses without each of which it matches nothing: those of sources, operations and conditions with one term,
        and their parts.
        """
        found = (one for group in self.groups if len(group) == 1 for part in group[0] for one in part)
        return tuple(dict.fromkeys(every for one in found for every in (one, *one.parts)))

    @property
    def of_connection(self) -> tuple[Clause[ConnectionFacts], ...]:
        """All clauses on the connection."""
        return tuple(one for group in self.groups for term in group for one in term.connection)

    @property
    def only_excludes(self) -> bool:
        """Whether it matches whatever has none of some values, as most requests do."""
        return all(one.negative for group in self.groups for term in group for part in term for one in part)

    def _variant(self, groups: tuple[tuple[Term, ...], ...]) -> CompiledRule:
        return CompiledRule(
            self.policy, self.rule, self.action, self.place, groups, self.provider, self.dry_run, self.whole
        )


def _term_matches(term: Term, connection: ConnectionFacts, http: HttpFacts) -> bool:
    return all(clause.test(connection) for clause in term.connection) and all(clause.test(http) for clause in term.http)


def _anchors(group: tuple[Term, ...]) -> Iterator[Anchor]:
    """The anchors that all terms of the group share, with their keys merged."""
    if len(group) == 1:
        yield from _anchors_of(group[0])
        return
    merged: dict[str, Anchor] | None = None
    for term in group:
        of_term: dict[str, Anchor] = {}
        for anchor in _anchors_of(term):
            of_term.setdefault(anchor.name, anchor)
        if merged is None:
            merged = of_term
        else:
            merged = {
                name: one._replace(keys=(*one.keys, *of_term[name].keys))
                for name, one in merged.items()
                if name in of_term
            }
    yield from (merged or {}).values()


def _anchors_of(term: Term) -> Iterator[Anchor]:
    for of_connection in term.connection:
        yield from of_connection.anchors
    for of_http in term.http:
        yield from of_http.anchors


def compile_rules(policies: Iterable[AuthorizationPolicy], mesh: MeshSettings) -> tuple[CompiledRule, ...]:
    """The rules of these policies. Raises ConfigError with all that is invalid."""
    found: list[CompiledRule] = []
    problems: list[str] = []
    for policy in policies:
        try:
            found += _rules_of(policy, mesh)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return tuple(found)


@lru_cache(maxsize=_MOST_KEPT)
def _rules_of(policy: AuthorizationPolicy, mesh: MeshSettings) -> tuple[CompiledRule, ...]:
    dialect = Dialect(mesh, policy.meta.namespace, policy.action is not Action.ALLOW)
    name = policy_name(policy.meta)
    found: list[CompiledRule] = []
    problems: list[str] = []
    for number, rule in enumerate(policy.rules):
        try:
            groups = _groups(rule, dialect)
        except RequestError as error:
            problems.append(f"{rule.place}: {error}")
            continue
        found.append(
            CompiledRule(name, str(number), policy.action, rule.place, groups, policy.provider, policy.dry_run)
        )
    if problems:
        raise ConfigError(*problems)
    return tuple(found)


def _groups(rule: Rule, dialect: Dialect) -> tuple[tuple[Term, ...], ...]:
    groups = (
        tuple(source_term(one, dialect) for one in rule.sources),
        tuple(operation_term(one, dialect) for one in rule.operations),
        (condition_term(rule.conditions, dialect),) if rule.conditions else (),
    )
    return tuple(group for group in groups if group)
