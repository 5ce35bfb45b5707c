"""Why a request was denied, in words: made only when somebody reads them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from meshtls.policy.decision import Decision, NearMiss, PolicyVerdict
from meshtls.policy.istio.clauses import Term
from meshtls.policy.istio.facts import ConnectionFacts, HttpFacts
from meshtls.policy.istio.rules import CompiledRule
from meshtls.scalars import plain_or_shown

__all__ = ["Judged", "Missed", "denied_by_rule", "missed", "unanswerable"]

#: Rules that are compared to find the nearest, those that share a key with the request first: each denial that is
#: logged costs so many.
_MOST_COMPARED = 256
_IDENTITY = ("source.principals", "source.namespaces", "source.serviceAccounts", "source.trustDomains")
_IDENTITY_KEYS = tuple(f"when source.{one}" for one in ("principal", "namespace", "serviceAccount", "trustDomain"))


class Judged(NamedTuple):
    """What was judged: ``http`` is None where no request is read, or none was read yet."""

    connection: ConnectionFacts
    http: HttpFacts | None
    reads_http: bool

    def __str__(self) -> str:
        connection, http = self.connection, self.http
        source = "plaintext, which proves no identity" if connection.spiffe_id is None else connection.spiffe_id
        port = "" if connection.port is None else f", on port {connection.port}"
        if http is None:
            return f"The peer is {source}{port}."
        return f"The peer is {source}; the request is {plain_or_shown(http.method)} {plain_or_shown(http.path)}{port}."


def denied_by_rule(rule: CompiledRule, judged: Judged) -> Decision:
    """The Decision where a DENY rule matches."""

    def clause() -> str | None:
        return "; ".join(text for group in rule.groups for text in _best(group, judged).matched) or None

    def reason() -> str:
        return (
            f"denied by {rule.name} ({rule.place}), a DENY rule that matches"
            f" {clause() or ('every request' if judged.http else 'every connection')}."
            f" {judged}{_dropped(rule, judged)} Send what the rule does not match, or change the rule."
        )

    return Decision.of(PolicyVerdict.DENY, reason, policy=rule.policy, rule=rule.rule, clause=clause)


def _dropped(rule: CompiledRule, judged: Judged) -> str:
    fields = rule.whole.http_fields
    if judged.reads_http or not fields:
        return ""
    return (
        f" Without HTTP, a DENY rule's fields of HTTP ({', '.join(fields)}) are dropped, so that it denies"
        " more; with 'protocol: http' at this port they count."
    )


def unanswerable(rule: CompiledRule, judged: Judged) -> Decision:
    """The Decision where a CUSTOM rule with fields of HTTP matches a connection that is read without it."""

    def reason() -> str:
        return (
            f"denied: the CUSTOM rule {rule.name} ({rule.place}) has fields of HTTP ({', '.join(rule.http_fields)}),"
            f" and none is read at this port, so provider {rule.provider} can't be asked about a request. {judged}"
            " Set 'protocol: http' at this port, or remove these fields from the rule."
        )

    return Decision.of(PolicyVerdict.DENY, reason, policy=rule.policy, rule=rule.rule)


class _Compared(NamedTuple):
    """A term, or a rule, clause by clause."""

    matched: tuple[str, ...]
    failed: tuple[str, ...]


def _compare(term: Term, judged: Judged) -> _Compared:
    matched: list[str] = []
    failed: list[str] = []
    for of_connection in term.connection:
        (matched if of_connection.test(judged.connection) else failed).append(of_connection.explain(judged.connection))
    for of_http in term.http:
        if judged.http is not None:
            (matched if of_http.test(judged.http) else failed).append(of_http.explain(judged.http))
        elif not judged.reads_http:
            failed.append(_needs_http(of_http.field))
    return _Compared(tuple(matched), tuple(failed))


def _needs_http(field: str) -> str:
    return f"{field}: wanted an HTTP request, got a connection on which none is read"


def _best(group: Iterable[Term], judged: Judged) -> _Compared:
    """Compare the term that fails in fewest clauses, then that with most that match."""
    return min((_compare(term, judged) for term in group), key=lambda one: (len(one.failed), -len(one.matched)))


class _Near(NamedTuple):
    rule: CompiledRule
    matched: int
    failed: tuple[str, ...]


def _compare_rule(rule: CompiledRule, judged: Judged) -> _Near:
    groups = [_best(group, judged) for group in rule.groups]
    failed = tuple(text for one in groups for text in one.failed)
    if not failed and not judged.reads_http:
        # It is skipped whole, for a field in another of its sources or operations.
        failed = tuple(map(_needs_http, rule.http_fields))
    return _Near(rule, sum(len(one.matched) for one in groups), failed)


class Missed:
    """A denial because no ALLOW rule matches. ``candidates`` are the ALLOW rules, the most likely ones first."""

    def __init__(self, judged: Judged, candidates: Iterable[CompiledRule], empty: tuple[str, ...]) -> None:
        """``empty`` are the ALLOW policies without rules."""
        self._judged, self._candidates, self._empty = judged, candidates, empty

    @cached_property
    def _near(self) -> _Near | None:
        few = dict.fromkeys(islice(self._candidates, _MOST_COMPARED))
        compared = (_compare_rule(rule, self._judged) for rule in few)
        return max(compared, key=lambda one: (one.matched, -len(one.failed)), default=None)

    def clause(self) -> str | None:
        return None if self._near is None else next(iter(self._near.failed), None)

    def nearest(self) -> NearMiss | None:
        near = self._near
        return None if near is None else NearMiss(near.rule.policy, near.rule.rule, self.clause() or "")

    def reason(self) -> str:
        near = self._near
        if near is None:
            return (
                f"denied: no ALLOW rule matches. {', '.join(self._empty)} has no rules, so it allows nothing."
                f" {self._judged} Add a rule that allows this."
            )
        more = f", and {len(near.failed) - 1} more" if len(near.failed) > 1 else ""
        return (
            f"denied: no ALLOW rule matches. {self._judged} The nearest is {near.rule.name} ({near.rule.place}), which"
            f" fails in {self.clause()}{more}. {self._advice(near)}"
        )

    def _advice(self, near: _Near) -> str:
        first = self.clause() or ""
        if self._judged.connection.spiffe_id is None and first.startswith((*_IDENTITY, *_IDENTITY_KEYS)):
            return "Call with mutual TLS, which proves an identity, or allow plaintext in a rule without identities."
        if self._judged.http is None and not self._judged.reads_http and near.rule.uses_http:
            return (
                "Without HTTP, an ALLOW rule with fields of HTTP allows nothing: set 'protocol: http' at this port, or"
                " add a rule without such fields."
            )
        return "Send what the rule wants, or add a rule that allows this."


def missed(judged: Judged, candidates: Iterable[CompiledRule], empty: tuple[str, ...]) -> Decision:
    """The Decision where no ALLOW rule matches."""
    found = Missed(judged, candidates, empty)
    return Decision.of(PolicyVerdict.DENY, found.reason, clause=found.clause, nearest=found.nearest)
