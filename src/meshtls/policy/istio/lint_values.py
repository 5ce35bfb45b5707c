"""Values of HTTP fields that no request has when it is judged: a policy with one does less than it seems to do. Pure.

What a value is compared with was checked and normalized before, so the same checks and the same normalization say here
whether anything is left that it matches. Where that is not certain, nothing is found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from meshtls.config.document import Place
from meshtls.errors import RequestError
from meshtls.policy.istio.clauses import header_of
from meshtls.policy.istio.lint_finding import Finding, Severity
from meshtls.policy.istio.model import Action, AuthorizationPolicy, Normalization
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
#: Stands for the text that a star or an operator matches.
_ANY = "x"


def findings_of_values(policy: AuthorizationPolicy, how: Normalization) -> Iterator[Finding]:
    """The findings on the values of this policy's rules, in their order."""
    effect = _EFFECTS[policy.action]
    path_problem = partial(_path_problem, how)
    for rule in policy.rules:
        for number, one in enumerate(rule.operations):
            place = rule.place.below(f"to[{number}].operation")
            yield from _in_list(place, "methods", one.methods, effect, _method_problem)
            yield from _in_list(place, "notMethods", one.not_methods, _EXCLUDES, _method_problem)
            yield from _in_list(place, "paths", one.paths, effect, path_problem)
            yield from _in_list(place, "notPaths", one.not_paths, _EXCLUDES, path_problem)
        for number, condition in enumerate(rule.conditions):
            if header_of(condition.key) in NOT_JUDGED:
                yield _finding(
                    rule.place.below(f"when[{number}]"),
                    condition.key,
                    effect if condition.values else _EXCLUDES,
                    _OF_CONNECTION,
                )


_OF_CONNECTION = (
    "the header is of one connection, or of a body's framing: it is taken out before the policies judge, and written"
    " anew for the app; leave the condition out"
)


def _in_list(
    place: Place, name: str, values: tuple[str, ...], effect: str, problem_of: Callable[[str], str]
) -> Iterator[Finding]:
    for value in values:
        if problem := problem_of(value):
            yield _finding(place, f"{shown(value)} in {name}", effect, problem)


def _finding(place: Place, what: str, effect: str, problem: str) -> Finding:
    text = f"{what} never matches, and so {effect}: {problem}"
    return Finding(Severity.WARNING, "value-never-matches", place, text)


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
