"""Istio's semantics, one table row a statement: each is named by its item, and has a twin that differs in one thing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from meshtls.errors import ConfigError, RequestError
from meshtls.policy.decision import PolicyVerdict
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.destination import client_tls
from meshtls.policy.istio.evaluate import CustomMatch
from meshtls.policy.istio.match import expand_principals
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    ClientTls,
    ClientTlsMode,
    Condition,
    DestinationRule,
    Documents,
    JwtRule,
    MeshSettings,
    MtlsMode,
    Operation,
    RequestAuthentication,
    Rule,
    Source,
    Subset,
    Workload,
)
from meshtls.policy.istio.parse import parse_documents
from meshtls.policy.request import HttpRequest, Request, RequestAuth
from tests.unit.policy.istio.making import (
    CLIENT,
    MESH,
    WORKLOAD,
    authentication,
    compiled,
    meta,
    policy,
    request,
    rule,
)

ALLOW, DENY, NEEDS_HTTP = PolicyVerdict.ALLOW, PolicyVerdict.DENY, PolicyVerdict.NEEDS_HTTP
UNSET, DISABLE, PERMISSIVE, STRICT = MtlsMode
APP = (("app", "web"),)
OTHER = (("app", "db"),)
EARLY, LATE = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
ROOT = "istio-system"
EVERYTHING = rule()
TOKEN = RequestAuth(
    "https://i/u",
    ("api", "web"),
    "portal",
    {"iss": "https://i", "sub": "u", "group": "admin", "realm": {"roles": ["r1", "r2"]}, "scope": "read write", "n": 1},
)
JWT_SVID = RequestAuth(
    "https://i/spiffe://a.test/ns/back/sa/web",
    claims={"iss": "https://i", "sub": "spiffe://a.test/ns/back/sa/web"},
    spiffe_id="spiffe://a.test/ns/back/sa/web",
)


MODES: dict[str, tuple[list[Any], int, tuple[MtlsMode, str | None]]] = {
    "item 1: permissive without a policy": ([], 80, (PERMISSIVE, None)),
    "item 1: the mesh's": ([authentication("m", STRICT, namespace=ROOT)], 80, (STRICT, f"ns[{ROOT}]-policy[m]")),
    "item 1: the namespace's overrides the mesh's": (
        [authentication("m", STRICT, namespace=ROOT), authentication("n", DISABLE)],
        80,
        (DISABLE, "ns[shop]-policy[n]"),
    ),
    "item 1: UNSET of the namespace does not": (
        [authentication("m", STRICT, namespace=ROOT), authentication("n")],
        80,
        (STRICT, f"ns[{ROOT}]-policy[m]"),
    ),
    "item 1: the workload's overrides the namespace's": (
        [authentication("n", STRICT), authentication("w", PERMISSIVE, selector=APP)],
        80,
        (PERMISSIVE, "ns[shop]-policy[w]"),
    ),
    "item 1: another workload's does not": (
        [authentication("n", STRICT), authentication("w", PERMISSIVE, selector=OTHER)],
        80,
        (STRICT, "ns[shop]-policy[n]"),
    ),
    "item 1: another namespace's does not": ([authentication("n", STRICT, namespace="front")], 80, (PERMISSIVE, None)),
    "item 2: the oldest wins": (
        [authentication("late", DISABLE, created=LATE), authentication("early", STRICT, created=EARLY)],
        80,
        (STRICT, "ns[shop]-policy[early]"),
    ),
    "item 2: without a time it is the newest": (
        [authentication("a", DISABLE), authentication("b", STRICT, created=LATE)],
        80,
        (STRICT, "ns[shop]-policy[b]"),
    ),
    "item 2: an older one that is UNSET is not merged": (
        [authentication("old", created=EARLY), authentication("new", STRICT, created=LATE)],
        80,
        (PERMISSIVE, None),
    ),
    "item 3: a selector in the root namespace is ignored": (
        [authentication("m", STRICT, namespace=ROOT, selector=APP)],
        80,
        (PERMISSIVE, None),
    ),
    "item 3: without a selector it is the mesh's": (
        [authentication("m", STRICT, namespace=ROOT)],
        80,
        (STRICT, f"ns[{ROOT}]-policy[m]"),
    ),
    "item 4: a port of the workload's policy": (
        [authentication("w", STRICT, selector=APP, ports=[(80, DISABLE)])],
        80,
        (DISABLE, "ns[shop]-policy[w]"),
    ),
    "item 4: another port has the workload's mode": (
        [authentication("w", STRICT, selector=APP, ports=[(80, DISABLE)])],
        81,
        (STRICT, "ns[shop]-policy[w]"),
    ),
    "item 4: a port that is UNSET has the workload's mode": (
        [authentication("w", STRICT, selector=APP, ports=[(80, UNSET)])],
        80,
        (STRICT, "ns[shop]-policy[w]"),
    ),
    "item 4: a port of a workload without a mode": (
        [authentication("n", STRICT), authentication("w", selector=APP, ports=[(80, DISABLE)])],
        80,
        (DISABLE, "ns[shop]-policy[w]"),
    ),
    "item 4: a port of the namespace's policy does not count": (
        [authentication("n", STRICT, ports=[(80, DISABLE)])],
        80,
        (STRICT, "ns[shop]-policy[n]"),
    ),
    "item 4: a port of a policy that is not chosen does not count": (
        [
            authentication("w", STRICT, selector=APP, created=EARLY),
            authentication("x", selector=APP, ports=[(80, DISABLE)], created=LATE),
        ],
        80,
        (STRICT, "ns[shop]-policy[w]"),
    ),
}


@pytest.mark.parametrize("name", MODES)
def test_the_mode_of_a_port(name: str) -> None:
    documents, port, expected = MODES[name]
    found = compile_policies(Documents(peer_authentications=tuple(documents)), MESH, WORKLOAD)
    assert found.mode(port) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [("{}", STRICT), ("{matchLabels: {}}", STRICT), ("{matchLabels: {app: web}}", PERMISSIVE)],
)
def test_item_3_an_empty_selector_counts_as_none(selector: str, expected: MtlsMode) -> None:
    """One that is not empty is ignored in the root namespace."""
    text = f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: m, namespace: {ROOT}}}
spec: {{mtls: {{mode: STRICT}}, selector: {selector}}}
"""
    assert compile_policies(parse_documents([("p.yaml", text)]), MESH, WORKLOAD).mode(80)[0] is expected


def by_source(**fields: tuple[str, ...]) -> AuthorizationPolicy:
    return policy(rule(source=Source(**fields)))


def by_operation(**fields: tuple[str, ...]) -> AuthorizationPolicy:
    return policy(rule(operation=Operation(**fields)))


def when(key: str, *values: str, unless: tuple[str, ...] = ()) -> AuthorizationPolicy:
    conditions = (Condition(key=key, values=values, not_values=unless),)
    return policy(Rule(place=rule().place, conditions=conditions))


def deny(*rules: Rule, **more: Any) -> AuthorizationPolicy:
    return policy(*rules, action=Action.DENY, name="d", **more)


