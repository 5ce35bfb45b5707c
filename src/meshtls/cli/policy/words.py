"""A review of one request in words, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from meshtls.cli.output import Record
from meshtls.policy.decision import PolicyVerdict
from meshtls.policy.istio.match import expand_principals
from meshtls.policy.istio.model import Documents, MeshSettings, MtlsMode, Workload
from meshtls.policy.istio.scope import applying_policies, policy_name, unselected
from meshtls.policy.request import Request
from meshtls.policy.review import Mode, Review
from meshtls.policy.suggest import rule_for

__all__ = [
    "AllowToAdd",
    "Principals",
    "Told",
    "explained_lines",
    "explained_record",
    "mode_words",
    "not_applied",
    "principals_of",
    "request_words",
    "rule_to_add",
]

_WIDTH = 12
_MOST_PRINCIPALS = 10
_MOST_NOT_APPLIED = 10
#: The principals of each rule as they are matched, with the trust domain's aliases, by the rule's name.
Principals = Mapping[str, tuple[str, ...]]


class AllowToAdd(NamedTuple):
    """The ID that would let the caller in, if this list of a sidecar's file had it."""

    key: str
    file: str
    spiffe_id: str


class Told(NamedTuple):
    """What is told of one request. ``missed`` is of ``not_applied``, ``notes`` are about its headers."""

    review: Review
    principals: Principals
    missed: Sequence[str] = ()
    to_allow: AllowToAdd | None = None
    notes: Sequence[str] = ()


def principals_of(documents: Documents, mesh: MeshSettings, workload: Workload) -> Principals:
    """The principals of the rules that apply to this workload and name principals, also of dry runs."""
    found = {}
    for policy in applying_policies(documents.authorization_policies, workload, mesh):
        for number, rule in enumerate(policy.rules):
            written = [name for source in rule.sources for name in (*source.principals, *source.not_principals)]
            for one in rule.conditions:
                written += [*one.values, *one.not_values] if one.key == "source.principal" else []
            exact = [name for source in rule.sources for name in source.spiffe_ids]
            if written or exact:
                found[f"{policy_name(policy.meta)}-rule[{number}]"] = (
                    *exact, *expand_principals(tuple(written), mesh)
                )  # fmt: skip
    return found


def request_words(request: Request) -> str:
    """Who calls whom, and for what, in one line."""
    port = "" if request.port is None else f" port {request.port}"
    http = "" if request.http is None else f": {request.http.method} {request.http.path or '(no path)'}"
    return f"{request.source or 'plaintext'} to {request.destination}{port}{http}"


def rule_to_add(review: Review) -> Mapping[str, Any] | str | None:
    """The rule that would allow an HTTP request which no ALLOW rule matches, or why no rule allows just this; None for
    any other, and for plaintext.
    """
    decision, request = review.decision, review.request
    if review.by_allow or decision.allowed or decision.nearest is None or request.peer is None or request.http is None:
        return None
    return rule_for(request)


def not_applied(documents: Documents, mesh: MeshSettings, workload: Workload) -> tuple[str, ...]:
    """The policies that a workload whose labels were not given may miss for that, in words."""
    if workload.labels:
        return ()
    return tuple(
        f"{name}: its selector wants {', '.join(f'{key}={value}' for key, value in selector)}, and no label was given"
        for name, selector in unselected(documents, workload, mesh)
    )


def explained_record(told: Told) -> Record:
    """All of it, for programs."""
    review, decision, nearest = told.review, told.review.decision, told.review.decision.nearest
    rule = rule_to_add(review)
    return {
        "verdict": "allow" if decision.allowed else "deny",
        "reason": decision.reason,
        "policy": decision.policy,
        "rule": decision.rule,
        "clause": decision.clause,
        "nearest": None if nearest is None else nearest._asdict(),
        "rule_to_add": None if isinstance(rule, str) else rule,
        "no_rule_to_add": rule if isinstance(rule, str) else None,
        "allow_to_add": None if told.to_allow is None else told.to_allow._asdict(),
        "mode": review.mode[0].value,
        "mode_policy": review.mode[1],
        "passes_plaintext": review.passes_plaintext,
        "unseen_caller": None if review.unseen is None else str(review.unseen),
        "path": None if review.request.http is None else review.request.http.path,
        "not_judged": list(review.not_judged),
        "header_notes": list(told.notes),
        "providers": [{"provider": one.provider, "policy": one.policy, "rule": one.rule} for one in review.custom],
        "dry_run": [{"verdict": "allow" if one.allowed else "deny", "reason": one.reason} for one in review.shadow],
        "audit": list(review.audit),
        "principals": {name: list(values) for name, values in told.principals.items()},
        "not_applied": list(told.missed),
    }


