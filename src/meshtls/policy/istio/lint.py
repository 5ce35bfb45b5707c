"""What is suspicious in a set of documents: what has no effect, or another than it seems, or lets too much in. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshtls.policy.istio.fields_security import DRY_RUN
from meshtls.policy.istio.fields_values import parsed_flag
from meshtls.policy.istio.lint_covers import Comparison
from meshtls.policy.istio.lint_finding import Finding, Severity
from meshtls.policy.istio.lint_hosts import findings_of_hosts
from meshtls.policy.istio.lint_rules import findings_of
from meshtls.policy.istio.lint_values import findings_of_values
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    DestinationRule,
    Documents,
    Labels,
    MeshSettings,
    Metadata,
    MtlsMode,
    PeerAuthentication,
    RequestAuthentication,
    Rule,
    Workload,
)
from meshtls.policy.istio.scope import age

__all__ = ["Finding", "Severity", "findings"]

_Document = PeerAuthentication | AuthorizationPolicy | RequestAuthentication | DestinationRule
#: Pairs of a DENY and an ALLOW rule that are compared, before the rest is given up.
_MOST_PAIRS = 200_000


def findings(
    documents: Documents, mesh: MeshSettings, known: Iterable[Workload] = (), federated: Iterable[str] = ()
) -> tuple[Finding, ...]:
    """The findings, by file and line.

    ``known`` are the workloads there are, if that is known, and ``federated`` the trust domains whose bundles we have
    beside our own.
    """
    workloads, partners = tuple(known), tuple(federated)
    compared = Comparison(mesh)
    found = [
        *_dry_runs(documents),
        *_ignored_targets(documents),
        *_peer_authentications(documents, mesh, workloads),
        *_without_strict(documents, mesh, workloads),
        *_selecting_nothing(documents, mesh, workloads),
        *(one for policy in _acting(documents) for one in findings_of(policy, compared, partners)),
        *(one for policy in _acting(documents) for one in findings_of_values(policy, mesh)),
        *(one for policy in _acting(documents) for one in findings_of_hosts(policy)),
        *_shadowed(documents, mesh, compared),
    ]
    if compared.exhausted:
        text = "the rules are too many to compare all of them: some that never match may not be listed"
        found.append(Finding(Severity.INFO, "not-all-compared", None, text))
    files = {file: number for number, file in enumerate(dict.fromkeys(one.place.file for one in found if one.place))}
    end = len(files)
    return tuple(sorted(found, key=lambda one: (files[one.place.file], one.place.line) if one.place else (end, 0)))


def _all(documents: Documents) -> Iterator[_Document]:
    yield from documents.peer_authentications
    yield from documents.authorization_policies
    yield from documents.request_authentications
    yield from documents.destination_rules


def _acting(documents: Documents) -> Iterator[AuthorizationPolicy]:
    return (one for one in documents.authorization_policies if not one.target_refs)


def _dry_runs(documents: Documents) -> Iterator[Finding]:
    for one in _all(documents):
        text = dict(one.meta.annotations).get(DRY_RUN)
        if text is None:
            continue
        if not isinstance(one, AuthorizationPolicy):
            yield Finding(
                Severity.WARNING,
                "dry-run-without-effect",
                one.meta.place,
                f"{DRY_RUN} is for an AuthorizationPolicy only: this {type(one).__name__} is in force; remove it",
            )
        elif parsed_flag(text) is None:
            yield Finding(
                Severity.ERROR,
                "dry-run-unreadable",
                one.meta.place,
                f'{DRY_RUN} is {text!r}, which is neither true nor false: the policy is in force; write "true" or'
                ' "false"',
            )


def _ignored_targets(documents: Documents) -> Iterator[Finding]:
    targeted: tuple[AuthorizationPolicy | RequestAuthentication, ...]
    targeted = (*documents.authorization_policies, *documents.request_authentications)
    for one in targeted:
        if one.target_refs:
            yield Finding(
                Severity.WARNING,
                "target-refs-ignored",
                one.meta.place,
                "a policy with targetRefs is for gateways and waypoints: no sidecar enforces it; use a selector",
            )


def _peer_authentications(
    documents: Documents, mesh: MeshSettings, workloads: tuple[Workload, ...]
) -> Iterator[Finding]:
    levels: dict[tuple[str, frozenset[tuple[str, str]]], list[PeerAuthentication]] = {}
    for one in documents.peer_authentications:
        if one.selector and one.meta.namespace == mesh.root_namespace:
            yield Finding(
                Severity.WARNING,
                "root-selector",
                one.meta.place,
                "a PeerAuthentication with a selector is ignored in the root namespace; move it to the workload's",
            )
            continue
        levels.setdefault((one.meta.namespace, frozenset(one.selector)), []).append(one)
    losers: dict[int, tuple[PeerAuthentication, PeerAuthentication]] = {}
    for level in levels.values():
        first = min(level, key=lambda one: age(one.meta))
        losers |= {id(one): (one, first) for one in level if one is not first}
    for workload in workloads:
        for one, first in _overlapping(levels, workload):
            losers.setdefault(id(one), (one, first))
    for one, first in losers.values():
        yield from _not_in_force(one, first)


def _overlapping(
    levels: dict[tuple[str, frozenset[tuple[str, str]]], list[PeerAuthentication]], workload: Workload
) -> Iterator[tuple[PeerAuthentication, PeerAuthentication]]:
    labels = set(workload.labels)
    selecting = [
        one
        for (namespace, selector), level in levels.items()
        if namespace == workload.namespace and selector and selector <= labels
        for one in level
    ]
    if selecting:
        first = min(selecting, key=lambda one: age(one.meta))
        yield from ((one, first) for one in selecting if one is not first)


def _not_in_force(one: PeerAuthentication, first: PeerAuthentication) -> Iterator[Finding]:
    winner = f"{first.meta.namespace}/{first.meta.name}"
    level = "a workload" if one.selector else "the namespace"
    yield Finding(
        Severity.WARNING,
        "several-at-one-level",
        one.meta.place,
        f"only the oldest PeerAuthentication of {level} is in force, which is {winner}, and they are not merged;"
        " remove one of them",
    )
    if one.ports:
        yield Finding(
            Severity.WARNING,
            "port-level-not-in-force",
            one.meta.place,
            f"its portLevelMtls is not in force, since that of {winner} counts; move the ports there",
        )


def _without_strict(documents: Documents, mesh: MeshSettings, workloads: tuple[Workload, ...]) -> Iterator[Finding]:
    plain: dict[str, list[PeerAuthentication]] = {}
    for one in documents.peer_authentications:
        if not one.selector:
            plain.setdefault(one.meta.namespace, []).append(one)
    chosen = {namespace: min(level, key=lambda one: age(one.meta)).mode for namespace, level in plain.items()}
    of_mesh = chosen.get(mesh.root_namespace, MtlsMode.UNSET)
    namespaces = {one.meta.namespace for one in documents.peer_authentications}
    namespaces |= {one.meta.namespace for one in documents.authorization_policies}
    namespaces |= {one.namespace for one in workloads}
    namespaces.discard(mesh.root_namespace)

    def mode(namespace: str) -> MtlsMode:
        own = chosen.get(namespace, MtlsMode.UNSET)
        return of_mesh if own is MtlsMode.UNSET else own

    open_ones = sorted(one for one in namespaces if mode(one) is not MtlsMode.STRICT)
    if open_ones or (not namespaces and of_mesh is not MtlsMode.STRICT):
        where = f"in {_some(open_ones)}" if open_ones else "everywhere"
        yield Finding(
            Severity.WARNING,
            "strict-missing",
            None,
            f"plaintext is taken {where}, since no PeerAuthentication of the namespace or the mesh is STRICT; add one"
            " once no plaintext caller is left",
        )
    for one in documents.peer_authentications:
        if one.selector and one.meta.namespace != mesh.root_namespace:
            yield from _open_workload(one)


def _open_workload(one: PeerAuthentication) -> Iterator[Finding]:
    weak = (MtlsMode.PERMISSIVE, MtlsMode.DISABLE)
    where = [f"port {port} is {mode.value}" for port, mode in one.ports if mode in weak]
    if one.mode in weak:
        where.insert(0, f"the mode is {one.mode.value}")
    if where:
        text = f"plaintext is taken: {_some(where)}; make it STRICT once no plaintext caller is left"
        yield Finding(Severity.INFO, "not-strict", one.meta.place, text)


def _selecting_nothing(documents: Documents, mesh: MeshSettings, workloads: tuple[Workload, ...]) -> Iterator[Finding]:
    if not workloads:
        return
    # Several workloads have the same labels.
    kinds = {(one.namespace, frozenset(one.labels)) for one in workloads}
    seen: dict[tuple[str, Labels], bool] = {}
    for one in _all(documents):
        if isinstance(one, AuthorizationPolicy | RequestAuthentication) and one.target_refs:
            continue
        if isinstance(one, DestinationRule) and not one.selector:
            continue
        scope = one.meta.namespace, one.selector
        if scope not in seen:
            everywhere = scope[0] == mesh.root_namespace
            seen[scope] = any(
                (everywhere or namespace == scope[0]) and labels.issuperset(scope[1]) for namespace, labels in kinds
            )
        if not seen[scope]:
            labels = ", ".join(f"{key}={value}" for key, value in one.selector)
            which = f"with {labels} " if labels else ""
            where = "in the mesh" if one.meta.namespace == mesh.root_namespace else f"in namespace {one.meta.namespace}"
            yield Finding(
                Severity.WARNING,
                "selects-nothing",
                one.meta.place,
                f"no known workload {which}is {where}: it does nothing; check the selector and the namespace",
            )


def _shadowed(documents: Documents, mesh: MeshSettings, compared: Comparison) -> Iterator[Finding]:
    denying: dict[str, list[tuple[AuthorizationPolicy, int, Rule]]] = {}
    for policy in _acting(documents):
        if policy.action is Action.DENY and not policy.dry_run:
            rules = denying.setdefault(policy.meta.namespace, [])
            rules += [(policy, number, rule) for number, rule in enumerate(policy.rules)]
    left = _MOST_PAIRS
    for policy in _acting(documents):
        if policy.action is not Action.ALLOW:
            continue
        spaces = dict.fromkeys((policy.meta.namespace, mesh.root_namespace))
        candidates = [one for space in spaces for one in denying.get(space, ())]
        for rule in policy.rules:
            left -= len(candidates)
            if left < 0:
                text = f"more than {_MOST_PAIRS} pairs of a DENY and an ALLOW rule: the rest was not compared"
                yield Finding(Severity.INFO, "not-all-compared", None, text)
                return
            yield from _denied_by(policy.meta, policy.selector, rule, candidates, compared)


def _denied_by(
    meta: Metadata,
    selector: Labels,
    rule: Rule,
    candidates: list[tuple[AuthorizationPolicy, int, Rule]],
    compared: Comparison,
) -> Iterator[Finding]:
    for deny, number, denying in candidates:
        if set(deny.selector) <= set(selector) and compared.covers_rule(
            denying, rule, deny.meta.namespace, meta.namespace
        ):
            yield Finding(
                Severity.WARNING,
                "deny-shadows-allow",
                rule.place,
                f"the rule allows nothing: rule {number} of the DENY policy {deny.meta.namespace}/{deny.meta.name}"
                " matches all that it matches, and DENY comes first; narrow that one, or remove this one",
            )
            return


def _some(words: list[str]) -> str:
    return ", ".join(words) if len(words) <= 10 else f"{', '.join(words[:10])} and {len(words) - 10} more"