USER = "request.headers[X-User]"
BOB_AND_EVE = request(headers=(("x-user", "bob"), ("x-user", "eve")))


def in_utf_8(*values: str) -> Request:
    """A request with these values of the header, as a client sends them that writes UTF-8."""
    return request(headers=tuple(("x-user", value.encode().decode("latin-1")) for value in values))


def unless(*values: str) -> Rule:
    """A rule for all but these values of the header."""
    return Rule(place=rule().place, conditions=(Condition(key=USER, not_values=values),))


OPEN = policy(EVERYTHING)
NO_ADMIN = deny(rule(operation=Operation(paths=("/admin",))))
V = tuple[tuple[AuthorizationPolicy, ...] | AuthorizationPolicy, Request, PolicyVerdict]
VERDICTS: dict[str, V] = {
    "item 7: no policy allows": ((), request(), ALLOW),
    "item 7: no ALLOW policy allows what no DENY matches": (NO_ADMIN, request(path="/x"), ALLOW),
    "item 7: DENY denies": (NO_ADMIN, request(path="/admin"), DENY),
    "item 7: DENY comes before ALLOW": ((OPEN, NO_ADMIN), request(path="/admin"), DENY),
    "item 7: one ALLOW that matches is enough": ((policy(name="q"), OPEN), request(), ALLOW),
    "item 7: an ALLOW that does not match denies": (by_operation(methods=("PUT",)), request(), DENY),
    "item 7: AUDIT that matches changes nothing": (policy(EVERYTHING, action=Action.AUDIT), request(), ALLOW),
    "item 7: AUDIT is no ALLOW": ((policy(name="q"), policy(EVERYTHING, action=Action.AUDIT)), request(), DENY),
    "item 8: an empty spec denies all": (policy(), request(), DENY),
    "item 8: an empty rule matches everything": (OPEN, request(), ALLOW),
    "item 8: an empty rule matches plaintext": (OPEN, request(None), ALLOW),
    "item 8: a DENY with an empty rule denies everything": (deny(EVERYTHING), request(), DENY),
    "item 9: fields of one source all have to match": (
        by_source(namespaces=("front",), ip_blocks=("10.9.0.0/16",)),
        request(),
        DENY,
    ),
    "item 9: and do": (by_source(namespaces=("front",), ip_blocks=("10.0.0.0/16",)), request(), ALLOW),
    "item 9: one value of a list is enough": (by_operation(methods=("PUT", "GET")), request(), ALLOW),
    "item 9: one source of several is enough": (
        policy(
            Rule(place=rule().place, sources=(Source(namespaces=("x",)), Source(namespaces=("front",)))),
        ),
        request(),
        ALLOW,
    ),
    "item 9: from and to both have to match": (
        policy(rule(source=Source(namespaces=("front",)), operation=Operation(methods=("PUT",)))),
        request(),
        DENY,
    ),
    "item 9: all conditions have to match": (
        policy(rule(when={"destination.port": ("8080",), "source.namespace": ("x",)})),
        request(),
        DENY,
    ),
    "item 9: a not-field excludes each of its values": (by_operation(not_methods=("PUT", "GET")), request(), DENY),
    "item 9: a not-field lets others in": (by_operation(not_methods=("PUT", "POST")), request(), ALLOW),
    "item 9: values and not-values both count": (
        by_operation(paths=("/a*",), not_paths=("/ab",)),
        request(path="/ab"),
        DENY,
    ),
    "item 10: another namespace's does not apply": (deny(EVERYTHING, namespace="front"), request(), ALLOW),
    "item 10: the root namespace's applies": (deny(EVERYTHING, namespace=ROOT), request(), DENY),
    "item 10: a selector narrows in the namespace": (deny(EVERYTHING, selector=OTHER), request(), ALLOW),
    "item 10: a selector narrows in the root namespace": (
        deny(EVERYTHING, namespace=ROOT, selector=OTHER),
        request(),
        ALLOW,
    ),
    "item 10: a selector that matches": (deny(EVERYTHING, namespace=ROOT, selector=APP), request(), DENY),
    "item 10: targetRefs are for gateways": (deny(EVERYTHING, target_refs=True), request(), ALLOW),
    "item 11: a dry-run DENY does not deny": (deny(EVERYTHING, dry_run=True), request(), ALLOW),
    "item 11: a dry-run ALLOW is no ALLOW policy": (policy(dry_run=True), request(), ALLOW),
    "item 13: plaintext has no principal, not even for a star": (by_source(principals=("*",)), request(None), DENY),
    "item 13: a peer with an identity has one": (by_source(principals=("*",)), request(), ALLOW),
    "item 13: plaintext has no namespace": (by_source(namespaces=("*",)), request(None), DENY),
    "item 13: plaintext has no service account": (by_source(service_accounts=("front/client",)), request(None), DENY),
    "item 13: plaintext has no trust domain": (by_source(trust_domains=("*",)), request(None), DENY),
    "item 13: notPrincipals lets plaintext in": (by_source(not_principals=(CLIENT,)), request(None), ALLOW),
    "item 13: DENY notPrincipals * denies plaintext": (
        deny(rule(source=Source(not_principals=("*",)))),
        request(None),
        DENY,
    ),
    "item 13: and nobody with an identity": (deny(rule(source=Source(not_principals=("*",)))), request(), ALLOW),
    "item 14: a dot is a dot": (by_operation(paths=("/a.c",)), request(path="/abc"), DENY),
    "item 14: a plus is a plus": (by_operation(paths=("/a+",)), request(path="/aa"), DENY),
    "item 14: a bracket is a bracket": (by_operation(paths=("/[a]",)), request(path="/[a]"), ALLOW),
    "item 14: a bracket is no set": (by_operation(paths=("/[a]",)), request(path="/a"), DENY),
    "item 14: a dot in a principal's suffix is a dot": (
        by_source(principals=("*/ns/fr.nt/sa/client",)),
        request(),
        DENY,
    ),
    "item 14: a dot in a namespace is a dot": (by_source(namespaces=("fr.nt",)), request(), DENY),
    "item 14: a namespace with a dot": (by_source(namespaces=("fr.nt",)), request("a.test/ns/fr.nt/sa/x"), ALLOW),
    "item 14: a dot in a service account is a dot": (by_source(service_accounts=("front/cl.ent",)), request(), DENY),
    "item 14: a star inside is a star": (by_operation(paths=("/a*c",)), request(path="/abc"), DENY),
    "item 14: and matches itself": (by_operation(paths=("/a*c",)), request(path="/a*c"), ALLOW),
    "item 14: a prefix": (by_operation(paths=("/ab*",)), request(path="/abc"), ALLOW),
    "item 14: a suffix": (by_operation(paths=("*bc",)), request(path="/abc"), ALLOW),
    "item 14: only the first of two stars": (by_operation(paths=("*b*",)), request(path="/abc"), DENY),
    "item 14: a star matches no empty text": (by_operation(paths=("*",)), request(path=""), DENY),
    "item 15: a principal is the ID without its scheme": (by_source(principals=(CLIENT,)), request(), ALLOW),
    "item 15: not with it": (by_source(principals=(f"spiffe://{CLIENT}",)), request(), DENY),
    "item 15: a namespace": (by_source(namespaces=("front",)), request(), ALLOW),
    "item 15: a part of a namespace is none": (by_source(namespaces=("fron",)), request(), DENY),
    "item 15: a namespace with stars anywhere": (by_source(namespaces=("f*n*",)), request(), ALLOW),
    "item 15: a trust domain called ns brings no namespace": (
        by_source(namespaces=("front",)),
        request("ns/front/sa/x"),
        DENY,
    ),
    "item 15: a service account of a namespace": (by_source(service_accounts=("front/client",)), request(), ALLOW),
    "item 15: of the policy's namespace": (by_source(service_accounts=("client",)), request(), DENY),
    "item 15: of the policy's namespace, which it is": (
        by_source(service_accounts=("client",)),
        request("a.test/ns/shop/sa/client"),
        ALLOW,
    ),
    "item 15: of any trust domain": (
        by_source(service_accounts=("front/client",)),
        request("partner.test/ns/front/sa/client"),
        ALLOW,
    ),
    "item 15: with trustDomains, of one": (
        by_source(namespaces=("front",), trust_domains=("a.test",)),
        request("partner.test/ns/front/sa/client"),
        DENY,
    ),
    "item 15: what goes on after an account": (
        by_source(service_accounts=("front/client",)),
        request(f"{CLIENT}/v1"),
        ALLOW,
    ),
    "item 15: a longer account is another": (
        by_source(service_accounts=("front/client",)),
        request(f"{CLIENT}-2"),
        DENY,
    ),
    "item 16: an alias of ours": (
        by_source(principals=("a.test/ns/x/sa/y",)),
        request("old.test/ns/x/sa/y"),
        ALLOW,
    ),
    "item 16: ours for an alias": (by_source(principals=("old.test/ns/x/sa/y",)), request("a.test/ns/x/sa/y"), ALLOW),
    "item 16: ours for cluster.local": (
        by_source(principals=("cluster.local/ns/x/sa/y",)),
        request("a.test/ns/x/sa/y"),
        ALLOW,
    ),
    "item 16: a stranger called cluster.local is none of ours": (
        by_source(principals=("cluster.local/ns/x/sa/y",)),
        request("cluster.local/ns/x/sa/y"),
        DENY,
    ),
    "item 16: another domain stays": (
        by_source(principals=("b.test/ns/x/sa/y",)),
        request("a.test/ns/x/sa/y"),
        DENY,
    ),
    "item 16: notPrincipals of an alias": (
        by_source(not_principals=("old.test/ns/x/sa/y",)),
        request("a.test/ns/x/sa/y"),
        DENY,
    ),
    "additions: a trust domain": (by_source(trust_domains=("b.test",)), request("b.test/x"), ALLOW),
    "additions: a longer trust domain is another": (by_source(trust_domains=("b.test",)), request("b.test2/x"), DENY),
    "additions: a trust domain's prefix": (by_source(trust_domains=("b.*",)), request("b.test/x"), ALLOW),
    "additions: a prefix does not cross a slash": (by_source(trust_domains=("b.test/x*",)), request("b.test/y"), DENY),
    "additions: a trust domain's suffix": (by_source(trust_domains=("*.test",)), request("b.test/x"), ALLOW),
    "additions: a suffix does not cross a slash": (
        by_source(trust_domains=("*client",)),
        request("b.test/client"),
        DENY,
    ),
    "additions: any trust domain": (by_source(trust_domains=("*",)), request("b.test/x"), ALLOW),
    "additions: our trust domain has aliases": (by_source(trust_domains=("a.test",)), request("old.test/x"), ALLOW),
    "item 17: ipBlocks are the socket's peer": (
        by_source(ip_blocks=("192.0.2.0/24",)),
        request(source_ip="10.0.0.1", remote_ip="192.0.2.1"),
        DENY,
    ),
    "item 17: remoteIpBlocks are the original client": (
        by_source(remote_ip_blocks=("192.0.2.0/24",)),
        request(source_ip="10.0.0.1", remote_ip="192.0.2.1"),
        ALLOW,
    ),
    "item 17: the original client is the socket's peer where no other is known": (
        by_source(remote_ip_blocks=("10.0.0.1",)),
        request(),
        ALLOW,
    ),
    "item 17: an original client that is not known is not the socket's peer": (
        by_source(remote_ip_blocks=("10.0.0.1", "0.0.0.0/0", "::/0")),
        request(remote_ip="hidden"),
        DENY,
    ),
    "item 17: nor is it excluded from what allows": (
        by_source(not_remote_ip_blocks=("192.0.2.1",)),
        request(remote_ip=""),
        DENY,
    ),
    "item 17: nor is a known one": (by_source(not_remote_ip_blocks=("192.0.2.1",)), request(remote_ip="::1"), ALLOW),
    "item 17: an original client that is not known is in what denies": (
        deny(rule(source=Source(remote_ip_blocks=("192.0.2.1",)))),
        request(remote_ip=""),
        DENY,
    ),
    "item 17: also by what it is not": (
        deny(rule(source=Source(not_remote_ip_blocks=("192.0.2.1",)))),
        request(remote_ip=""),
        DENY,
    ),
    "item 17: which a known one is not": (
        deny(rule(source=Source(not_remote_ip_blocks=("192.0.2.1",)))),
        request(remote_ip="192.0.2.1"),
        ALLOW,
    ),
    "item 17: an IPv4-mapped address is an IPv4 address": (
        by_source(ip_blocks=("10.0.0.0/8",)),
        request(source_ip="::ffff:10.0.0.1"),
        ALLOW,
    ),
    "item 17: also in the block": (by_source(ip_blocks=("::ffff:10.0.0.0/104",)), request(), ALLOW),
    "item 17: an unknown address is in no block that allows": (
        by_source(ip_blocks=("0.0.0.0/0", "::/0")),
        request(source_ip=None),
        DENY,
    ),
    "item 17: nor is it excluded": (by_source(not_ip_blocks=("192.0.2.1",)), request(source_ip=None), DENY),
    "item 17: an unknown address is in a block that denies": (
        deny(rule(source=Source(ip_blocks=("192.0.2.1",)))),
        request(source_ip=None),
        DENY,
    ),
    "item 18: hosts without case": (by_operation(hosts=("Web.Shop",)), request(host="wEB.shop"), ALLOW),
    "item 18: a host's port counts if it is sent": (by_operation(hosts=("web",)), request(host="web:8080"), DENY),
    "item 18: methods with case": (by_operation(methods=("get",)), request(), DENY),
    "item 18: ports are the local port": (by_operation(ports=("8080",)), request(), ALLOW),
    "item 18: another port": (by_operation(ports=("80",)), request(), DENY),
    "item 19: the query is stripped": (by_operation(paths=("/a",)), request(path="/a?b=/c"), ALLOW),
    "item 19: the fragment is stripped": (by_operation(paths=("/a",)), request(path="/a#b"), ALLOW),
    "item 19: {**} matches the empty rest": (
        by_operation(paths=("/allow/admin/{**}",)),
        request(path="/allow/admin/"),
        ALLOW,
    ),
    "item 19: and not without the slash": (
        by_operation(paths=("/allow/admin/{**}",)),
        request(path="/allow/admin"),
        DENY,
    ),
    "item 19: {**} in between": (by_operation(paths=("/store/{**}/cart",)), request(path="/store//cart"), ALLOW),
    "item 19: {**} needs both slashes": (by_operation(paths=("/store/{**}/cart",)), request(path="/store/cart"), DENY),
    "item 19: {**} is several segments": (
        by_operation(paths=("/store/{**}/cart",)),
        request(path="/store/a/b/cart"),
        ALLOW,
    ),
    "item 19: {*} is one segment": (by_operation(paths=("/a/{*}/c",)), request(path="/a/b/c"), ALLOW),
    "item 19: {*} is not two": (by_operation(paths=("/a/{*}/c",)), request(path="/a/b/b/c"), DENY),
    "item 19: {*} is not empty": (by_operation(paths=("/a/{*}/c",)), request(path="/a//c"), DENY),
    "item 19: {*} at the end is not empty": (by_operation(paths=("/a/{*}",)), request(path="/a/"), DENY),
    "item 19: a star does not pass a template of a DENY by": (
        deny(rule(operation=Operation(paths=("/admin/{*}",)))),
        request(path="/admin/a*b"),
        DENY,
    ),
    "item 21: a header": (when("request.headers[X-User]", "bob"), request(headers=(("x-user", "bob"),)), ALLOW),
    "item 21: another value of it": (when("request.headers[X-User]", "bob"), request(headers=(("x-user", "b"),)), DENY),
    "item 21: :method": (when("request.headers[:method]", "POST"), request(method="POST"), ALLOW),
    "item 21: another :method": (when("request.headers[:method]", "POST"), request(), DENY),
    "item 21: :path has its query": (when("request.headers[:path]", "/a?b=c"), request(path="/a?b=c"), ALLOW),
    "item 21: :path is compared whole": (when("request.headers[:path]", "/a"), request(path="/a?b=c"), DENY),
    "item 21: a CONNECT has no :path": (when("request.headers[:path]", "*"), request(method="CONNECT", path=""), DENY),
    "item 21: :authority": (when("request.headers[:Authority]", "shop:80"), request(host="shop:80"), ALLOW),
    "item 21: another :authority": (when("request.headers[:authority]", "shop"), request(host="shop:80"), DENY),
    "item 21: a request without a host": (when("request.headers[:authority]", "*"), request(host=""), DENY),
    "item 21: a header beyond ASCII is compared as UTF-8": (when(USER, "Köln"), in_utf_8("Köln"), ALLOW),
    "item 21: a DENY of a header beyond ASCII": (deny(rule(when={USER: ("Köln",)})), in_utf_8("Köln"), DENY),
    "item 21: a DENY of a header beyond ASCII, of others": (deny(rule(when={USER: ("Köln",)})), in_utf_8("Ulm"), ALLOW),
    "item 21: a DENY of a header beyond ASCII, in Latin-1": (
        deny(rule(when={USER: ("Köln",)})),
        request(headers=(("x-user", "Köln"),)),
        ALLOW,
    ),
    "item 21: a prefix beyond ASCII": (deny(rule(when={USER: ("Kö*",)})), in_utf_8("Köln"), DENY),
    "item 21: a suffix beyond ASCII": (deny(rule(when={USER: ("*öln",)})), in_utf_8("Köln"), DENY),
    "item 21: a suffix beyond ASCII, of others": (deny(rule(when={USER: ("*öln",)})), in_utf_8("Köl"), ALLOW),
    "item 21: a DENY of joined lines beyond ASCII": (
        deny(rule(when={USER: ("東京,Köln",)})),
        in_utf_8("東京", "Köln"),
        DENY,
    ),
    "item 21: an ALLOW that excludes a header beyond ASCII": (policy(unless("Köln")), in_utf_8("Köln"), DENY),
    "item 21: an ALLOW that excludes another beyond ASCII": (policy(unless("Ulm")), in_utf_8("Köln"), ALLOW),
    "item 21: a claim beyond ASCII": (
        when("request.auth.claims[city]", "Köln"),
        request(auth=RequestAuth("https://i/u", claims={"city": "Köln"})),
        ALLOW,
    ),
    "item 21: a header that is missing": (when("request.headers[X-User]", "*"), request(), DENY),
    "item 21: a header that is empty is there": (
        when("request.headers[X-User]", "*"),
        request(headers=(("x-user", ""),)),
        ALLOW,
    ),
    "item 21: an ALLOW wants each line of a header": (when(USER, "bob"), BOB_AND_EVE, DENY),
    "item 21: an ALLOW that has each line of a header": (when(USER, "bob", "eve"), BOB_AND_EVE, ALLOW),
    "item 21: an ALLOW of the joined lines of a header": (when(USER, "bob,eve"), BOB_AND_EVE, DENY),
    "item 21: an ALLOW excludes any line of a header": (policy(unless("eve")), BOB_AND_EVE, DENY),
    "item 21: an ALLOW excludes the joined lines of a header": (policy(unless("bob,eve")), BOB_AND_EVE, DENY),
    "item 21: an ALLOW that excludes no line of a header": (policy(unless("ann")), BOB_AND_EVE, ALLOW),
    "item 21: a DENY of any line of a header": (deny(rule(when={USER: ("eve",)})), BOB_AND_EVE, DENY),
    "item 21: a DENY of the joined lines of a header": (deny(rule(when={USER: ("bob,eve",)})), BOB_AND_EVE, DENY),
    "item 21: a DENY of the lines joined with a blank": (deny(rule(when={USER: ("bob, eve",)})), BOB_AND_EVE, DENY),
    "item 21: a DENY of no line of a header": (deny(rule(when={USER: ("eve,bob",)})), BOB_AND_EVE, ALLOW),
    "item 21: a DENY that excludes one line of a header": (deny(unless("bob")), BOB_AND_EVE, DENY),
    "item 21: a DENY that excludes each line of a header": (deny(unless("bob", "eve")), BOB_AND_EVE, ALLOW),
    "item 21: a DENY that excludes the joined lines alone": (deny(unless("bob,eve")), BOB_AND_EVE, DENY),
    "item 21: source.ip": (when("source.ip", "10.0.0.0/8"), request(), ALLOW),
    "item 21: source.ip of others": (when("source.ip", "11.0.0.0/8"), request(), DENY),
    "item 21: source.namespace": (when("source.namespace", "front"), request(), ALLOW),
    "item 21: source.namespace of others": (when("source.namespace", "back"), request(), DENY),
    "item 21: source.serviceAccount": (when("source.serviceAccount", "front/client"), request(), ALLOW),
    "item 21: source.serviceAccount of others": (when("source.serviceAccount", "client"), request(), DENY),
    "item 21: source.principal": (when("source.principal", CLIENT), request(), ALLOW),
    "item 21: source.principal of others": (when("source.principal", f"{CLIENT}2"), request(), DENY),
    "item 21: source.trustDomain": (when("source.trustDomain", "old.test"), request(), ALLOW),
    "item 21: source.trustDomain with a path": (when("source.trustDomain", "a.test/ns/front"), request(), ALLOW),
    "item 21: source.trustDomain with another path": (when("source.trustDomain", "a.test/ns/fron"), request(), DENY),
    "item 21: remote.ip": (when("remote.ip", "192.0.2.1"), request(remote_ip="192.0.2.1"), ALLOW),
    "item 21: remote.ip of others": (when("remote.ip", "192.0.2.1"), request(remote_ip="192.0.2.2"), DENY),
    "item 21: request.auth.principal": (when("request.auth.principal", "https://i/u"), request(auth=TOKEN), ALLOW),
    "item 21: request.auth.principal without a token": (when("request.auth.principal", "*"), request(), DENY),
    "item 21: a subject with a slash is no other issuer's": (
        when("request.auth.principal", "https://i/a/b"),
        request(auth=RequestAuth("https://i/a/b", claims={"iss": "https://i", "sub": "a/b"})),
        DENY,
    ),
    "item 21: the SPIFFE ID of a JWT-SVID": (
        when("request.auth.principal", "spiffe://a.test/ns/back/sa/web"),
        request(auth=JWT_SVID),
        ALLOW,
    ),
    "item 21: another SPIFFE ID than a JWT-SVID's": (
        when("request.auth.principal", "spiffe://a.test/ns/back/sa/we"),
        request(auth=JWT_SVID),
        DENY,
    ),
    "item 21: request.auth.audiences": (when("request.auth.audiences", "web"), request(auth=TOKEN), ALLOW),
    "item 21: request.auth.audiences of others": (when("request.auth.audiences", "x"), request(auth=TOKEN), DENY),
    "item 21: request.auth.presenter": (when("request.auth.presenter", "port*"), request(auth=TOKEN), ALLOW),
    "item 21: request.auth.presenter of others": (when("request.auth.presenter", "x"), request(auth=TOKEN), DENY),
    "item 21: a claim": (when("request.auth.claims[group]", "admin"), request(auth=TOKEN), ALLOW),
    "item 21: a claim's list, nested": (when("request.auth.claims[realm][roles]", "r2"), request(auth=TOKEN), ALLOW),
    "item 21: a claim's list without it": (when("request.auth.claims[realm][roles]", "r"), request(auth=TOKEN), DENY),
    "item 21: a scope is a list": (when("request.auth.claims[scope]", "write"), request(auth=TOKEN), ALLOW),
    "item 21: a number is no text": (when("request.auth.claims[n]", "1"), request(auth=TOKEN), DENY),
    "item 21: a claim that must not be": (
        when("request.auth.claims[group]", unless=("admin",)),
        request(auth=TOKEN),
        DENY,
    ),
    "item 21: destination.ip": (when("destination.ip", "10.1.0.0/16"), request(destination_ip="10.1.2.3"), ALLOW),
    "item 21: destination.ip of others": (when("destination.ip", "10.1.0.0/16"), request(destination_ip="::1"), DENY),
    "item 21: destination.port": (when("destination.port", "8080"), request(), ALLOW),
    "item 21: destination.port of others": (when("destination.port", "8081"), request(), DENY),
    "item 21: connection.sni": (when("connection.sni", "*.shop"), request(sni="WEB.shop"), ALLOW),
    "item 21: connection.sni that is missing": (when("connection.sni", "*"), request(), DENY),
    "item 21: requestPrincipals": (by_source(request_principals=("https://i/*",)), request(auth=TOKEN), ALLOW),
    "item 21: notRequestPrincipals without a token": (by_source(not_request_principals=("*",)), request(), ALLOW),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_a_request_gets_the_verdict_of_its_row(name: str) -> None:
    policies, judged, expected = VERDICTS[name]
    found = compiled(*(policies if isinstance(policies, tuple) else (policies,)))
    decision = found.evaluate(judged, reads_http=True)
    assert decision.verdict is expected, decision.reason
    assert judged.http is not None
    assert found.narrow(judged).evaluate(judged.http, judged.auth) == decision


MIXED = Rule(place=rule().place, operations=(Operation(ports=("8080",)), Operation(paths=("/x",))))
PORT_AND_PATH = rule(operation=Operation(ports=("8080",), paths=("/x",)))
WITHOUT_HTTP: dict[str, tuple[AuthorizationPolicy, bool, PolicyVerdict]] = {
    "item 12: an ALLOW with a field of HTTP is skipped on TCP": (by_operation(paths=("*",)), False, DENY),
    "item 12: an ALLOW without one counts": (by_operation(ports=("8080",)), False, ALLOW),
    "item 12: an ALLOW with one in another operation is skipped whole": (policy(MIXED), False, DENY),
    "item 12: a DENY drops the field": (deny(PORT_AND_PATH), False, DENY),
    "item 12: the other fields of a DENY count": (
        deny(rule(operation=Operation(ports=("1",), paths=("/x",)))),
        False,
        ALLOW,
    ),
    "item 12: a DENY of only HTTP denies everything": (NO_ADMIN, False, DENY),
    "item 12: a DENY of notPaths denies everything": (
        deny(rule(operation=Operation(not_paths=("/x",)))),
        False,
        DENY,
    ),
    "before HTTP: an ALLOW that may match": (by_operation(paths=("/x",)), True, NEEDS_HTTP),
    "before HTTP: an ALLOW that can't": (
        policy(rule(source=Source(namespaces=("x",)), operation=Operation(paths=("/x",)))),
        True,
        DENY,
    ),
    "before HTTP: an ALLOW that matches for certain": (policy(MIXED), True, ALLOW),
    "before HTTP: a DENY that may match": (NO_ADMIN, True, NEEDS_HTTP),
    "before HTTP: a DENY that can't": (
        deny(rule(source=Source(namespaces=("x",)), operation=Operation(paths=("/x",)))),
        True,
        ALLOW,
    ),
    "before HTTP: a DENY that matches for certain": (deny(MIXED), True, DENY),
    "before HTTP: a CUSTOM that may match": (
        policy(rule(operation=Operation(paths=("/x",))), action=Action.CUSTOM),
        True,
        NEEDS_HTTP,
    ),
    "before HTTP: a CUSTOM that can't": (
        policy(rule(source=Source(namespaces=("x",))), action=Action.CUSTOM),
        True,
        ALLOW,
    ),
}


@pytest.mark.parametrize("name", WITHOUT_HTTP)
def test_the_verdict_without_a_request(name: str) -> None:
    document, reads_http, expected = WITHOUT_HTTP[name]
    assert compiled(document).evaluate(request(http=False), reads_http=reads_http).verdict is expected


@pytest.mark.parametrize("action", [Action.DENY, Action.CUSTOM])
def test_item_8_deny_and_custom_without_rules_are_an_error(action: Action) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"^policies.yaml, line 1: spec: wanted rules for {action.value}, got none; 'rules: \[{{}}\]' matches"
        " everything$",
    ):
        compiled(policy(action=action))
    compiled(policy(EVERYTHING, action=action))


