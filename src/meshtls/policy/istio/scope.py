"""Which policies apply to a workload: by namespace, root namespace and selector. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from meshtls.policy.istio.model import (
    AuthorizationPolicy,
    Documents,
    JwtRule,
    Labels,
    MeshSettings,
    Metadata,
    RequestAuthentication,
    Workload,
)

__all__ = [
    "age",
    "applies",
    "applying_authentications",
    "applying_policies",
    "jwt_rules_of",
    "policy_name",
    "selects",
    "unselected",
]

_NEVER = datetime.max.replace(tzinfo=UTC)


def selects(selector: Labels, workload: Workload) -> bool:
    """Whether the workload has every label of the selector; an empty one selects all."""
    return set(selector) <= set(workload.labels)


def applies(meta: Metadata, selector: Labels, workload: Workload, mesh: MeshSettings) -> bool:
    """Whether a policy of the workload's namespace, or of the root namespace, selects the workload."""
    return meta.namespace in (workload.namespace, mesh.root_namespace) and selects(selector, workload)


def applying_policies(
    policies: Iterable[AuthorizationPolicy], workload: Workload, mesh: MeshSettings
) -> tuple[AuthorizationPolicy, ...]:
    """In their order. One with ``targetRefs`` is for gateways alone."""
    return tuple(one for one in policies if not one.target_refs and applies(one.meta, one.selector, workload, mesh))


def applying_authentications(
    documents: Iterable[RequestAuthentication], workload: Workload, mesh: MeshSettings
) -> tuple[RequestAuthentication, ...]:
    """In their order; all of them count, they don't override each other."""
    return tuple(one for one in documents if not one.target_refs and applies(one.meta, one.selector, workload, mesh))


def jwt_rules_of(documents: Documents, workload: Workload, mesh: MeshSettings) -> tuple[JwtRule, ...]:
    """The JWT rules of all RequestAuthentications that apply."""
    applying = applying_authentications(documents.request_authentications, workload, mesh)
    return tuple(rule for one in applying for rule in one.rules)


def unselected(documents: Documents, workload: Workload, mesh: MeshSettings) -> Iterator[tuple[str, Labels]]:
    """Name and selector of each policy in the workload's scope whose selector it has not the labels for."""
    authorizing, authenticating = documents.authorization_policies, documents.request_authentications
    selecting = [(one.meta, one.selector) for one in authorizing if not one.target_refs]
    selecting += [(one.meta, one.selector) for one in authenticating if not one.target_refs]
    selecting += [(one.meta, one.selector) for one in documents.peer_authentications]
    for meta, selector in selecting:
        if meta.namespace in (workload.namespace, mesh.root_namespace) and not selects(selector, workload):
            yield policy_name(meta), selector


def age(meta: Metadata) -> tuple[datetime, str, str]:
    """Sorts the oldest first; of the same age, and without one, by name and namespace."""
    created = meta.created or _NEVER
    return (created if created.tzinfo else created.replace(tzinfo=UTC), meta.name, meta.namespace)


def policy_name(meta: Metadata) -> str:
    """As Istio names it in its filters: ``ns[web]-policy[allow-shop]``."""
    return f"ns[{meta.namespace}]-policy[{meta.name}]"
