"""Policies evaluated plainly, rule by rule and clause by clause, as the list of semantics says: no index, no shortcut.

It shares nothing with the compiled evaluator but the model, so that the two can be compared. Texts are matched by
regular expressions, which the compiled one does without.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping

from meshtls.policy.decision import PolicyVerdict
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    Condition,
    Documents,
    MeshSettings,
    MtlsMode,
    Operation,
    PeerAuthentication,
    Rule,
    Source,
    Workload,
)
from meshtls.policy.request import Request

__all__ = ["SlowPolicies", "slow_mode"]

ALLOW, DENY, NEEDS_HTTP = PolicyVerdict.ALLOW, PolicyVerdict.DENY, PolicyVerdict.NEEDS_HTTP
#: A field's answer; None is "only an HTTP request can tell".
Answer = bool | None


def text(pattern: str, value: str | None, *, flags: int = 0, empty: bool = False) -> bool:
    """Item 14."""
    if value is None:
        return False
    if pattern == "*":
        expression = ".*" if empty else ".+"
    elif pattern.startswith("*"):
        expression = ".*" + re.escape(pattern[1:])
    elif pattern.endswith("*"):
        expression = re.escape(pattern[:-1]) + ".*"
    else:
        expression = re.escape(pattern)
    return re.fullmatch(expression, value, flags | re.DOTALL) is not None


def address(value: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(value or "")
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def path_matches(pattern: str, path: str) -> bool:
    """Item 19."""
    path = re.split(r"[?#]", path, maxsplit=1)[0]
    if "{*}" not in pattern and "{**}" not in pattern:
        return text(pattern, path)
    expression = re.escape(pattern).replace(re.escape("{*}"), "[^/]+").replace(re.escape("{**}"), ".*")
    return re.fullmatch(expression, path, re.DOTALL) is not None


class SlowPolicies:
    def __init__(self, documents: Documents, mesh: MeshSettings, workload: Workload) -> None:
        self.mesh = mesh
        self.policies = [one for one in documents.authorization_policies if self._applies(one, workload)]

    def _applies(self, policy: AuthorizationPolicy, workload: Workload) -> bool:
        """Item 10."""
        labels = dict(workload.labels)
        return (
            policy.meta.namespace in (workload.namespace, self.mesh.root_namespace)
            and all(labels.get(key) == value for key, value in policy.selector)
            and not policy.target_refs
        )

    def evaluate(self, request: Request, *, reads_http: bool, dry_run: bool = False) -> PolicyVerdict:
        """Item 7, without CUSTOM unless it leaves open what a request will get."""
        in_force = [one for one in self.policies if dry_run or not one.dry_run]
        before_http = reads_http and request.http is None
        denied = self._any(in_force, Action.DENY, request, reads_http)
        if denied:
            return DENY
        has_allow = any(one.action is Action.ALLOW for one in in_force)
        allowed = self._any(in_force, Action.ALLOW, request, reads_http) if has_allow else True
        if allowed is False:
            return DENY
        asked = before_http and self._any(self.policies, Action.CUSTOM, request, reads_http, dry_run=False) is not False
        return NEEDS_HTTP if denied is None or allowed is None or asked else ALLOW

    def matching(self, action: Action, request: Request, *, reads_http: bool) -> set[tuple[str, str]]:
        """Policy and rule of each that matches."""
        return {
            (f"ns[{policy.meta.namespace}]-policy[{policy.meta.name}]", str(number))
            for policy in self.policies
            if policy.action is action and not policy.dry_run
            for number, rule in enumerate(policy.rules)
            if self.rule(rule, policy, request, reads_http)
        }

    def _any(
        self,
        policies: Iterable[AuthorizationPolicy],
        action: Action,
        request: Request,
        reads_http: bool,
        dry_run: bool | None = None,
    ) -> Answer:
        return any_of(
            self.rule(rule, policy, request, reads_http)
            for policy in policies
            if policy.action is action and dry_run in (None, policy.dry_run)
            for rule in policy.rules
        )

    def rule(self, rule: Rule, policy: AuthorizationPolicy, request: Request, reads_http: bool) -> Answer:
        """Item 9."""
        denies = policy.action is not Action.ALLOW
        sources = [self.source(one, policy.meta.namespace, request, denies) for one in rule.sources] or [[]]
        operations = [self.operation(one, request, denies) for one in rule.operations] or [[]]
        conditions = [
            one for each in rule.conditions for one in self.condition(each, policy.meta.namespace, request, denies)
        ]
        if not reads_http:
            # Item 12.
            every = [*(one for each in (*sources, *operations) for one in each), *conditions]
            if not denies and any(http for http, _ in every):
                return False
            sources, operations = [without_http(one) for one in sources], [without_http(one) for one in operations]
            conditions = without_http(conditions)
        return all_of(
            (
                any_of(all_of(answers(one)) for one in sources),
                any_of(all_of(answers(one)) for one in operations),
                all_of(answers(conditions)),
            )
        )

    def source(self, source: Source, namespace: str, request: Request, denies: bool) -> list[tuple[bool, Answer]]:
        peer = None if request.peer is None else str(request.peer.spiffe_id).removeprefix("spiffe://")
        return [
            *both(False, source.principals, source.not_principals, lambda one: self.principal(one, peer)),
            *self.http_both(
                request, source.request_principals, source.not_request_principals, lambda one: subject(one, request)
            ),
            *both(False, source.namespaces, source.not_namespaces, lambda one: in_namespace(one, peer)),
            *both(
                False,
                source.service_accounts,
                source.not_service_accounts,
                lambda one: account(one, namespace, peer),
            ),
            *both(False, source.trust_domains, source.not_trust_domains, lambda one: self.domain(one, peer)),
            *ips(source.ip_blocks, source.not_ip_blocks, request.source_ip, denies),
            *ips(source.remote_ip_blocks, source.not_remote_ip_blocks, remote(request), denies),
        ]

    def operation(self, operation: Operation, request: Request, denies: bool) -> list[tuple[bool, Answer]]:
        http = request.http
        return [
            *self.http_both(
                request,
                operation.hosts,
                operation.not_hosts,
                lambda one: text(one, (http.host if http else None) or None, flags=re.IGNORECASE),
            ),
            *ports(operation.ports, operation.not_ports, request.port, denies),
            *self.http_both(
                request, operation.methods, operation.not_methods, lambda one: text(one, http.method if http else None)
            ),
            *self.http_both(
                request,
                operation.paths,
                operation.not_paths,
                lambda one: http is not None and path_matches(one, http.path),
            ),
        ]

    def condition(
        self, condition: Condition, namespace: str, request: Request, denies: bool
    ) -> list[tuple[bool, Answer]]:
        """Item 21."""
        key, values, not_values = condition.key, condition.values, condition.not_values
        auth = request.auth
        as_source = {
            "source.principal": Source(principals=values, not_principals=not_values),
            "source.namespace": Source(namespaces=values, not_namespaces=not_values),
            "source.serviceAccount": Source(service_accounts=values, not_service_accounts=not_values),
            "source.trustDomain": Source(trust_domains=values, not_trust_domains=not_values),
            "source.ip": Source(ip_blocks=values, not_ip_blocks=not_values),
            "remote.ip": Source(remote_ip_blocks=values, not_remote_ip_blocks=not_values),
            "request.auth.principal": Source(request_principals=values, not_request_principals=not_values),
        }
        if key in as_source:
            return self.source(as_source[key], namespace, request, denies)
        if key == "destination.port":
            return list(ports(values, not_values, request.port, denies))
        if key == "destination.ip":
            return list(ips(values, not_values, request.destination_ip, denies))
        if key == "connection.sni":
            sni = request.sni or None
            return list(both(False, values, not_values, lambda one: text(one, sni, flags=re.IGNORECASE)))
        of_http: Callable[[str], bool]
        if key == "request.auth.audiences":
            audiences = auth.audiences if auth else ()

            def of_http(one: str) -> bool:
                return any(text(one, audience) for audience in audiences)
        elif key == "request.auth.presenter":

            def of_http(one: str) -> bool:
                return text(one, auth.presenter if auth else None)
        elif key.startswith("request.headers["):
            return list(header(condition, request, denies))
        else:
            names = key.removeprefix("request.auth.claims[").removesuffix("]").split("][")
            claim: object = auth.claims if auth else {}
            for name in names:
                claim = claim.get(name) if isinstance(claim, Mapping) else None
            texts = claim if isinstance(claim, list | tuple) else [claim]
            if names in (["scope"], ["permission"]) and isinstance(claim, str):
                texts = claim.split()

            def of_http(one: str) -> bool:
                return any(isinstance(value, str) and text(one, value) for value in texts)

        return list(self.http_both(request, values, not_values, of_http))

    def principal(self, pattern: str, peer: str | None) -> bool:
        """Items 13, 15 and 16."""
        ours = [self.mesh.trust_domain, *self.mesh.trust_domain_aliases]
        domain, slash, rest = pattern.partition("/")
        patterns = [f"{one}/{rest}" for one in ours] if slash and domain in ("cluster.local", *ours) else [pattern]
        return any(text(one, peer) for one in patterns)

    def domain(self, pattern: str, peer: str | None) -> bool:
        ours = [self.mesh.trust_domain, *self.mesh.trust_domain_aliases]
        if peer is None:
            return False
        for one in ours if pattern in ours else [pattern]:
            if one == "*":
                return True
            if one.startswith("*"):
                expression = "[^/]*" + re.escape(one[1:]) + "/.*"
            elif one.endswith("*"):
                expression = re.escape(one[:-1]) + "[^/]*/.*"
            else:
                expression = re.escape(one) + "/.*"
            if re.fullmatch(expression, f"{peer}/"):
                return True
        return False

    def http_both(
        self, request: Request, values: tuple[str, ...], not_values: tuple[str, ...], test: Callable[[str], bool]
    ) -> Iterable[tuple[bool, Answer]]:
        if request.http is not None:
            return both(True, values, not_values, test)
        return [(True, None) for one in (values, not_values) if one]


def header(condition: Condition, request: Request, denies: bool) -> Iterable[tuple[bool, Answer]]:
    """What allows wants each line to match, and what denies any line, or the lines joined."""
    values, not_values = condition.values, condition.not_values
    if request.http is None:
        return [(True, None) for one in (values, not_values) if one]
    name = condition.key.removeprefix("request.headers[").removesuffix("]").lower()
    # A policy is UTF-8, and so are headers to it, whose bytes are here as Latin-1.
    values, not_values = (tuple(one.encode().decode("latin-1") for one in of) for of in (values, not_values))
    http = request.http
    pseudo = {":method": http.method, ":path": http.path, ":authority": http.host}
    if name in pseudo:
        lines = [pseudo[name]] if pseudo[name] else []
    else:
        lines = [value for one, value in http.headers if one == name]
    joined = [",".join(lines), ", ".join(lines)] if lines else []

    def each(patterns: tuple[str, ...]) -> bool:
        return lines != [] and all(any(text(one, line, empty=True) for one in patterns) for line in lines)

    def some(patterns: tuple[str, ...]) -> bool:
        return any(text(one, line, empty=True) for one in patterns for line in (*lines, *joined))

    wanted, excluded = (some, each) if denies else (each, some)
    return [
        *([(True, wanted(values))] if values else []),
        *([(True, not excluded(not_values))] if not_values else []),
    ]


def in_namespace(value: str, peer: str | None) -> bool:
    """Item 15."""
    if peer is None:
        return False
    path = peer[peer.find("/") :] if "/" in peer else ""
    expression = ".*/ns/" + ".*".join(map(re.escape, value.split("*"))) + "/.*"
    return re.fullmatch(expression, path) is not None


def account(value: str, namespace: str, peer: str | None) -> bool:
    """Item 15."""
    space, name = value.split("/", 1) if "/" in value else (namespace, value)
    expression = f"spiffe://.+/ns/{re.escape(space)}/(.+/|)sa/{re.escape(name)}(/.+)?"
    return peer is not None and re.fullmatch(expression, f"spiffe://{peer}") is not None


def subject(value: str, request: Request) -> bool:
    auth = request.auth
    if auth is None:
        return False
    if isinstance(auth.claims.get("iss"), str) and isinstance(auth.claims.get("sub"), str):
        issuer, name = str(auth.claims["iss"]), str(auth.claims["sub"])
    else:
        issuer, _, name = auth.principal.rpartition("/")
    names = [(issuer, name)]
    if auth.spiffe_id is not None:
        path, _, last = auth.spiffe_id.rpartition("/")
        names.append((path, last))
    return any(subject_of(value, *one) for one in names)


def subject_of(value: str, issuer: str, name: str) -> bool:
    head, slash, tail = value.rpartition("/")
    if value == "*":
        return issuer != "" and name != ""
    if value.startswith("*"):
        return (text(head, issuer) and name == tail) if slash else (issuer != "" and text(value, name))
    if value.endswith("*"):
        return (issuer == head and text(tail, name)) if slash else (text(value, issuer) and name != "")
    return (issuer, name) == ((head, tail) if slash else (value, ""))


def remote(request: Request) -> str | None:
    """Item 17."""
    return request.source_ip if request.remote_ip is None else request.remote_ip


def ips(
    values: tuple[str, ...], not_values: tuple[str, ...], ip: str | None, denies: bool
) -> Iterable[tuple[bool, Answer]]:
    found = address(ip)
    if found is None:
        return [(False, denies) for one in (values, not_values) if one]

    def test(block: str) -> bool:
        network = ipaddress.ip_network(block, strict=False)
        if found.version == 4 and network.version == 6:
            return ipaddress.IPv6Address(f"::ffff:{found}") in network and network.prefixlen >= 96
        return found in network

    return both(False, values, not_values, test)


def ports(
    values: tuple[str, ...], not_values: tuple[str, ...], port: int | None, denies: bool
) -> Iterable[tuple[bool, Answer]]:
    if port is None:
        return [(False, denies) for one in (values, not_values) if one]
    return both(False, values, not_values, lambda one: int(one) == port)


def both(
    http: bool, values: tuple[str, ...], not_values: tuple[str, ...], test: Callable[[str], bool]
) -> Iterable[tuple[bool, Answer]]:
    if values:
        yield http, any(map(test, values))
    if not_values:
        yield http, not any(map(test, not_values))


def answers(fields: Iterable[tuple[bool, Answer]]) -> list[Answer]:
    return [answer for _, answer in fields]


def without_http(fields: Iterable[tuple[bool, Answer]]) -> list[tuple[bool, Answer]]:
    return [(http, answer) for http, answer in fields if not http]


def any_of(found: Iterable[Answer]) -> Answer:
    every = list(found)
    return True if True in every else None if None in every else False


def all_of(found: Iterable[Answer]) -> Answer:
    every = list(found)
    return False if False in every else None if None in every else True


def slow_mode(
    documents: Iterable[PeerAuthentication], mesh: MeshSettings, workload: Workload, port: int
) -> tuple[MtlsMode, str | None]:
    """Items 1 to 4."""
    labels = dict(workload.labels)
    levels: list[list[PeerAuthentication]] = [[], [], []]
    for one in documents:
        if one.meta.namespace == mesh.root_namespace:
            if not one.selector:
                levels[0].append(one)
        elif one.meta.namespace == workload.namespace:
            if not one.selector:
                levels[1].append(one)
            elif all(labels.get(key) == value for key, value in one.selector):
                levels[2].append(one)
    oldest = [sorted(level, key=by_age)[0] if level else None for level in levels]
    chosen = oldest[2]
    if chosen is not None:
        mode = dict(chosen.ports).get(port, MtlsMode.UNSET)
        if mode is not MtlsMode.UNSET:
            return mode, named(chosen)
    for policy in reversed(oldest):
        if policy is not None and policy.mode is not MtlsMode.UNSET:
            return policy.mode, named(policy)
    return MtlsMode.PERMISSIVE, None


def named(policy: PeerAuthentication) -> str:
    return f"ns[{policy.meta.namespace}]-policy[{policy.meta.name}]"


def by_age(policy: PeerAuthentication) -> tuple[bool, float, str]:
    created = policy.meta.created
    return created is None, created.timestamp() if created else 0.0, policy.meta.name