INVALID = {
    "source.ipBlocks: wanted an address or a block such as 10.0.0.0/8 or 2001:db8::/32, got '10.0.0.0/33'": rule(
        source=Source(ip_blocks=("10.0.0.0/33",))
    ),
    "operation.notPorts: wanted a port from 0 to 65535, got '65536'": rule(operation=Operation(not_ports=("65536",))),
    "operation.paths: path template '/{*}.txt': wanted each {*} and {**} to be a segment of its own, no other star or"
    " brace, and {**} once and last": rule(operation=Operation(paths=("/{*}.txt",))),
}


@pytest.mark.parametrize("message", INVALID)
def test_a_value_that_has_no_meaning_is_an_error(message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compiled(deny(INVALID[message]))
    assert str(caught.value) == f"policies.yaml, line 7: spec.rules[0]: {message}"


def test_item_21_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^policies.yaml, line 7: spec.rules\[0\]: wanted a key such as source.ip, "):
        compiled(when("source.color", "red"))


def test_item_7_custom_names_each_policy_that_matches() -> None:
    found = compiled(
        policy(rule(operation=Operation(paths=("/a",))), action=Action.CUSTOM, name="a", provider="one"),
        policy(EVERYTHING, action=Action.CUSTOM, name="b", provider="two"),
    )
    assert found.custom(request(path="/a")) == (
        CustomMatch("one", "ns[shop]-policy[a]", "0"),
        CustomMatch("two", "ns[shop]-policy[b]", "0"),
    )
    assert [one.provider for one in found.custom(request(path="/b"))] == ["two"]


def test_item_7_custom_on_tcp_with_a_field_of_http_is_refused() -> None:
    document = policy(rule(operation=Operation(paths=("/a",))), action=Action.CUSTOM)
    [match] = compiled(document).custom(request(http=False), reads_http=False)
    assert match.refusal is not None
    assert match.refusal.reason == (
        "denied: the CUSTOM rule ns[shop]-policy[p]-rule[0] (policies.yaml, line 7: spec.rules[0]) has fields of HTTP"
        " (operation.paths), and none is read at this port, so provider opa can't be asked about a request. The peer is"
        f" {CLIENT}, on port 8080. Set 'protocol: http' at this port, or remove these fields from the rule."
    )
    assert match.deny("denied: its provider was not asked") is match.refusal
    [twin] = compiled(policy(EVERYTHING, action=Action.CUSTOM)).custom(request(http=False), reads_http=False)
    assert twin.refusal is None
    assert twin.deny("denied: its provider was not asked").reason == "denied: its provider was not asked"


def test_item_7_audit_names_the_rules_that_match() -> None:
    found = compiled(policy(rule(operation=Operation(paths=("/a",))), EVERYTHING, action=Action.AUDIT))
    assert found.audit(request(path="/a")) == ("ns[shop]-policy[p]-rule[0]", "ns[shop]-policy[p]-rule[1]")
    assert found.audit(request(path="/b")) == ("ns[shop]-policy[p]-rule[1]",)


def test_item_11_a_dry_run_policy_gives_a_shadow_verdict() -> None:
    found = compiled(OPEN, deny(EVERYTHING, dry_run=True))
    [shadow] = found.shadow(request())
    assert (shadow.verdict, shadow.policy, shadow.rule) == (DENY, "ns[shop]-policy[d]", "0")
    assert found.evaluate(request(), reads_http=True).allowed
    assert compiled(OPEN).shadow(request()) == ()


def test_item_11_a_dry_run_allow_alone_allows_and_would_deny() -> None:
    found = compiled(policy(rule(operation=Operation(paths=("/a",))), dry_run=True))
    assert found.evaluate(request(path="/b"), reads_http=True).allowed
    assert [one.verdict for one in found.shadow(request(path="/b"))] == [DENY]
    assert [one.verdict for one in found.shadow(request(path="/a"))] == [ALLOW]


def test_item_11_two_policies_of_one_name_are_told_apart() -> None:
    found = compiled(deny(EVERYTHING), deny(EVERYTHING, dry_run=True))
    assert not found.evaluate(request(), reads_http=True)


def test_item_16_the_expanded_principals_can_be_shown() -> None:
    assert expand_principals(("cluster.local/ns/x/sa/y", "b.test/z", "*/sa/y"), MESH) == (
        "a.test/ns/x/sa/y",
        "old.test/ns/x/sa/y",
        "b.test/z",
        "*/sa/y",
    )


def test_request_authentications_apply_by_scope() -> None:
    def of(issuer: str, namespace: str, selector: tuple[tuple[str, str], ...] = ()) -> RequestAuthentication:
        return RequestAuthentication(meta=meta(issuer, namespace), selector=selector, rules=(JwtRule(issuer=issuer),))

    documents = (
        of("own", "shop"),
        of("root", ROOT),
        of("other", "front"),
        of("app", "shop", APP),
        of("db", ROOT, OTHER),
    )
    found = compile_policies(Documents(request_authentications=documents), MESH, WORKLOAD)
    assert [one.issuer for one in found.jwt_rules] == ["own", "root", "app"]


def tls(name: str, mode: ClientTlsMode = ClientTlsMode.SIMPLE) -> ClientTls:
    return ClientTls(mode=mode, sni=name)


def destination(name: str, host: str, namespace: str = "shop", **more: Any) -> DestinationRule:
    more.setdefault("tls", tls(name))
    return DestinationRule(meta=meta(name, namespace, more.pop("created", None)), host=host, **more)


LAYERED = destination(
    "top",
    "api",
    ports=((80, tls("port")),),
    subsets=(
        Subset(name="v1", tls=tls("subset"), ports=((81, tls("subset's port")),)),
        Subset(name="v2"),
    ),
)
DESTINATIONS: dict[str, tuple[list[DestinationRule], str, int, str | None, str | None]] = {
    "item 22: no rule": ([], "api", 80, None, None),
    "item 22: top level": ([LAYERED], "api", 82, None, "top"),
    "item 22: a port beats top level": ([LAYERED], "api", 80, None, "port"),
    "item 22: a subset beats top level": ([LAYERED], "api", 82, "v1", "subset"),
    "item 22: a port beats a subset": ([LAYERED], "api", 80, "v1", "port"),
    "item 22: a subset's own port": ([LAYERED], "api", 81, "v1", "subset's port"),
    "item 22: a subset without TLS": ([LAYERED], "api", 82, "v2", "top"),
    "host: a short name in full": ([destination("a", "api")], "api.shop.svc.cluster.local", 80, None, "a"),
    "host: another namespace's": ([destination("a", "api")], "api.front.svc.cluster.local", 80, None, None),
    "host: without case": ([destination("a", "API.Shop.svc.cluster.local")], "api", 80, None, "a"),
    "host: a star is every host": ([destination("a", "*")], "api.example.com", 80, None, "a"),
    "host: an IPv6 address is no name in a namespace": ([destination("a", "::1")], "::1", 80, None, "a"),
    "host: a name is no IPv6 address": ([destination("a", "::1")], "api", 80, None, None),
    "host: a suffix": ([destination("a", "*.local")], "api", 80, None, "a"),
    "host: a suffix has its dot": ([destination("a", "*.local")], "api.xlocal", 80, None, None),
    "host: an exact one before a suffix": (
        [destination("a", "*.svc.cluster.local"), destination("b", "api.shop.svc.cluster.local")],
        "api",
        80,
        None,
        "b",
    ),
    "host: the longer suffix": (
        [destination("a", "*.local"), destination("b", "*.cluster.local")],
        "api",
        80,
        None,
        "b",
    ),
    "namespace: the client's before the service's": (
        [destination("a", "api.front.svc.cluster.local", "front"), destination("b", "*.local")],
        "api.front.svc.cluster.local",
        80,
        None,
        "b",
    ),
    "namespace: the service's before the root's": (
        [destination("a", "*", ROOT), destination("b", "api", "front")],
        "api.front.svc.cluster.local",
        80,
        None,
        "b",
    ),
    "namespace: the root's": ([destination("a", "*.local", ROOT)], "api", 80, None, "a"),
    "service: with its namespace, the client's": ([destination("a", "api")], "api.shop", 80, None, "a"),
    "service: with another namespace": ([destination("a", "api", "front")], "api.front", 80, None, "a"),
    "service: with another namespace and svc": ([destination("a", "api", "front")], "api.front.svc", 80, None, "a"),
    "service: its namespace is of a rule's host": (
        [destination("a", "api.front.svc.cluster.local")],
        "api.front",
        80,
        None,
        "a",
    ),
    "service: of this namespace to a client of another": ([destination("a", "api")], "api.front", 80, None, None),
    "service: another domain's name is none": ([destination("a", "*.local")], "example.com", 80, None, None),
    "namespace: another's": ([destination("a", "*.local", "front")], "api", 80, None, None),
    "selector: of this client": (
        [destination("a", "api"), destination("b", "*.local", selector=APP)],
        "api",
        80,
        None,
        "b",
    ),
    "selector: of another client": ([destination("a", "api", selector=OTHER)], "api", 80, None, None),
    "age: the oldest": (
        [destination("a", "api", created=LATE), destination("b", "api", created=EARLY)],
        "api",
        80,
        None,
        "b",
    ),
}


@pytest.mark.parametrize("name", DESTINATIONS)
def test_the_tls_of_a_destination(name: str) -> None:
    rules, host, port, subset, expected = DESTINATIONS[name]
    found = client_tls(Documents(destination_rules=tuple(rules)), MESH, WORKLOAD, host, port, subset)
    assert (found and found.sni) == expected


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([LAYERED], "wanted a subset of the DestinationRule for api, one of v1, v2, got 'v3'"),
        ([destination("a", "api")], "wanted a subset of the DestinationRule for api, which has none, got 'v3'"),
        ([], "wanted a subset of the DestinationRule for api, which has none, got 'v3'"),
    ],
)
def test_an_unknown_subset_is_an_error(rules: list[DestinationRule], message: str) -> None:
    documents = Documents(destination_rules=tuple(rules))
    with pytest.raises(RequestError) as raised:
        client_tls(documents, MESH, WORKLOAD, "api", 82, "v3")
    assert str(raised.value) == message


