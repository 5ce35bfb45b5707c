"""What is suspicious in one AuthorizationPolicy, whatever the others say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshtls.config.document import Place
from meshtls.policy.istio.fields_when import HTTP_KEYS
from meshtls.policy.istio.lint_covers import (
    OPERATION_FIELDS,
    SOURCE_FIELDS,
    Compared,
    Comparison,
    kind_of_key,
    namespace_matches,
)
from meshtls.policy.istio.lint_finding import Finding, Severity
from meshtls.policy.istio.model import Action, AuthorizationPolicy, Condition, Operation, Rule, Source

__all__ = ["findings_of"]

_IDENTITY = tuple(
    one for one in SOURCE_FIELDS if one.name in ("principals", "namespaces", "serviceAccounts", "trustDomains")
)
_IDENTITY_KEYS = ("source.principal", "source.namespace", "source.serviceAccount", "source.trustDomain")
_ANY_DOMAIN_KEYS = ("source.namespace", "source.serviceAccount")
_HTTP_FIELDS = ("requestPrincipals", "hosts", "methods", "paths")


def findings_of(policy: AuthorizationPolicy, compared: Comparison, federated: Iterable[str]) -> Iterator[Finding]:
    """The findings on this policy's rules, in their order."""
    partners = tuple(federated)
    for rule in policy.rules:
        yield from _never_matches(policy, rule, compared)
        yield from _on_tcp(policy, rule)
        if policy.action is Action.ALLOW:
            yield from _matches_plaintext(rule)
            yield from _matches_everybody(rule)
            if partners:
                yield from _matches_partners(rule, partners)


def _matches_plaintext(rule: Rule) -> Iterator[Finding]:
    if any(one.key in _IDENTITY_KEYS and one.values for one in rule.conditions):
        return
    from_when = [one.key for one in rule.conditions if one.key in _IDENTITY_KEYS and one.not_values]
    for number, source in enumerate(rule.sources or (Source(),)):
        excluded = [field.negation for field in _IDENTITY if field.values(source)[1]] + from_when
        if excluded and not any(field.values(source)[0] for field in _IDENTITY):
            place = _source_place(rule, number) if rule.sources else rule.place
            yield Finding(
                Severity.WARNING,
                "plaintext-matches",
                place,
                f"a plaintext peer has no identity, so {' and '.join(excluded)} can't exclude it, and the rule"
                ' allows it; add principals: ["*"] to require an identity',
            )


def _matches_everybody(rule: Rule) -> Iterator[Finding]:
    if rule.sources or rule.conditions:
        return
    if rule.operations:
        yield Finding(
            Severity.INFO,
            "allows-any-caller",
            rule.place,
            "the rule has no from: it allows these operations to every caller, also by plaintext; add a source if only"
            " some are meant",
        )
    else:
        yield Finding(
            Severity.WARNING,
            "allows-everybody",
            rule.place,
            "the rule is empty: it allows everything to every caller, also by plaintext; add a source",
        )


def _matches_partners(rule: Rule, partners: tuple[str, ...]) -> Iterator[Finding]:
    if any(one.key in ("source.principal", "source.trustDomain") and one.values for one in rule.conditions):
        return
    keys = [one.key for one in rule.conditions if one.key in _ANY_DOMAIN_KEYS and one.values]
    for number, source in enumerate(rule.sources or (Source(),)):
        if source.principals or source.trust_domains:
            continue
        fields = ("namespaces", source.namespaces), ("serviceAccounts", source.service_accounts)
        names = [name for name, values in fields if values] + keys
        if names:
            place = _source_place(rule, number) if rule.sources else rule.place
            yield Finding(
                Severity.WARNING,
                "any-trust-domain",
                place,
                f"{' and '.join(names)} can match in any trust domain, so also in {', '.join(sorted(partners))}, whose"
                " bundles are federated; add trustDomains",
            )


def _on_tcp(policy: AuthorizationPolicy, rule: Rule) -> Iterator[Finding]:
    fields = list(dict.fromkeys(_http_fields(rule)))
    if not fields:
        return
    names = ", ".join(fields)
    if policy.action is Action.ALLOW:
        yield Finding(
            Severity.INFO,
            "http-rule-on-tcp",
            rule.place,
            f"HTTP is needed for {names}: where none is read, the whole rule is skipped, and allows nothing",
        )
    elif policy.action is Action.CUSTOM:
        yield Finding(
            Severity.WARNING,
            "http-rule-on-tcp",
            rule.place,
            f"HTTP is needed for {names}: a connection on which none is read is denied, as the rule can't be decided"
            " there; add ports to limit it",
        )
    else:
        yield Finding(Severity.WARNING, "http-fields-on-tcp", rule.place, _dropped(policy.action, rule, names))