def explained_lines(told: Told) -> Iterator[str]:
    """All of it, for people."""
    review, decision, nearest = told.review, told.review.decision, told.review.decision.nearest
    yield f"{'ALLOW' if decision.allowed else 'DENY'}  {request_words(review.request)}"
    needs_http = decision.verdict is PolicyVerdict.NEEDS_HTTP
    yield (
        "denied so far: each HTTP request is judged by itself; give --method and --path"
        if needs_http
        else (decision.reason)
    )
    for name, value in (
        ("policy", decision.policy),
        ("rule", decision.rule),
        ("clause", decision.clause),
        ("nearest", None if nearest is None else str(nearest)),
    ):
        if value:
            yield f"  {name:<{_WIDTH}}{value}"
    for missed in told.missed[:_MOST_NOT_APPLIED]:
        yield f"  {'not applied':<{_WIDTH}}{missed}"
    if len(told.missed) > _MOST_NOT_APPLIED:
        yield f"  {'not applied':<{_WIDTH}}and {len(told.missed) - _MOST_NOT_APPLIED} more"
    yield f"  {'mode':<{_WIDTH}}{mode_words(review.mode, by_allow=review.by_allow)}"
    if review.unseen is not None:
        unseen = f"{review.unseen} is judged as plaintext: if it sends TLS, that passes to the app as it is"
        yield f"  {'caller':<{_WIDTH}}{unseen}"
    for note in told.notes:
        yield f"  {'header':<{_WIDTH}}{note}"
    for unjudged in review.not_judged:
        yield f"  {'not judged':<{_WIDTH}}{unjudged}"
    for shadow in review.shadow:
        yield f"  {'dry run':<{_WIDTH}}with the dry-run policies in force: {shadow.reason}"
    for name in review.audit:
        yield f"  {'AUDIT':<{_WIDTH}}{name}"
    for name, values in told.principals.items():
        more = f" and {len(values) - _MOST_PRINCIPALS} more" if len(values) > _MOST_PRINCIPALS else ""
        yield f"  {'principals':<{_WIDTH}}{name}: {', '.join(values[:_MOST_PRINCIPALS])}{more}"
    rule = rule_to_add(review)
    if isinstance(rule, str):
        yield f"  {'no rule':<{_WIDTH}}allows just this: {rule}"
        rule = None
    if rule is not None:
        yield "  To allow just this, add a rule to an ALLOW policy of the workload:"
        for line in yaml.safe_dump([rule], sort_keys=False).rstrip("\n").split("\n"):
            yield f"    {line}"
    if (to_allow := told.to_allow) is not None:
        to = "To allow this caller" if rule is None else "Or, to allow this caller whatever it asks"
        yield f"  {to}, add it to {to_allow.key} in {to_allow.file}:"
        yield f"    - {to_allow.spiffe_id}"


def mode_words(given: Mode, *, by_allow: bool = False) -> str:
    """A port's mode, what sets it, and what becomes of plaintext. ``by_allow`` is as of ``Review``."""
    mode, by = given
    if mode is MtlsMode.STRICT:
        plaintext = "plaintext is refused"
    elif mode is MtlsMode.DISABLE:
        judged = "and every caller is allowed" if by_allow else "so that all callers are judged as plaintext"
        plaintext = f"no TLS ends here, {judged}"
    else:
        judged = "no policy judges it" if by_allow else "is judged by the same policies"
        plaintext = f"plaintext passes, too, and {judged}"
    return f"{mode.value}, {f'by {by}' if by else 'the default'}: {plaintext}"