SHOP = "policies.yaml, line 7: spec.rules[0]"
ONLY_CLIENT = policy(
    rule(source=Source(principals=(CLIENT,)), operation=Operation(methods=("GET",), paths=("/api/*",)))
)
EXPLANATIONS: dict[str, tuple[AuthorizationPolicy, Request, bool, str]] = {
    "an ALLOW that misses one line of a header": (
        when(USER, "bob"),
        BOB_AND_EVE,
        True,
        f"denied: no ALLOW rule matches. The peer is {CLIENT}; the request is GET /, on port 8080. The nearest is"
        f" ns[shop]-policy[p]-rule[0] ({SHOP}), which fails in when request.headers[X-User]: wanted bob, got bob, eve,"
        " each of which counts. Send what the rule wants, or add a rule that allows this.",
    ),
    "a header beyond ASCII": (
        deny(rule(when={USER: ("Köln",)})),
        in_utf_8("Köln"),
        True,
        f"denied by ns[shop]-policy[d]-rule[0] ({SHOP}), a DENY rule that matches when request.headers[X-User]: wanted"
        f" 'Köln', got 'Köln'. The peer is {CLIENT}; the request is GET /, on port 8080. Send what the rule does not"
        " match, or change the rule.",
    ),
    "a header that is not UTF-8": (
        when(USER, "Köln"),
        request(headers=(("x-user", "K\xf6ln"),)),
        True,
        f"denied: no ALLOW rule matches. The peer is {CLIENT}; the request is GET /, on port 8080. The nearest is"
        f" ns[shop]-policy[p]-rule[0] ({SHOP}), which fails in when request.headers[X-User]: wanted 'Köln', got"
        " K\\xf6ln. Send what the rule wants, or add a rule that allows this.",
    ),
    "an ALLOW that misses": (
        ONLY_CLIENT,
        request(method="POST", path="/api/x"),
        True,
        f"denied: no ALLOW rule matches. The peer is {CLIENT}; the request is POST /api/x, on port 8080. The nearest is"
        f" ns[shop]-policy[p]-rule[0] ({SHOP}), which fails in operation.methods: wanted GET, got POST. Send what the"
        " rule wants, or add a rule that allows this.",
    ),
    "several clauses": (
        ONLY_CLIENT,
        request("b.test/x", "POST", "/y"),
        True,
        "denied: no ALLOW rule matches. The peer is b.test/x; the request is POST /y, on port 8080. The nearest is"
        f" ns[shop]-policy[p]-rule[0] ({SHOP}), which fails in source.principals: wanted a.test/ns/front/sa/client,"
        " old.test/ns/front/sa/client, got b.test/x, and 2 more. Send what the rule wants, or add a rule that allows"
        " this.",
    ),
    "plaintext": (
        ONLY_CLIENT,
        request(None, path="/api/x"),
        True,
        "denied: no ALLOW rule matches. The peer is plaintext, which proves no identity; the request is GET /api/x, on"
        f" port 8080. The nearest is ns[shop]-policy[p]-rule[0] ({SHOP}), which fails in source.principals: wanted"
        " a.test/ns/front/sa/client, old.test/ns/front/sa/client, got plaintext, which proves no identity. Call with"
        " mutual TLS, which proves an identity, or allow plaintext in a rule without identities.",
    ),
    "a DENY": (
        NO_ADMIN,
        request(path="/admin"),
        True,
        f"denied by ns[shop]-policy[d]-rule[0] ({SHOP}), a DENY rule that matches operation.paths: wanted /admin, got"
        f" /admin. The peer is {CLIENT}; the request is GET /admin, on port 8080. Send what the rule does not match, or"
        " change the rule.",
    ),
    "a DENY of everything": (
        deny(EVERYTHING),
        request(),
        True,
        f"denied by ns[shop]-policy[d]-rule[0] ({SHOP}), a DENY rule that matches every request. The peer is {CLIENT};"
        " the request is GET /, on port 8080. Send what the rule does not match, or change the rule.",
    ),
    "a DENY with fields of HTTP on TCP": (
        NO_ADMIN,
        request(http=False),
        False,
        f"denied by ns[shop]-policy[d]-rule[0] ({SHOP}), a DENY rule that matches every connection. The peer is"
        f" {CLIENT}, on port 8080. Without HTTP, a DENY rule's fields of HTTP (operation.paths) are dropped, so that it"
        " denies more; with 'protocol: http' at this port they count. Send what the rule does not match, or change the"
        " rule.",
    ),
    "an ALLOW with fields of HTTP on TCP": (
        by_operation(paths=("/x",)),
        request(http=False),
        False,
        f"denied: no ALLOW rule matches. The peer is {CLIENT}, on port 8080. The nearest is ns[shop]-policy[p]-rule[0]"
        f" ({SHOP}), which fails in operation.paths: wanted an HTTP request, got a connection on which none is read."
        " Without HTTP, an ALLOW rule with fields of HTTP allows nothing: set 'protocol: http' at this port, or add a"
        " rule without such fields.",
    ),
    "an ALLOW policy without rules": (
        policy(),
        request(),
        True,
        "denied: no ALLOW rule matches. ns[shop]-policy[p] has no rules, so it allows nothing. The peer is"
        f" {CLIENT}; the request is GET /, on port 8080. Add a rule that allows this.",
    ),
}


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_item_23_a_denial_is_explained(name: str) -> None:
    document, judged, reads_http, expected = EXPLANATIONS[name]
    assert compiled(document).evaluate(judged, reads_http=reads_http).reason == expected


