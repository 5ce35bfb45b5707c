"""Makes policies and requests for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from meshtls.config.document import Place
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    Condition,
    Documents,
    MeshSettings,
    Metadata,
    MtlsMode,
    Operation,
    PeerAuthentication,
    Rule,
    Source,
    Workload,
)
from meshtls.policy.request import HttpRequest, Request, RequestAuth
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

MESH = MeshSettings(trust_domain="a.test", trust_domain_aliases=("old.test",))
WORKLOAD = Workload(namespace="shop", labels=(("app", "web"), ("tier", "front")))
US = SpiffeId.parse("spiffe://a.test/ns/shop/sa/web")
CLIENT = "a.test/ns/front/sa/client"


def meta(name: str, namespace: str = "shop", created: datetime | None = None) -> Metadata:
    return Metadata(name=name, namespace=namespace, place=Place("policies.yaml", 1, "spec"), created=created)


def source(**fields: Any) -> Source:
    return Source(**fields)


def rule(
    *, source: Source | None = None, operation: Operation | None = None, when: Mapping[str, tuple[str, ...]] = {}
) -> Rule:
    return Rule(
        place=Place("policies.yaml", 7, "spec.rules[0]"),
        sources=(source,) if source else (),
        operations=(operation,) if operation else (),
        conditions=tuple(Condition(key=key, values=values) for key, values in when.items()),
    )


def policy(
    *rules: Rule,
    action: Action = Action.ALLOW,
    name: str = "p",
    namespace: str = "shop",
    selector: tuple[tuple[str, str], ...] = (),
    **more: Any,
) -> AuthorizationPolicy:
    if action is Action.CUSTOM:
        more.setdefault("provider", "opa")
    return AuthorizationPolicy(meta=meta(name, namespace), selector=selector, action=action, rules=rules, **more)


def compiled(
    *policies: AuthorizationPolicy, mesh: MeshSettings = MESH, workload: Workload = WORKLOAD
) -> WorkloadPolicies:
    return compile_policies(Documents(authorization_policies=policies), mesh, workload)


def authentication(
    name: str,
    mode: MtlsMode = MtlsMode.UNSET,
    *,
    namespace: str = "shop",
    selector: tuple[tuple[str, str], ...] = (),
    ports: Iterable[tuple[int, MtlsMode]] = (),
    created: datetime | None = None,
) -> PeerAuthentication:
    return PeerAuthentication(meta=meta(name, namespace, created), selector=selector, mode=mode, ports=tuple(ports))


def peer(spiffe_id: str | None) -> VerifiedPeer | None:
    return None if spiffe_id is None else VerifiedPeer(SpiffeId.parse(f"spiffe://{spiffe_id}"), ())


def request(
    client: str | None = CLIENT,
    method: str = "GET",
    path: str = "/",
    *,
    host: str = "web",
    headers: tuple[tuple[str, str], ...] = (),
    http: bool = True,
    port: int | None = 8080,
    source_ip: str | None = "10.0.0.1",
    auth: RequestAuth | None = None,
    **more: Any,
) -> Request:
    return Request(
        peer(client),
        US,
        port=port,
        source_ip=source_ip,
        http=HttpRequest(method, host, path, headers) if http else None,
        auth=auth,
        **more,
    )
