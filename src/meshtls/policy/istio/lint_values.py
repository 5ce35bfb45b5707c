"""Values that no request or peer has when it is judged: a policy with one does less than it seems to do. Pure.

What a value is compared with was checked and normalized before, so the same checks and the same normalization say here
whether anything is left that it matches. Where that is not certain, nothing is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from meshtls.config.document import Place
from meshtls.errors import RequestError
from meshtls.policy.istio.clauses import header_of
from meshtls.policy.istio.lint_covers import OPERATION_FIELDS, SOURCE_FIELDS, Compared
from meshtls.policy.istio.lint_finding import Finding, Severity
from meshtls.policy.istio.lint_hosts import host_problem
from meshtls.policy.istio.lint_identities import domain_problem, principal_problem, segment_problem
from meshtls.policy.istio.model import Action, AuthorizationPolicy, MeshSettings, Normalization, Operation, Source
from meshtls.policy.istio.paths import has_lone_percent, is_template, normalize
from meshtls.scalars import shown
from meshtls.wire.http1.request import is_target
from meshtls.wire.http_rules import NOT_JUDGED, is_method

__all__ = ["findings_of_values"]

_EFFECTS = {
    Action.ALLOW: "allows nothing",
    Action.DENY: "denies nothing, and what it is meant for passes",
    Action.AUDIT: "records nothing",
    Action.CUSTOM: "asks about nothing",
}
_EXCLUDES = "excludes nothing"
_BLANKS = " \t"
#: Stands for the text that a star or an operator matches.
_ANY = "x"


#: Says why no request or peer has what this value matches; empty if one can.
_ProblemOf = Callable[[str], str]


def findings_of_values(policy: AuthorizationPolicy, mesh: MeshSettings) -> Iterator[Finding]:
    """The findings on the values of this policy's rules, in their order."""
    effect = _EFFECTS[policy.action]
    of_sources: dict[str, _ProblemOf] = {
        "principals": partial(principal_problem, mesh),
        "namespaces": segment_problem,
        "serviceAccounts": segment_problem,
        "trustDomains": domain_problem,
    }
    of_operations: dict[str, _ProblemOf] = {
        "hosts": host_problem,
        "methods": _method_problem,
        "paths": partial(_path_problem, mesh.normalization),
    }
    of_keys: dict[str, _ProblemOf] = {
        "source.principal": of_sources["principals"],
        "source.namespace": segment_problem,
        "source.serviceAccount": segment_problem,
        "source.trustDomain": domain_problem,
    }
    for rule in policy.rules:
        for number, source in enumerate(rule.sources):
            place = rule.place.below(f"from[{number}].source")
            yield from _in_fields(place, SOURCE_FIELDS, source, effect, of_sources)
        for number, operation in enumerate(rule.operations):
            place = rule.place.below(f"to[{number}].operation")
            yield from _in_fields(place, OPERATION_FIELDS, operation, effect, of_operations)
        for number, condition in enumerate(rule.conditions):
            place = rule.place.below(f"when[{number}]")
            header = header_of(condition.key)
            if header in NOT_JUDGED:
                yield _finding(place, condition.key, effect if condition.values else _EXCLUDES, _OF_CONNECTION)
                continue
            problem_of = of_keys.get(condition.key) if header is None else partial(_header_problem, header)
            if problem_of is not None:
                yield from _in_list(place, condition.key, condition.values, effect, problem_of)
                yield from _in_list(place, condition.key, condition.not_values, _EXCLUDES, problem_of)


_OF_CONNECTION = (
    "the header is of one connection, or of a body's framing: it is taken out before the policies judge, and written"
    " anew for the app; leave the condition out"
)


def _in_fields(
    place: Place,
    fields: tuple[Compared, ...],
    owner: Source | Operation,
    effect: str,
    problems: Mapping[str, _ProblemOf],
) -> Iterator[Finding]:
    for field in fields:
        if (problem_of := problems.get(field.name)) is not None:
            values, negated = field.values(owner)
            yield from _in_list(place, field.name, values, effect, problem_of)
            yield from _in_list(place, field.negation, negated, _EXCLUDES, problem_of)


def _in_list(
    place: Place, name: str, values: tuple[str, ...], effect: str, problem_of: _ProblemOf
) -> Iterator[Finding]:
    for value in values:
        if problem := problem_of(value):
            yield _finding(place, f"{shown(value)} in {name}", effect, problem)


def _finding(place: Place, what: str, effect: str, problem: str) -> Finding:
    text = f"{what} never matches, and so {effect}: {problem}"
    return Finding(Severity.WARNING, "value-never-matches", place, text)


def _header_problem(name: str, pattern: str) -> str:
    if name in ("host", ":authority"):
        return host_problem(pattern)
    if name == ":method":
        return _method_problem(pattern)
    stripped = pattern.strip(_BLANKS)
    if stripped != pattern:
        advice = f"write {shown(stripped)}" if stripped else "leave it out"
        return f"the value of a header is judged without the blanks at its ends; {advice}"
    if name == "upgrade" and pattern.lower() != pattern:
        return f"an upgrade is judged in small letters; write {shown(pattern.lower())}"
    return ""


def _method_problem(pattern: str) -> str:
    samples: tuple[str, ...] = (pattern,)
    if pattern.startswith("*"):
        samples = pattern[1:], f"A{pattern[1:]}"
    elif pattern.endswith("*"):
        samples = pattern[:-1], f"{pattern[:-1]}A"
    if any(map(is_method, samples)):
        return ""
    raised = pattern.upper()
    advice = f"; write {shown(raised)}" if is_method(raised.strip("*")) else ""
    return f"methods are compared with their case, and a request with one that is not in capitals is refused{advice}"


def _path_problem(how: Normalization, pattern: str) -> str:
    if pattern == "*":
        return ""
    if "?" in pattern or "#" in pattern:
        return "paths are judged without query and fragment; leave out what begins with '?' or '#'"
    if not pattern.startswith(("/", "*")):
        return f"each path begins with a slash; write {shown(f'/{pattern}')}"
    if is_template(pattern):
        sample = pattern.replace("{**}", _ANY).replace("{*}", _ANY)
    elif pattern.startswith("*"):
        sample = f"/{_ANY}{pattern[1:]}"
    else:
        sample = f"{pattern[:-1]}{_ANY}" if pattern.endswith("*") else pattern
    if sample is not pattern and has_lone_percent(pattern):
        return ""  # what a star matches may make an escape of it
    try:
        judged = normalize(sample, how)
    except RequestError:
        return "a request with NUL in its path is refused; leave it out"
    if judged != sample:
        advice = f"; write {shown(judged)}" if sample is pattern else ""
        return f"paths are normalized ({how.value}) before they are judged, and this is not{advice}"
    if not is_target(sample):
        return "paths are printable ASCII without blanks; write other characters as they are encoded, such as %20"
    return ""