def test_item_23_the_nearest_rule_is_the_one_with_most_matching_clauses() -> None:
    far = rule(source=Source(namespaces=("x",)), operation=Operation(methods=("GET",)))
    near = rule(source=Source(namespaces=("front",)), operation=Operation(methods=("GET",), paths=("/b",)))
    decision = compiled(policy(far, name="far"), policy(near, name="near")).evaluate(request(), reads_http=True)
    assert str(decision.nearest) == "policy ns[shop]-policy[near], rule 0: operation.paths: wanted /b, got /"
    assert decision.clause == "operation.paths: wanted /b, got /"


@pytest.mark.parametrize(
    ("count", "wanted"), [(4, "/0, /1, /2, /3"), (5, "/0, /1, /2, /3 and 1 more"), (6, "/0, /1, /2, /3 and 2 more")]
)
def test_item_23_a_clause_names_at_most_four_of_its_values(count: int, wanted: str) -> None:
    document = by_operation(paths=tuple(f"/{number}" for number in range(count)))
    clause = compiled(document).evaluate(request(path="/x"), reads_http=True).clause
    assert clause == f"operation.paths: wanted {wanted}, got /x"


def test_item_23_hostile_text_is_quoted() -> None:
    decision = compiled(by_operation(paths=("/x",))).evaluate(request(path="/\n\x1b[2J é"), reads_http=True)
    assert decision.reason.isprintable()


