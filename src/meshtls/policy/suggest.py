"""The least AuthorizationPolicies that allow what was recorded. Pure.

A request is its caller, the port, the method and the path without its query; a connection is its caller and the port.
What was recorded of a workload is allowed to it, and nothing else is: no star, and no path template unless asked for.
Callers with the same operations share a rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import msgspec

from meshtls.errors import RequestError
from meshtls.policy.istio.model import Labels
from meshtls.policy.istio.paths import is_template, strip_query
from meshtls.policy.path_template import path_template
from meshtls.policy.recorded import Recorded
from meshtls.policy.request import Request
from meshtls.policy.workloads import workload_of
from meshtls.spiffeid import SpiffeId

__all__ = ["LeftOut", "Suggestion", "Suggestions", "Unlabelled", "rule_for"]

#: Different requests of one destination.
_MOST_REQUESTS = 50_000
_MOST_DESTINATIONS = 1000
_MOST_LEFT_OUT = 1000
#: Rules of one policy (the limit of Istio's API), and values of a rule's list of callers and operations.
_MOST_RULES = 512
#: Of a caller that proves no identity: it has no principal, and everybody else has one.
_PLAINTEXT = {"notPrincipals": ["*"]}

_Source = SpiffeId | None
#: Port, method and path; without method and path a connection.
_Operation = tuple[int | None, str | None, str | None]
#: Ports, methods and paths; empty is any.
_Product = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


class LeftOut(msgspec.Struct, frozen=True):
    """A request that was allowed and that no policy can allow without allowing others."""

    destination: str
    method: str
    path: str
    reason: str


class Unlabelled(msgspec.Struct, frozen=True):
    """A destination whose labels were not given: its policy is for its whole ``namespace``, and allows as much to the
    ``others`` there that were recorded.
    """

    destination: str
    namespace: str
    others: tuple[str, ...]


class Suggestion(msgspec.Struct, frozen=True):
    """A document, as it is written in YAML, and the destination that it is for."""

    destination: str
    document: Mapping[str, Any]
    plaintext: bool


class Suggestions:
    """Policies that allow what was recorded. ``add`` each line, then take the ``policies``.

    ``labels``: those of the destinations; the policy of one that is not there has no selector. ``templates``: write
    paths with identifiers as templates, which allows more than was recorded.
    """

    def __init__(self, labels: Mapping[SpiffeId, Labels], *, templates: bool = False) -> None:
        self._labels, self._templates = labels, templates
        self._seen: dict[SpiffeId, dict[tuple[_Source, _Operation], None]] = {}
        self._http_ports: defaultdict[SpiffeId, set[int | None]] = defaultdict(set)
        self._left_out: dict[LeftOut, None] = {}

    def add(self, line: Recorded) -> None:
        """Raises RequestError for more different requests than a policy should list."""
        request, http = line.request, line.request.http
        seen = self._seen.setdefault(request.destination, {})
        if http is not None:
            self._http_ports[request.destination].add(request.port)
        if not line.allowed:
            return
        operation: _Operation = (request.port, None, None)
        if http is not None:
            path = strip_query(http.path)
            if reason := _inexpressible(http.method, path, cut=line.cut):
                if len(self._left_out) < _MOST_LEFT_OUT:
                    self._left_out[LeftOut(str(request.destination), http.method, path, reason)] = None
                return
            operation = (request.port, http.method, path_template(path) if self._templates else path)
        seen[request.source, operation] = None
        if len(seen) > _MOST_REQUESTS or len(self._seen) > _MOST_DESTINATIONS:
            raise RequestError(
                f"{request.destination}: wanted at most {_MOST_REQUESTS} different requests of one destination, and"
                f" {_MOST_DESTINATIONS} destinations, got more; write paths as templates (--templates), or fewer files"
            )

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        return tuple(self._left_out)

    @property
    def unlabelled(self) -> tuple[Unlabelled, ...]:
        by_namespace: defaultdict[str, list[SpiffeId]] = defaultdict(list)
        for one in sorted(self._seen):
            by_namespace[workload_of(one).namespace].append(one)
        return tuple(
            Unlabelled(str(one), namespace, tuple(str(other) for other in found if other != one))
            for namespace, found in by_namespace.items()
            for one in found
            if one not in self._labels
        )

    def policies(self) -> Iterator[Suggestion]:
        """The policies, by destination. A destination of which nothing was allowed gets a policy without rules, which
        allows nothing.
        """
        names: set[tuple[str, str]] = set()
        for destination in sorted(self._seen):
            seen = self._seen[destination]
            rules = _rules(seen, self._http_ports[destination])
            plaintext = any(source is None for source, _ in seen)
            for begin in range(0, len(rules) or 1, _MOST_RULES):
                namespace = workload_of(destination).namespace
                name = _free_name(f"allow-seen-{_name(destination)}", namespace, names)
                document = self._document(destination, name, rules[begin : begin + _MOST_RULES])
                yield Suggestion(str(destination), document, plaintext)

    def _document(self, destination: SpiffeId, name: str, rules: list[dict[str, Any]]) -> Mapping[str, Any]:
        # The labels of one that were not given are not guessed: a selector that is wrong selects nothing.
        labels = self._labels.get(destination, ())
        return {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": workload_of(destination).namespace},
            "spec": {
                **({"selector": {"matchLabels": dict(labels)}} if labels else {}),
                "action": "ALLOW",
                **({"rules": rules} if rules else {}),
            },
        }


def _name(destination: SpiffeId) -> str:
    """The name of the service account, or of the path's end, as Kubernetes takes it."""
    text = workload_of(destination).service_account or destination.path.rpartition("/")[2]
    plain = "".join(one if one.isalnum() else "-" for one in text.lower()).strip("-")
    return plain[:40].strip("-") or "workload"