def _dropped(action: Action, rule: Rule, names: str) -> str:
    verb = "denies" if action is Action.DENY else "records"
    if _only_http(rule):
        return (
            f"HTTP is needed for {names}: on a connection on which none is read the rule {verb} everything, as in"
            " Istio's sidecar; in Istio's ambient mode it has no effect there; add ports to limit it"
        )
    return (
        f"HTTP is needed for {names}: on a connection on which none is read the rule {verb} by its other fields alone,"
        " as in Istio's sidecar; in Istio's ambient mode it may have no effect there; add ports to limit it"
    )


def _http_fields(rule: Rule) -> Iterator[str]:
    for source in rule.sources:
        yield from _http_fields_of(SOURCE_FIELDS, source)
    for operation in rule.operations:
        yield from _http_fields_of(OPERATION_FIELDS, operation)
    yield from (one.key for one in rule.conditions if one.key.startswith(HTTP_KEYS))


def _http_fields_of(fields: tuple[Compared, ...], owner: Source | Operation) -> Iterator[str]:
    for field in fields:
        if field.name in _HTTP_FIELDS:
            values, negated = field.values(owner)
            yield from [field.name] * bool(values) + [field.negation] * bool(negated)


def _only_http(rule: Rule) -> bool:
    """Whether, without what needs HTTP, some source and some operation match everything."""
    return (
        all(one.key.startswith(HTTP_KEYS) for one in rule.conditions)
        and (not rule.sources or any(_is_only_http(SOURCE_FIELDS, one) for one in rule.sources))
        and (not rule.operations or any(_is_only_http(OPERATION_FIELDS, one) for one in rule.operations))
    )


def _is_only_http(fields: tuple[Compared, ...], owner: Source | Operation) -> bool:
    return not any(any(field.values(owner)) for field in fields if field.name not in _HTTP_FIELDS)


def _never_matches(policy: AuthorizationPolicy, rule: Rule, compared: Comparison) -> Iterator[Finding]:
    found: list[tuple[Place, str]] = []
    for number, source in enumerate(rule.sources):
        reasons = [*_excluded(SOURCE_FIELDS, source, compared, policy), *_contradictory(source)]
        found += [(_source_place(rule, number), reason) for reason in reasons[:1]]
    for number, operation in enumerate(rule.operations):
        place = rule.place.below(f"to[{number}].operation")
        found += [(place, reason) for reason in list(_excluded(OPERATION_FIELDS, operation, compared, policy))[:1]]
    for number, condition in enumerate(rule.conditions):
        reason = _unmet(condition, rule.conditions[:number], compared, policy)
        if reason:
            found.append((rule.place.below(f"when[{number}]"), reason))
    effect = {Action.ALLOW: "allows", Action.DENY: "denies"}.get(policy.action, "does")
    for place, reason in found:
        yield Finding(
            Severity.WARNING, "never-matches", place, f"this never matches, and so {effect} nothing: {reason}"
        )


def _excluded(
    fields: tuple[Compared, ...], owner: Source | Operation, compared: Comparison, policy: AuthorizationPolicy
) -> Iterator[str]:
    for field in fields:
        values, negated = field.values(owner)
        if (
            values
            and negated
            and _decidable(field.kind, policy)
            and compared.all_covered(field.kind, values, negated, policy.meta.namespace)
        ):
            yield f"each of {field.name} is excluded by {field.negation}; remove one of them"


def _decidable(kind: str, policy: AuthorizationPolicy) -> bool:
    """False for some fields of a rule that denies: an address or a port that is not known matches whatever is wanted,
    and of a header's lines one may be wanted and another one not excluded.
    """
    return policy.action is Action.ALLOW or kind not in ("ip", "exact", "header")


def _contradictory(source: Source) -> Iterator[str]:
    if not source.principals or not source.namespaces or any("*" in one for one in source.principals):
        return
    if not any(_is_in(principal, pattern) for principal in source.principals for pattern in source.namespaces):
        yield "none of principals is in one of namespaces; remove one of them, or make two sources of it"


def _is_in(principal: str, pattern: str) -> bool:
    _, *parts = principal.split("/ns/")
    # A star also matches '/', so a pattern with one can't be decided part by part.
    return "*" in pattern or any(namespace_matches(pattern, part.partition("/")[0]) for part in parts)


def _unmet(
    condition: Condition, before: tuple[Condition, ...], compared: Comparison, policy: AuthorizationPolicy
) -> str:
    kind = kind_of_key(condition.key)
    values, negated = condition.values, condition.not_values
    if not _decidable(kind, policy):
        return ""
    if values and negated and compared.all_covered(kind, values, negated, policy.meta.namespace):
        return "each of values is excluded by notValues; remove one of them"
    if any(compared.contradicts(one, condition) for one in before):
        return f"another condition on {condition.key} allows none of these values; make one condition of them"
    return ""


def _source_place(rule: Rule, number: int) -> Place:
    return rule.place.below(f"from[{number}].source")