def test_the_chapter_allows_the_order_service_to_post_payments() -> None:
    document = AuthorizationPolicy(
        meta=meta("payment-service-authz", "production"),
        selector=(("app", "payment-service"),),
        rules=(
            rule(
                source=Source(principals=("cluster.local/ns/production/sa/order-service",)),
                operation=Operation(methods=("POST",), paths=("/api/payments",)),
            ),
        ),
    )
    workload = Workload(namespace="production", labels=(("app", "payment-service"),))
    found = compiled(document, mesh=MeshSettings(trust_domain="example.org"), workload=workload)
    order = "example.org/ns/production/sa/order-service"
    assert found.evaluate(request(order, "POST", "/api/payments"), reads_http=True)
    assert not found.evaluate(request(order, "GET", "/api/payments"), reads_http=True)
    assert not found.evaluate(request(f"{order}2", "POST", "/api/payments"), reads_http=True)


@pytest.mark.parametrize("turned", [False, True], ids=["its rule first", "its rule last"])
def test_item_7_a_custom_rule_whose_provider_cannot_be_asked_counts_before_one_whose_provider_can(
    turned: bool,
) -> None:
    rules = [rule(operation=Operation(paths=("/a",))), EVERYTHING]
    document = policy(*(reversed(rules) if turned else rules), action=Action.CUSTOM)
    [match] = compiled(document).custom(request(http=False), reads_http=False)
    assert match.refusal is not None
    [twin] = compiled(document).custom(request(path="/a"))
    assert twin.refusal is None


