"""How a destination is dialled: the DestinationRule that applies, and its TLS settings for a port. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from meshtls.errors import RequestError
from meshtls.policy.istio.model import ClientTls, DestinationRule, Documents, MeshSettings, Workload
from meshtls.policy.istio.scope import age, selects
from meshtls.scalars import shown

__all__ = ["choose_rule", "client_tls"]

_SUFFIX = "svc.cluster.local"


def client_tls(
    documents: Documents, mesh: MeshSettings, workload: Workload, host: str, port: int, subset: str | None = None
) -> ClientTls | None:
    """What the DestinationRules say of a call from ``workload`` to ``host``.

    ``host`` is a name as the client uses it: ``web`` is ``web.shop.svc.cluster.local`` to a client in the namespace
    ``shop``, and ``web.shop`` and ``web.shop.svc`` are to every client. A setting for the port beats the subset's,
    which beats the rule's own; of two for the port the subset's counts. None where nothing is said: then it is mutual
    TLS where the destination has a sidecar, else plaintext.

    Raises RequestError for a ``subset`` that the rule does not have: its settings may be stricter than the rule's own.
    """
    rule = choose_rule(documents.destination_rules, mesh, workload, host)
    named = next((one for one in rule.subsets if one.name == subset), None) if rule else None
    if subset is not None and named is None:
        known = ", ".join(one.name for one in rule.subsets) if rule else ""
        raise RequestError(
            f"wanted a subset of the DestinationRule for {host}, {f'one of {known}' if known else 'which has none'},"
            f" got {shown(subset)}"
        )
    if rule is None:
        return None
    of_port = {**dict(rule.ports), **(dict(named.ports) if named else {})}
    if port in of_port:
        return of_port[port]
    return named.tls if named and named.tls else rule.tls


def choose_rule(
    rules: Iterable[DestinationRule], mesh: MeshSettings, workload: Workload, host: str
) -> DestinationRule | None:
    """The rule that applies to a call from ``workload`` to ``host``.

    The client's namespace comes before the service's, and that before the root namespace. Within one, a rule whose
    selector is of this client comes first, then the most specific host, then the oldest.
    """
    rules = tuple(rules)
    known = _known_namespaces(rules, workload)
    wanted = _full_name(host, workload.namespace, known)
    namespaces = dict.fromkeys((workload.namespace, _namespace(wanted), mesh.root_namespace))
    for namespace in namespaces:
        # A selector is of clients in the rule's own namespace.
        found = [
            one
            for one in rules
            if one.meta.namespace == namespace
            and _is_host(_full_name(one.host, namespace, known), wanted)
            and (not one.selector or (namespace == workload.namespace and selects(one.selector, workload)))
        ]
        if found:
            # The most specific host has no star, and then is the longest.
            return min(
                found, key=lambda one: (not one.selector, one.host.startswith("*"), -len(one.host), age(one.meta))
            )
    return None


def _known_namespaces(rules: Iterable[DestinationRule], workload: Workload) -> frozenset[str]:
    """Istio asks its registry whether ``a.b`` is a service ``a`` of a namespace ``b``. Without one, that is known of
    the client's namespace, of those of the rules, and of those of the services that they name in full: else a rule for
    ``*.local`` would be one for ``example.com``.
    """
    named = (_namespace(one.host.lower().removesuffix(".")) for one in rules)
    return frozenset((workload.namespace, *(one.meta.namespace for one in rules), *filter(None, named)))


def _full_name(host: str, namespace: str, known: Collection[str]) -> str:
    """A service's name in full. A name with a dot is one of another domain, unless it is ``name.namespace[.svc]``."""
    host = host.lower().removesuffix(".")
    labels = host.split(".")
    if "*" in host or ":" in host:
        return host
    if len(labels) == 1:
        return f"{host}.{namespace}.{_SUFFIX}"
    if len(labels) == 2 and labels[1] in known:
        return f"{host}.{_SUFFIX}"
    if labels[2:] == ["svc"]:
        return f"{host}.{_SUFFIX.partition('.')[2]}"
    return host


def _namespace(host: str) -> str | None:
    labels: Sequence[str] = host.split(".")
    return labels[1] if labels[2:] == _SUFFIX.split(".") else None


def _is_host(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*") else pattern == host
