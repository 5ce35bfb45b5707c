"""The least AuthorizationPolicies that allow what was recorded. Pure.

A request is its caller, the port, the method and the path without its query; a connection is its caller and the port.
What was recorded of a workload is allowed to it, and nothing else is: no star, and no path template unless asked for.
Callers with the same operations share a rule. A value that the parser refuses, or that the engine takes for more than
itself, is left out: anybody can send a path with stars and braces.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

import msgspec

from meshtls.errors import RequestError
from meshtls.policy.istio.fields import Value
from meshtls.policy.istio.fields_values import NAMESPACE, PATH, PATTERN, SERVICE_ACCOUNT
from meshtls.policy.istio.match import Strings, accounts_of, expand_principals
from meshtls.policy.istio.model import Labels, MeshSettings
from meshtls.policy.istio.paths import Paths, is_template, strip_query
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
    """What was allowed and no policy can allow without allowing others: a request; with a ``source``, all calls of this
    caller; with neither that nor a method, all calls of the destination, which has no policy.
    """

    destination: str
    method: str
    path: str
    reason: str
    source: str = ""


class Unlabelled(msgspec.Struct, frozen=True):
    """A destination whose labels were not given: its policy is for its whole ``namespace``, and allows as much to the
    ``others`` there that were recorded.
    """

    destination: str
    namespace: str
    others: tuple[str, ...]


class Suggestion(msgspec.Struct, frozen=True):
    """A document, as it is written in YAML, and the destination that it is for. ``left_out``: of which something is not
    allowed since no rule means just that.
    """

    destination: str
    document: Mapping[str, Any]
    plaintext: bool
    left_out: bool = False


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
        self._incomplete: set[SpiffeId] = set()
        self._without_policy: dict[SpiffeId, None] = {}

    def add(self, line: Recorded) -> None:
        """Raises RequestError for more different requests than a policy should list."""
        request, http = line.request, line.request.http
        if reason := _without_policy(request.destination):
            self._without_policy[request.destination] = None
            self._leave_out(request, reason)
            self._check_sizes(request.destination)
            return
        seen = self._seen.setdefault(request.destination, {})
        if http is not None:
            self._http_ports[request.destination].add(request.port)
        if not line.allowed:
            return
        operation: _Operation = (request.port, None, None)
        if http is not None:
            path = strip_query(http.path)
            if reason := _inexpressible(http.method, path, cut=line.cut):
                self._leave_out(request, reason, method=http.method, path=path)
                return
            operation = (request.port, http.method, _as_template(path) if self._templates else path)
        if reason := _unnamed(request.source, request.destination):
            self._leave_out(request, reason, source=str(request.source))
            return
        seen[request.source, operation] = None
        self._check_sizes(request.destination)

    def _check_sizes(self, destination: SpiffeId) -> None:
        destinations = len(self._seen) + len(self._without_policy)
        if len(self._seen.get(destination, ())) > _MOST_REQUESTS or destinations > _MOST_DESTINATIONS:
            raise RequestError(
                f"{destination}: wanted at most {_MOST_REQUESTS} different requests of one destination, and"
                f" {_MOST_DESTINATIONS} destinations, got more; write paths as templates (--templates), or fewer files"
            )

    def _leave_out(self, request: Request, reason: str, *, method: str = "", path: str = "", source: str = "") -> None:
        self._incomplete.add(request.destination)
        if len(self._left_out) < _MOST_LEFT_OUT:
            self._left_out[LeftOut(str(request.destination), method, path, reason, source)] = None

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        return tuple(self._left_out)

    @property
    def without_policy(self) -> tuple[str, ...]:
        """The destinations that no policy can be for."""
        return tuple(map(str, self._without_policy))

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
            rules = _rules(seen, self._http_ports[destination], destination)
            plaintext = any(source is None for source, _ in seen)
            for begin in range(0, len(rules) or 1, _MOST_RULES):
                namespace = workload_of(destination).namespace
                name = _free_name(f"allow-seen-{_name(destination)}", namespace, names)
                document = self._document(destination, name, rules[begin : begin + _MOST_RULES])
                yield Suggestion(str(destination), document, plaintext, destination in self._incomplete)

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
    if problem := _problem(PATTERN, method):
        return f"the method can't be written in a rule: {problem}"
    if method == "CONNECT":
        return "" if not path else "CONNECT has no path"
    if not path:
        return "an empty path can't be written in a rule"
    if problem := _problem(PATH, path):
        return f"the path can't be written in a rule: {problem}"
    if is_template(path) or not Strings([path]).only_exact:
        return "a path with a star at an end, or with an operator of templates, is a pattern"
    return ""


def _without_policy(destination: SpiffeId) -> str:
    """Why no policy can be for this workload; empty if one can."""
    problem = _problem(NAMESPACE, workload_of(destination).namespace)
    return f"no policy can be in its namespace: {problem}" if problem else ""


def _unnamed(source: SpiffeId | None, destination: SpiffeId) -> str:
    """Why no source of a rule means just this caller; empty if one does."""
    if source is None or _is_principal(source, destination) or _account(source) is not None:
        return ""
    return (
        f"{source.trust_domain} stands for {destination.trust_domain} in principals, and the ID has no"
        " /ns/<namespace>/sa/<account> for serviceAccounts"
    )


def _problem(kind: Value, text: str) -> str:
    """What the parser of policies says against this value; empty if it takes it."""
    try:
        kind.parse(text)
    except RequestError as error:
        return str(error)
    return ""


def _as_template(path: str) -> str:
    """The path with its identifiers as operators, if that is a template; else as it is."""
    found = path_template(path)
    if _problem(PATH, found):
        return path
    try:
        return found if Paths([found]).matches(path) else path
    except RequestError:  # stricter than the parser
        return path


def _rules(
    seen: Iterable[tuple[_Source, _Operation]], http_ports: Set[int | None], destination: SpiffeId
) -> list[dict[str, Any]]:
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
        of_sources = [{"source": one} for one in _sources(sources, destination)]
        # Of connections by itself: where no HTTP is read, a rule with any field of HTTP is skipped whole.
        of_connections = [one for one in products if not one[1]]
        of_requests = [one for one in products if one[1]]
        for some in (of_connections, of_requests):
            for begin in range(0, len(some), _MOST_RULES):
                to = [_written(one) for one in some[begin : begin + _MOST_RULES]]
                rules.append({"from": of_sources, **({"to": to} if all(to) else {})})
    return sorted(rules, key=str)


def _sources(sources: Iterable[_Source], destination: SpiffeId) -> Iterator[dict[str, list[str]]]:
    principals: list[str] = []
    accounts: defaultdict[str, list[str]] = defaultdict(list)
    plaintext = False
    for one in sources:
        if one is None:
            plaintext = True
        elif _is_principal(one, destination):
            principals.append(_principal(one))
        elif account := _account(one):
            accounts[one.trust_domain.name].append(account)
    if principals:
        yield {"principals": sorted(principals)}
    for domain, found in sorted(accounts.items()):
        yield {"serviceAccounts": sorted(found), "trustDomains": [domain]}
    if plaintext:
        yield dict(_PLAINTEXT)


def _principal(source: SpiffeId) -> str:
    return str(source).removeprefix("spiffe://")


def _is_principal(source: SpiffeId, destination: SpiffeId) -> bool:
    """Whether ``principals`` of a policy for the destination mean just this caller: to a workload of another trust
    domain ``cluster.local`` means its own.
    """
    name = _principal(source)
    return expand_principals((name,), MeshSettings(trust_domain=destination.trust_domain.name)) == (name,)


def _account(source: SpiffeId) -> str | None:
    """The value of ``serviceAccounts``. With ``trustDomains`` it means this caller, and IDs of the same trust domain
    with other segments around ``/ns/<namespace>`` and ``/sa/<account>``, which no Istio issues.
    """
    of_path = accounts_of(source.path) if len(source.segments) == 4 else ()
    return of_path[0] if len(of_path) == 1 and not _problem(SERVICE_ACCOUNT, of_path[0]) else None


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


def rule_for(request: Request) -> dict[str, Any] | str:
    """The rule that allows just this HTTP request, or why no rule does."""
    http = request.http
    if http is None:
        return "it is no HTTP request"
    path = strip_query(http.path)
    if reason := _inexpressible(http.method, path, cut=False) or _unnamed(request.source, request.destination):
        return reason
    return _rules([(request.source, (request.port, http.method, path))], {request.port}, request.destination)[0]