def test_the_policies_of_one_connection_see_its_peer_in_custom_dry_run_and_audit_rules() -> None:
    ours = rule(source=Source(principals=(CLIENT,)))
    found = compiled(
        policy(ours, action=Action.CUSTOM, name="ask"),
        policy(ours, action=Action.DENY, name="proposed", dry_run=True),
        policy(ours, action=Action.AUDIT, name="seen"),
    )
    assert found.dry_runs
    assert found.audits
    http = HttpRequest("GET", "web", "/")
    narrow, other = found.narrow(request()), found.narrow(request(None))
    assert [one.policy for one in narrow.custom(http)] == ["ns[shop]-policy[ask]"]
    assert [one.allowed for one in narrow.shadow(http)] == [False]
    assert narrow.audit(http) == ("ns[shop]-policy[seen]-rule[0]",)
    assert (other.custom(http), [one.allowed for one in other.shadow(http)], other.audit(http)) == ((), [True], ())


@pytest.mark.parametrize(
    ("action", "proposes"), [(Action.ALLOW, True), (Action.DENY, True), (Action.CUSTOM, True), (Action.AUDIT, False)]
)
def test_item_11_policies_tell_whether_a_dry_run_is_among_them(action: Action, proposes: bool) -> None:
    assert compiled(policy(EVERYTHING, action=action, dry_run=True)).dry_runs is proposes
    assert not compiled(policy(EVERYTHING, action=action)).dry_runs


def test_item_2_the_oldest_of_two_wins_whatever_the_time_zones() -> None:
    older = datetime(2024, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))  # 23:30 of the day before in UTC
    documents = Documents(
        peer_authentications=(
            authentication("b", MtlsMode.STRICT, created=datetime(2024, 1, 1)),  # without a zone: UTC
            authentication("a", MtlsMode.DISABLE, created=older),
        )
    )
    assert compile_policies(documents, MESH, WORKLOAD).mode(80)[0] is MtlsMode.DISABLE
