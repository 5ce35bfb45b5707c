"""A review of one request in words, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
    "Principals",
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


def principals_of(documents: Documents, mesh: MeshSettings, workload: Workload) -> Principals:
    """Of the rules that apply to this workload and name principals, also of dry runs."""
    found = {}
    for policy in applying_policies(documents.authorization_policies, workload, mesh):
        for number, rule in enumerate(policy.rules):
            written = [name for source in rule.sources for name in (*source.principals, *source.not_principals)]
            for one in rule.conditions:
                written += [*one.values, *one.not_values] if one.key == "source.principal" else []
            if written:
                found[f"{policy_name(policy.meta)}-rule[{number}]"] = expand_principals(tuple(written), mesh)
    return found


def request_words(request: Request) -> str:
    """Who calls whom, and for what, in one line."""
    port = "" if request.port is None else f" port {request.port}"
    http = "" if request.http is None else f": {request.http.method} {request.http.path or '(no path)'}"
    return f"{request.source or 'plaintext'} to {request.destination}{port}{http}"


def rule_to_add(review: Review) -> Mapping[str, Any] | None:
    """The rule that would allow a request which no ALLOW rule matches; None for any other, and for plaintext."""
    decision, request = review.decision, review.request
    if decision.allowed or decision.nearest is None or request.peer is None:
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


def explained_record(review: Review, principals: Principals, not_applied: Sequence[str]) -> Record:
    """All of it, for programs."""
    decision, nearest = review.decision, review.decision.nearest
    return {
        "verdict": "allow" if decision.allowed else "deny",
        "reason": decision.reason,
        "policy": decision.policy,
        "rule": decision.rule,
        "clause": decision.clause,
        "nearest": None if nearest is None else nearest._asdict(),
        "rule_to_add": rule_to_add(review),
        "mode": review.mode[0].value,
        "mode_policy": review.mode[1],
        "passes_plaintext": review.passes_plaintext,
        "unseen_caller": None if review.unseen is None else str(review.unseen),
        "path": None if review.request.http is None else review.request.http.path,
        "not_judged": list(review.not_judged),
        "providers": [{"provider": one.provider, "policy": one.policy, "rule": one.rule} for one in review.custom],
        "dry_run": [{"verdict": "allow" if one.allowed else "deny", "reason": one.reason} for one in review.shadow],
        "audit": list(review.audit),
        "principals": {name: list(values) for name, values in principals.items()},
        "not_applied": list(not_applied),
    }


def explained_lines(review: Review, principals: Principals, not_applied: Sequence[str]) -> Iterator[str]:
    """All of it, for people."""
    decision, nearest = review.decision, review.decision.nearest
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
    for missed in not_applied[:_MOST_NOT_APPLIED]:
        yield f"  {'not applied':<{_WIDTH}}{missed}"
    if len(not_applied) > _MOST_NOT_APPLIED:
        yield f"  {'not applied':<{_WIDTH}}and {len(not_applied) - _MOST_NOT_APPLIED} more"
    yield f"  {'mode':<{_WIDTH}}{mode_words(review.mode)}"
    if review.unseen is not None:
        unseen = f"{review.unseen} is judged as plaintext: if it sends TLS, that passes to the app as it is"
        yield f"  {'caller':<{_WIDTH}}{unseen}"
    for unjudged in review.not_judged:
        yield f"  {'not judged':<{_WIDTH}}{unjudged}"
    for shadow in review.shadow:
        yield f"  {'dry run':<{_WIDTH}}with the dry-run policies in force: {shadow.reason}"
    for name in review.audit:
        yield f"  {'AUDIT':<{_WIDTH}}{name}"
    for name, values in principals.items():
        more = f" and {len(values) - _MOST_PRINCIPALS} more" if len(values) > _MOST_PRINCIPALS else ""
        yield f"  {'principals':<{_WIDTH}}{name}: {', '.join(values[:_MOST_PRINCIPALS])}{more}"
    rule = rule_to_add(review)
    if rule is not None:
        yield "  To allow just this, add a rule to an ALLOW policy of the workload:"
        for line in yaml.safe_dump([rule], sort_keys=False).rstrip("\n").split("\n"):
            yield f"    {line}"


def mode_words(given: Mode) -> str:
    """A port's mode, what sets it, and what becomes of plaintext."""
    mode, by = given
    plaintext = {
        MtlsMode.STRICT: "plaintext is refused",
        MtlsMode.DISABLE: "no TLS ends here, so that all callers are judged as plaintext",
    }.get(mode, "plaintext passes, too, and is judged by the same policies")
    return f"{mode.value}, {f'by {by}' if by else 'the default'}: {plaintext}"