def _free_name(wanted: str, namespace: str, used: set[tuple[str, str]]) -> str:
    name, number = wanted, 1
    while (namespace, name) in used:
        number += 1
        name = f"{wanted}-{number}"
    used.add((namespace, name))
    return name


def _inexpressible(method: str, path: str, *, cut: bool) -> str:
    """Why no field of a rule means just this request; empty if one does."""
    if cut:
        return "the access log has only the beginning of the path"
    if method.startswith("*") or method.endswith("*"):
        return "a method with a star at an end is a pattern"
    if method == "CONNECT":
        return "" if not path else "CONNECT has no path"
    if not path:
        return "an empty path can't be written in a rule"
    if path.startswith("*") or path.endswith("*") or is_template(path):
        return "a path with a star at an end, or with an operator of templates, is a pattern"
    return ""


def _rules(seen: Iterable[tuple[_Source, _Operation]], http_ports: Set[int | None]) -> list[dict[str, Any]]:
    by_source: defaultdict[_Source, set[_Operation]] = defaultdict(set)
    for source, operation in seen:
        port, method, _ = operation
        if method is not None or port not in http_ports:  # of such a port's connections each request was recorded
            by_source[source].add(operation)
    by_operations: defaultdict[tuple[_Product, ...], list[_Source]] = defaultdict(list)
    for source, operations in by_source.items():
        by_operations[_products(operations)].append(source)
    rules = []
    for products, sources in by_operations.items():
        principals = sorted(str(one).removeprefix("spiffe://") for one in sources if one is not None)
        of_sources: list[dict[str, Any]] = [{"source": {"principals": principals}}] if principals else []
        of_sources += [{"source": dict(_PLAINTEXT)}] if None in sources else []
        # Of connections by itself: where no HTTP is read, a rule with any field of HTTP is skipped whole.
        of_connections = [one for one in products if not one[1]]
        of_requests = [one for one in products if one[1]]
        for some in (of_connections, of_requests):
            for begin in range(0, len(some), _MOST_RULES):
                to = [_written(one) for one in some[begin : begin + _MOST_RULES]]
                rules.append({"from": of_sources, **({"to": to} if all(to) else {})})
    return sorted(rules, key=str)


def _products(seen: Set[_Operation]) -> tuple[_Product, ...]:
    """Products of ports, methods and paths that are just these operations together."""
    by_port: defaultdict[int | None, defaultdict[str | None, set[str]]] = defaultdict(lambda: defaultdict(set))
    for port, method, path in seen:
        by_port[port][method].update([path] if path else [])
    # Methods with the same paths at a port are one product, and so are ports with the same methods and paths.
    ports_of: defaultdict[tuple[tuple[str, ...], tuple[str, ...]], list[int | None]] = defaultdict(list)
    for port, paths_of in by_port.items():
        methods_of: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
        for method, paths in paths_of.items():
            methods_of[tuple(sorted(paths))] += [method] if method else []
        for product_paths, methods in methods_of.items():
            ports_of[tuple(sorted(methods)), product_paths].append(port)
    return tuple(
        sorted(
            # A log of an older version does not name the port.
            (() if None in ports else tuple(map(str, sorted(filter(None, ports)))), methods, paths)
            for (methods, paths), ports in ports_of.items()
        )
    )


def _written(operation: _Product) -> dict[str, Any]:
    fields = {
        name: list(values) for name, values in zip(("ports", "methods", "paths"), operation, strict=True) if values
    }
    return {"operation": fields} if fields else {}


def rule_for(request: Request) -> dict[str, Any] | None:
    """The rule that allows just this HTTP request; None if no rule means just that."""
    http = request.http
    if http is None or _inexpressible(http.method, strip_query(http.path), cut=False):
        return None
    operation = (request.port, http.method, strip_query(http.path))
    return _rules([(request.source, operation)], {request.port})[0]
