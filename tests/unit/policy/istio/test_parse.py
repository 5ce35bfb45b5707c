"""Istio's documents: what is taken and what it becomes, and what is refused, with whole messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshtls.config.document import Place
from meshtls.errors import ConfigError
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    ClientTls,
    ClientTlsMode,
    Condition,
    DestinationRule,
    Documents,
    JwtRule,
    Metadata,
    MtlsMode,
    Operation,
    PeerAuthentication,
    RequestAuthentication,
    Rule,
    Source,
    Subset,
    TokenHeader,
)
from meshtls.policy.istio.parse import parse_documents

CHAPTER = Path(__file__).with_name("chapter.yaml")
SECURITY, NETWORKING = "security.istio.io/v1", "networking.istio.io/v1"
KEYS = '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]}'


def parsed(text: str) -> Documents:
    return parse_documents([("f", text)])


def document(kind: str, spec: object, **other: Any) -> dict[str, Any]:
    group = NETWORKING if kind == "DestinationRule" else SECURITY
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "p", "namespace": "web"}, "spec": spec, **other}


def problems(*documents: object) -> list[str]:
    """The problems of these documents in one file, without their lines."""
    with pytest.raises(ConfigError) as refused:
        parsed(yaml.safe_dump_all(documents, sort_keys=False))
    return [one.partition(": ")[2] for one in refused.value.problems]


def policy(**rule: Any) -> dict[str, Any]:
    return document("AuthorizationPolicy", {"rules": [rule]})


def source(**fields: Any) -> dict[str, Any]:
    return policy(**{"from": [{"source": fields}]})


def operation(**fields: Any) -> dict[str, Any]:
    return policy(to=[{"operation": fields}])


def when(key: str, *values: str) -> dict[str, Any]:
    return policy(when=[{"key": key, "values": list(values)}])


def jwt(**fields: Any) -> dict[str, Any]:
    return document("RequestAuthentication", {"jwtRules": [{"issuer": "a", "jwks": KEYS, **fields}]})


def tls(**fields: Any) -> dict[str, Any]:
    return document("DestinationRule", {"host": "db", "trafficPolicy": {"tls": fields}})


def test_the_three_documents_of_the_chapter_load_unchanged_and_mean_what_its_text_says() -> None:
    found = parse_documents([("chapter.yaml", CHAPTER.read_text("utf-8"))])

    (peer,) = found.peer_authentications
    assert (peer.meta.namespace, peer.meta.name, peer.mode, peer.selector) == (
        "production",
        "default",
        MtlsMode.STRICT,
        (),
    )
    (rule,) = found.destination_rules
    assert (rule.host, rule.tls) == ("*.local", ClientTls(mode=ClientTlsMode.ISTIO_MUTUAL))
    (authz,) = found.authorization_policies
    assert (authz.action, authz.selector) == (Action.ALLOW, (("app", "payment-service"),))
    (only,) = authz.rules
    assert only.sources == (Source(principals=("cluster.local/ns/production/sa/order-service",)),)
    assert only.operations == (Operation(methods=("POST",), paths=("/api/payments",)),)
    assert found.warnings == ()


EVERY_FIELD = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: all
  namespace: web
  labels: {{app.kubernetes.io/name: x}}
  annotations: {{istio.io/dry-run: "true"}}
  creationTimestamp: "2026-01-31T12:00:00.5+01:00"
  uid: 1
  managedFields: [{{x: y}}]
spec:
  selector: {{matchLabels: {{app: web, "a.b/c": "1"}}}}
  action: CUSTOM
  provider: {{name: ext}}
  rules:
  - from:
    - source:
        principals: [a/ns/b/sa/c, a/*, "*"]
        notPrincipals: ["*/sa/x"]
        requestPrincipals: [i/s]
        notRequestPrincipals: [i/t]
        namespaces: ["a*b"]
        notNamespaces: [c]
        trustDomains: [a.test, "*.test"]
        notTrustDomains: [b.test]
        ipBlocks: [10.0.0.1/8, "::1"]
        notIpBlocks: [10.0.0.1]
        remoteIpBlocks: ["2001:db8::/32"]
        notRemoteIpBlocks: [192.0.2.0/24]
    - source: {{serviceAccounts: [web/a, b], notServiceAccounts: [c]}}
    to:
    - operation:
        hosts: [a.test, "*.b.test"]
        notHosts: [c]
        ports: ["80", "0443"]
        notPorts: ["1"]
        methods: [GET, "P*"]
        notMethods: [PUT]
        paths: [/a, /b*, "*.txt", "/c/{{*}}/d/{{**}}"]
        notPaths: [/e]
    when:
    - {{key: "request.headers[x-a]", values: ["text/*;q=1"], notValues: [b]}}
    - {{key: "request.auth.claims[a][b]", values: [c]}}
---
apiVersion: security.istio.io/v1beta1
kind: PeerAuthentication
metadata: {{name: p, creationTimestamp: null}}
spec: {{mtls: {{mode: STRICT}}, selector: {{matchLabels: {{a: b}}}}, portLevelMtls: {{8: {{mode: DISABLE}}, 9: {{}}}}}}
status: {{conditions: [1]}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r}}
spec:
  targetRefs: [{{group: "", kind: Service, name: x}}]
  jwtRules:
  - issuer: a
    audiences: [b]
    jwks: '{KEYS}'
    fromHeaders: [{{name: x-jwt, prefix: "Bearer "}}, {{name: y}}]
    fromParams: [p]
    fromCookies: [c]
    outputPayloadToHeader: x-payload
    outputClaimToHeaders: [{{header: x-sub, claim: sub}}]
    forwardOriginalToken: true
    timeout: 1m30s
  - {{issuer: a, jwksUri: "https://a.test/keys"}}
  - {{issuer: a, jwksFile: /keys.json}}
  - {{issuer: "spiffe://a.test"}}
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {{name: d}}
spec:
  host: "*.web.svc.cluster.local"
  exportTo: ["*"]
  workloadSelector: {{matchLabels: {{app: web}}}}
  trafficPolicy:
    tls: {{mode: MUTUAL, clientCertificate: c, privateKey: k, caCertificates: a, subjectAltNames: [s], sni: n}}
    portLevelSettings: [{{port: {{number: 80}}, tls: {{mode: DISABLE}}}}, {{port: {{number: 81}}}}]
    loadBalancer: {{simple: RANDOM}}
  subsets:
  - {{name: v1, labels: {{version: v1}}, trafficPolicy: {{tls: {{mode: SIMPLE, insecureSkipVerify: false}}}}}}
"""


def test_every_field_becomes_what_it_says() -> None:
    found = parsed(EVERY_FIELD)

    assert found.authorization_policies == (
        AuthorizationPolicy(
            meta=Metadata(
                name="all",
                namespace="web",
                place=Place("f", 4, "metadata"),
                created=datetime(2026, 1, 31, 11, tzinfo=UTC),
                labels=(("app.kubernetes.io/name", "x"),),
                annotations=(("istio.io/dry-run", "true"),),
            ),
            selector=(("app", "web"), ("a.b/c", "1")),
            action=Action.CUSTOM,
            provider="ext",
            dry_run=True,
            rules=(
                Rule(
                    place=Place("f", 17, "spec.rules[0]"),
                    sources=(
                        Source(
                            principals=("a/ns/b/sa/c", "a/*", "*"),
                            not_principals=("*/sa/x",),
                            request_principals=("i/s",),
                            not_request_principals=("i/t",),
                            namespaces=("a*b",),
                            not_namespaces=("c",),
                            trust_domains=("a.test", "*.test"),
                            not_trust_domains=("b.test",),
                            ip_blocks=("10.0.0.1/8", "::1"),
                            not_ip_blocks=("10.0.0.1",),
                            remote_ip_blocks=("2001:db8::/32",),
                            not_remote_ip_blocks=("192.0.2.0/24",),
                        ),
                        Source(service_accounts=("web/a", "b"), not_service_accounts=("c",)),
                    ),
                    operations=(
                        Operation(
                            hosts=("a.test", "*.b.test"),
                            not_hosts=("c",),
                            ports=("80", "443"),
                            not_ports=("1",),
                            methods=("GET", "P*"),
                            not_methods=("PUT",),
                            paths=("/a", "/b*", "*.txt", "/c/{*}/d/{**}"),
                            not_paths=("/e",),
                        ),
                    ),
                    conditions=(
                        Condition(key="request.headers[x-a]", values=("text/*;q=1",), not_values=("b",)),
                        Condition(key="request.auth.claims[a][b]", values=("c",)),
                    ),
                ),
            ),
        ),
    )
    assert found.peer_authentications == (
        PeerAuthentication(
            meta=Metadata(name="p", namespace="default", place=Place("f", 48, "metadata")),
            selector=(("a", "b"),),
            mode=MtlsMode.STRICT,
            ports=((8, MtlsMode.DISABLE), (9, MtlsMode.UNSET)),
        ),
    )
    (requests,) = found.request_authentications
    assert requests == RequestAuthentication(
        meta=requests.meta,
        target_refs=True,
        rules=(
            JwtRule(
                issuer="a",
                audiences=("b",),
                jwks=KEYS,
                from_headers=(TokenHeader(name="x-jwt", prefix="Bearer "), TokenHeader(name="y")),
                from_params=("p",),
                from_cookies=("c",),
                output_payload_to_header="x-payload",
                output_claim_to_headers=(("x-sub", "sub"),),
                forward_original_token=True,
                timeout=timedelta(seconds=90),
            ),
            JwtRule(issuer="a", jwks_uri="https://a.test/keys"),
            JwtRule(issuer="a", jwks_file="/keys.json"),
            JwtRule(issuer="spiffe://a.test"),
        ),
    )
    (destination,) = found.destination_rules
    assert destination == DestinationRule(
        meta=destination.meta,
        host="*.web.svc.cluster.local",
        tls=ClientTls(
            mode=ClientTlsMode.MUTUAL,
            client_certificate="c",
            private_key="k",
            ca_certificates="a",
            subject_alt_names=("s",),
            sni="n",
        ),
        ports=((80, ClientTls(mode=ClientTlsMode.DISABLE)),),
        subsets=(Subset(name="v1", labels=(("version", "v1"),), tls=ClientTls(mode=ClientTlsMode.SIMPLE)),),
        selector=(("app", "web"),),
    )
    assert found.warnings == (
        "f, line 56: spec.targetRefs: accepted, not enforced. A policy with it is for gateways and waypoints alone:"
        " a sidecar ignores the whole policy, as Istio's does.",
        "f, line 82: spec.trafficPolicy.loadBalancer: accepted, not enforced. Load balancing.",
    )


def test_json_and_yaml_give_the_same_documents() -> None:
    from_json = parsed(json.dumps(source(principals=["a/*"]), indent="\t"))
    from_yaml = parsed(yaml.safe_dump(source(principals=["a/*"]), sort_keys=False))
    (one,), (other,) = from_json.authorization_policies, from_yaml.authorization_policies
    assert one.rules[0].sources == other.rules[0].sources == (Source(principals=("a/*",)),)


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        *((kind, version) for kind in ("PeerAuthentication", "AuthorizationPolicy", "RequestAuthentication")
          for version in ("security.istio.io/v1", "security.istio.io/v1beta1")),
        *(("DestinationRule", f"networking.istio.io/{version}") for version in ("v1", "v1beta1", "v1alpha3")),
    ],
)  # fmt: skip
def test_each_version_of_a_kind_is_read(kind: str, version: str) -> None:
    spec = {"host": "a"} if kind == "DestinationRule" else {}
    good = document(kind, spec, apiVersion=version)
    parsed(yaml.safe_dump(good))
    bad = {**good, "apiVersion": version.replace("/v1", "/v2")}
    assert [one.partition(" for ")[2] for one in problems(bad)] == [f"{kind}, got '{bad['apiVersion']}'"]


def test_a_list_is_its_items_and_empty_documents_are_left_out() -> None:
    items = [source(principals=["a"]), document("PeerAuthentication", {})]
    listed = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items}
    found = parsed("---\n# nothing\n---\n" + yaml.safe_dump(listed) + "---\n")
    assert (len(found.authorization_policies), len(found.peer_authentications)) == (1, 1)
    typed = {"apiVersion": SECURITY, "kind": "PeerAuthenticationList", "items": [document("PeerAuthentication", {})]}
    assert len(parsed(yaml.safe_dump(typed)).peer_authentications) == 1
    assert problems({**listed, "apiVersion": "v2", "items": ["a"], "more": 1}) == [
        "apiVersion: wanted v1 for List, got 'v2'",
        "items[0]: wanted a document, got 'a'",
        "more: unknown field; wanted one of apiVersion, kind, metadata, items",
    ]


def test_a_document_without_a_namespace_is_in_the_default_one() -> None:
    text = yaml.safe_dump(document("PeerAuthentication", {}, metadata={"name": "p"}))
    assert parse_documents([("f", text)]).peer_authentications[0].meta.namespace == "default"
    found = parse_documents([("f", text)], default_namespace="web")
    assert found.peer_authentications[0].meta.namespace == "web"


@pytest.mark.parametrize(
    ("value", "dry"), [("true", True), ("T", True), ("1", True), ("false", False), ("yes", False), ("", False)]
)
def test_a_dry_run_is_what_go_reads_as_true_and_all_else_is_in_force(value: str, dry: bool) -> None:
    metadata = {"name": "p", "annotations": {"istio.io/dry-run": value}}
    (found,) = parsed(yaml.safe_dump({**source(principals=["a"]), "metadata": metadata})).authorization_policies
    assert found.dry_run is dry


_FIELDS = "selector, targetRef, targetRefs, action, provider, rules"
_RULE = "spec.rules[0]"
_SOURCE, _OPERATION = f"{_RULE}.from[0].source", f"{_RULE}.to[0].operation"
_JWT = "spec.jwtRules[0]"
_TLS = "spec.trafficPolicy.tls"
#: A refused document, its problem, and a twin that differs in one thing and is read.
REFUSED: dict[str, tuple[Any, str, Any]] = {
    "an unknown field": (
        document("AuthorizationPolicy", {"rule": []}),
        f"spec.rule: unknown field; wanted one of {_FIELDS}",
        document("AuthorizationPolicy", {"rules": []}),
    ),
    "a name of protobuf": (
        source(ip_blocks=["10.0.0.1"]),
        f"{_SOURCE}.ip_blocks: unknown field; write ipBlocks",
        source(ipBlocks=["10.0.0.1"]),
    ),
    "a text for a list": (
        source(principals="a"),
        f"{_SOURCE}.principals: wanted a list, got 'a'",
        source(principals=["a"]),
    ),
    "nothing for a list": (
        document("AuthorizationPolicy", {"rules": None}),
        "spec.rules: wanted a list, got nothing",
        document("AuthorizationPolicy", {"rules": []}),
    ),
    "a list for an object": (
        document("PeerAuthentication", {"mtls": []}),
        "spec.mtls: wanted keys with values, got a list",
        document("PeerAuthentication", {"mtls": {}}),
    ),
    "a port without quotes": (
        operation(ports=[80]),
        f"{_OPERATION}.ports[0]: wanted a port as text, 1 to 65535, got the number 80; put it in quotes",
        operation(ports=["80"]),
    ),
    "a label that is a number": (
        document("PeerAuthentication", {"selector": {"matchLabels": {"version": 1.0}}}),
        "spec.selector.matchLabels.version: wanted a label's value, got the number 1.0; put it in quotes",
        document("PeerAuthentication", {"selector": {"matchLabels": {"version": "1.0"}}}),
    ),
    "a label's key with a star": (
        document("PeerAuthentication", {"selector": {"matchLabels": {"*": "a"}}}),
        "spec.selector.matchLabels.*: wanted a label's key such as app or example.org/app, without a star, got '*'",
        document("PeerAuthentication", {"selector": {"matchLabels": {"a": "a"}}}),
    ),
    "a label's key with a bad prefix": (
        document("PeerAuthentication", {"selector": {"matchLabels": {"A_/a": "a"}}}),
        "spec.selector.matchLabels.A_/a: wanted a label's key such as app or example.org/app, without a star, got"
        " 'A_/a'",
        document("PeerAuthentication", {"selector": {"matchLabels": {"a.b/a": "a"}}}),
    ),
    "a label's value with a star": (
        document("PeerAuthentication", {"selector": {"matchLabels": {"a": "b*"}}}),
        "spec.selector.matchLabels.a: wanted a label's value of at most 63 characters, without a star, got 'b*'",
        document("PeerAuthentication", {"selector": {"matchLabels": {"a": ""}}}),
    ),
    "a service account that is too long": (
        source(serviceAccounts=["a/" + "b" * 319]),
        f"{_SOURCE}.serviceAccounts[0]: wanted namespace/account, or an account of the policy's namespace, without a"
        f" star, of at most 320 characters, got 'a/{'b' * 58}'... (321 characters)",
        source(serviceAccounts=["a/" + "b" * 318]),
    ),
    "a path with a brace": (
        operation(paths=["/a}"]),
        f"{_OPERATION}.paths[0]: wanted a path, or a template such as /users/{{*}}/files/{{**}}, got '/a}}':"
        " an operator, {*} or {**}, is a segment by itself",
        operation(paths=["/a"]),
    ),
    "a template with an empty segment": (
        operation(paths=["/{*}//a"]),
        f"{_OPERATION}.paths[0]: wanted a path, or a template such as /users/{{*}}/files/{{**}}, got '/{{*}}//a':"
        " a template has no empty segment",
        operation(paths=["/{*}/a/"]),
    ),
    "a template without its first slash": (
        operation(paths=["{*}/a"]),
        f"{_OPERATION}.paths[0]: wanted a path, or a template such as /users/{{*}}/files/{{**}}, got '{{*}}/a':"
        " a template begins with '/'",
        operation(paths=["/{*}/a"]),
    ),
    "keys that are no JSON": (
        jwt(jwks="keys"),
        f"{_JWT}.jwks: wanted a JSON Web Key Set (RFC 7517, section 5), got a text that is not JSON",
        jwt(),
    ),
    "an action that is a list": (
        document("AuthorizationPolicy", {"action": []}),
        "spec.action: wanted ALLOW, DENY, AUDIT or CUSTOM, got a list",
        document("AuthorizationPolicy", {"action": "ALLOW"}),
    ),
    "a flag in quotes": (
        jwt(forwardOriginalToken="true"),
        f"{_JWT}.forwardOriginalToken: wanted true or false, got 'true'",
        jwt(forwardOriginalToken=True),
    ),
    "a port that is too large": (
        operation(ports=["65536"]),
        f"{_OPERATION}.ports[0]: wanted a port, 1 to 65535, got '65536'",
        operation(ports=["65535"]),
    ),
    "a port of no listener": (
        document("PeerAuthentication", {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {0: {}}}),
        "spec.portLevelMtls.0: wanted a port, 1 to 65535, got '0'",
        document("PeerAuthentication", {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {1: {}}}),
    ),
    "a port twice, once as text": (
        document("PeerAuthentication", {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {80: {}, "080": {}}}),
        "spec.portLevelMtls: wanted each key once, got 80 again",
        document("PeerAuthentication", {"selector": {"matchLabels": {"a": "b"}}, "portLevelMtls": {80: {}, "081": {}}}),
    ),
    "a CIDR block that is too long": (
        source(ipBlocks=["10.0.0.0/33"]),
        f"{_SOURCE}.ipBlocks[0]: wanted an IP address or a CIDR block such as 10.0.0.0/8 or 2001:db8::/32,"
        " got '10.0.0.0/33'",
        source(ipBlocks=["10.0.0.0/32"]),
    ),
    "a netmask": (
        source(remoteIpBlocks=["10.0.0.0/255.0.0.0"]),
        f"{_SOURCE}.remoteIpBlocks[0]: wanted an IP address or a CIDR block such as 10.0.0.0/8 or 2001:db8::/32,"
        " got '10.0.0.0/255.0.0.0'",
        source(remoteIpBlocks=["10.0.0.0/8"]),
    ),
    "a bad duration": (
        jwt(timeout="apple"),
        f"{_JWT}.timeout: wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got 'apple'",
        jwt(timeout="1s"),
    ),
    "a star in the middle": (
        source(principals=["a/ns/*/sa/b"]),
        f"{_SOURCE}.principals[0]: wanted at most one star, at the beginning or at the end, got 'a/ns/*/sa/b'",
        source(principals=["*/sa/b"]),
    ),
    "a star at both ends": (
        operation(paths=["*a*"]),
        f"{_OPERATION}.paths[0]: wanted at most one star, at the beginning or at the end, got '*a*'",
        operation(paths=["*a"]),
    ),
    "an empty text": (
        operation(methods=[""]),
        f"{_OPERATION}.methods[0]: wanted a value, got an empty text, which never matches; '*' matches any that is not"
        " empty",
        operation(methods=["*"]),
    ),
    "a principal with its scheme": (
        source(principals=["spiffe://a/b"]),
        f"{_SOURCE}.principals[0]: wanted a SPIFFE ID without 'spiffe://', such as cluster.local/ns/web/sa/web,"
        " got 'spiffe://a/b'",
        source(principals=["a/b"]),
    ),
    "a trust domain with a path": (
        source(trustDomains=["a/b"]),
        f"{_SOURCE}.trustDomains[0]: wanted a trust domain's name, without '/', got 'a/b'",
        when("source.trustDomain", "a/b"),
    ),
    "a service account with a star": (
        source(serviceAccounts=["web/*"]),
        f"{_SOURCE}.serviceAccounts[0]: wanted namespace/account, or an account of the policy's namespace, without a"
        " star, of at most 320 characters, got 'web/*'",
        source(serviceAccounts=["web/a"]),
    ),
    "a service account of three parts": (
        source(serviceAccounts=["a/b/c"]),
        f"{_SOURCE}.serviceAccounts[0]: wanted namespace/account, or an account of the policy's namespace, without a"
        " star, of at most 320 characters, got 'a/b/c'",
        source(serviceAccounts=["b/c"]),
    ),
    "too many service accounts": (
        source(serviceAccounts=["a"] * 17),
        f"{_SOURCE}.serviceAccounts: wanted at most 16 items, got 17",
        source(serviceAccounts=["a"] * 16),
    ),
    "service accounts beside namespaces": (
        source(serviceAccounts=["a"], notNamespaces=["b"]),
        f"{_SOURCE}.serviceAccounts: wanted no principals and no namespaces beside it, got notNamespaces",
        source(serviceAccounts=["a"], trustDomains=["b"]),
    ),
    "a source without a field": (
        source(),
        f"{_SOURCE}: wanted at least one field with a value, got none; leave out the whole list to match anything",
        policy(),
    ),
    "an operation with an empty field": (
        operation(paths=[]),
        f"{_OPERATION}: wanted at least one field with a value, got none; leave out the whole list to match anything",
        operation(paths=["/"]),
    ),
    "no source in from": (
        policy(**{"from": []}),
        f"{_RULE}.from: wanted at least one item, got none; leave out from to match anything",
        policy(),
    ),
    "too many rules": (
        document("AuthorizationPolicy", {"rules": [{}] * 513}),
        "spec.rules: wanted at most 512 items, got 513",
        document("AuthorizationPolicy", {"rules": [{}] * 512}),
    ),
    "too many sources": (
        policy(**{"from": [{"source": {"principals": ["a"]}}] * 513}),
        f"{_RULE}.from: wanted at most 512 items, got 513",
        policy(**{"from": [{"source": {"principals": ["a"]}}] * 512}),
    ),
    "too many targets": (
        document("AuthorizationPolicy", {"targetRefs": [{"kind": "Service", "name": "a"}] * 17}),
        "spec.targetRefs: wanted at most 16 items, got 17",
        document("AuthorizationPolicy", {"targetRefs": [{"kind": "Service", "name": "a"}] * 16}),
    ),
    "a target of another kind": (
        document("AuthorizationPolicy", {"targetRef": {"kind": "Pod", "name": "a"}}),
        "spec.targetRef.kind: wanted Gateway, GatewayClass, Service or ServiceEntry",
        document("AuthorizationPolicy", {"targetRef": {"kind": "Service", "name": "a"}}),
    ),
    "a selector with targets": (
        document("AuthorizationPolicy", {"selector": {}, "targetRefs": [{"kind": "Service", "name": "a"}]}),
        "spec.targetRefs: wanted one of selector and targetRefs, got selector and targetRefs",
        document("AuthorizationPolicy", {"selector": {}}),
    ),
    "DENY without rules": (
        document("AuthorizationPolicy", {"action": "DENY"}),
        "spec.rules: wanted at least one rule for DENY, got none; `rules: [{}]` matches everything",
        document("AuthorizationPolicy", {"action": "DENY", "rules": [{}]}),
    ),
    "CUSTOM without rules": (
        document("AuthorizationPolicy", {"action": "CUSTOM", "provider": {"name": "a"}, "rules": []}),
        "spec.rules: wanted at least one rule for CUSTOM, got none; `rules: [{}]` matches everything",
        document("AuthorizationPolicy", {"action": "CUSTOM", "provider": {"name": "a"}, "rules": [{}]}),
    ),
    "CUSTOM without a provider": (
        document("AuthorizationPolicy", {"action": "CUSTOM", "rules": [{}]}),
        "spec.provider: wanted the name of a provider for CUSTOM, got none",
        document("AuthorizationPolicy", {"action": "CUSTOM", "rules": [{}], "provider": {"name": "a"}}),
    ),
    "a provider for ALLOW": (
        document("AuthorizationPolicy", {"provider": {"name": "a"}}),
        "spec.provider: wanted a provider for CUSTOM only, got one for ALLOW",
        document("AuthorizationPolicy", {}),
    ),
    "an action in lower case": (
        document("AuthorizationPolicy", {"action": "allow"}),
        "spec.action: wanted ALLOW, DENY, AUDIT or CUSTOM, got 'allow'",
        document("AuthorizationPolicy", {"action": "ALLOW"}),
    ),
    "a key of when that is not known": (
        when("source.port", "1"),
        f"{_RULE}.when[0].key: unknown key 'source.port'; wanted one of request.headers[], source.ip, source.namespace,"
        " source.serviceAccount, source.principal, source.trustDomain, remote.ip, request.auth.principal,"
        " request.auth.audiences, request.auth.presenter, request.auth.claims[], destination.ip, destination.port,"
        " connection.sni",
        when("destination.port", "1"),
    ),
    **{
        f"the key {key} of v1alpha1": (
            when(key, "a"),
            f"{_RULE}.when[0].key: the key '{key}' is of v1alpha1; {words}",
            when("source.namespace", "a"),
        )
        for key, words in {
            "destination.namespace": "metadata.namespace says the same",
            "destination.labels[app]": "a selector says the same",
            "destination.name": "a selector says the same",
            "destination.user": "a selector says the same",
        }.items()
    },
    "a key of Envoy's": (
        when("experimental.envoy.filters.a[b]", "a"),
        f"{_RULE}.when[0].key: wanted a key that is known here, got 'experimental.envoy.filters.a[b]': it is Envoy's"
        " own",
        when("request.headers[b]", "a"),
    ),
    "a key without brackets": (
        when("request.headers", "a"),
        f"{_RULE}.when[0].key: wanted a name in brackets, such as request.headers[x-tenant], got 'request.headers'",
        when("request.headers[a]", "a"),
    ),
    "a pseudo-header that no policy asks for": (
        when("request.headers[:scheme]", "a"),
        f"{_RULE}.when[0].key: wanted a header, or :authority, :method or :path, got ':scheme'",
        when("request.headers[:path]", "a"),
    ),
    "a value that does not fit its key": (
        when("source.ip", "10.0.0.1", "a"),
        f"{_RULE}.when[0].values[1]: wanted an IP address or a CIDR block such as 10.0.0.0/8 or 2001:db8::/32, got 'a'",
        when("source.ip", "10.0.0.1"),
    ),
    "a condition without values": (
        policy(when=[{"key": "source.ip"}]),
        f"{_RULE}.when[0]: wanted values or notValues, got neither",
        policy(when=[{"key": "source.ip", "notValues": ["10.0.0.1"]}]),
    ),
    "ports without a selector": (
        document("PeerAuthentication", {"portLevelMtls": {80: {}}}),
        "spec.portLevelMtls: wanted a selector with labels beside it, got none: ports belong to a workload",
        document("PeerAuthentication", {"portLevelMtls": {80: {}}, "selector": {"matchLabels": {"a": "b"}}}),
    ),
    "no port in portLevelMtls": (
        document("PeerAuthentication", {"portLevelMtls": {}, "selector": {"matchLabels": {"a": "b"}}}),
        "spec.portLevelMtls: wanted at least one port, got none",
        document("PeerAuthentication", {"selector": {"matchLabels": {"a": "b"}}}),
    ),
    "a template that is not one": (
        operation(paths=["/a/{*}.txt"]),
        f"{_OPERATION}.paths[0]: wanted a path, or a template such as /users/{{*}}/files/{{**}}, got '/a/{{*}}.txt':"
        " an operator, {*} or {**}, is a segment by itself",
        operation(paths=["/a/{*}"]),
    ),
    "a template with a star": (
        operation(paths=["/*/x/{*}"]),
        f"{_OPERATION}.paths[0]: wanted a path, or a template such as /users/{{*}}/files/{{**}}, got '/*/x/{{*}}':"
        " the segment '*' has a character that a template may not have",
        operation(paths=["/{*}/x/{*}"]),
    ),
    "a template that goes on after {**}": (
        operation(paths=["/{**}/a/{*}"]),
        f"{_OPERATION}.paths[0]: wanted a path, or a template such as /users/{{*}}/files/{{**}}, got '/{{**}}/a/{{*}}':"
        " no operator may follow {**}",
        operation(paths=["/{*}/a/{**}/b"]),
    ),
    "no keys of an issuer": (
        document("RequestAuthentication", {"jwtRules": [{"issuer": "a"}]}),
        f"{_JWT}: wanted jwks, jwksUri or jwksFile, got none; keys are not looked for at the issuer's address",
        document("RequestAuthentication", {"jwtRules": [{"issuer": "spiffe://a"}]}),
    ),
    "two sets of keys": (
        jwt(jwksUri="https://a/b"),
        f"{_JWT}.jwksUri: wanted one of jwks, jwksUri and jwksFile, got jwks and jwksUri",
        jwt(),
    ),
    "keys that are no set": (
        jwt(jwks="{}"),
        f'{_JWT}.jwks: wanted a JSON Web Key Set (RFC 7517, section 5) with "keys", got none of them',
        jwt(),
    ),
    "a key set of another scheme": (
        document("RequestAuthentication", {"jwtRules": [{"issuer": "a", "jwksUri": "file:///etc/passwd"}]}),
        f"{_JWT}.jwksUri: wanted https://..., http://... or spiffe://TRUST-DOMAIN, got 'file:///etc/passwd'",
        document("RequestAuthentication", {"jwtRules": [{"issuer": "a", "jwksUri": "https://a/"}]}),
    ),
    "a header that is none": (
        jwt(outputPayloadToHeader=":path"),
        f"{_JWT}.outputPayloadToHeader: wanted the name of a header, got ':path'",
        jwt(outputPayloadToHeader="path"),
    ),
    **{
        f"the payload in {name}": (
            jwt(outputPayloadToHeader=name),
            f"{_JWT}.outputPayloadToHeader: wanted a header that a token may set, got {name!r}: it frames the request,"
            " is of one connection, or is the header by which a sidecar tells who calls",
            jwt(outputPayloadToHeader=f"x-{name}"),
        )
        for name in (
            *("Host", "Content-Length", "transfer-encoding", "connection", "Upgrade", "TE", "keep-alive", "trailer"),
            *("proxy-connection", "http2-settings", "expect", "X-Forwarded-Client-Cert", "x_forwarded-client_cert"),
        )
    },
    "a claim in the sidecar's header": (
        jwt(outputClaimToHeaders=[{"header": "X-Forwarded-Client-Cert", "claim": "sub"}]),
        f"{_JWT}.outputClaimToHeaders[0].header: wanted a header that a token may set, got 'X-Forwarded-Client-Cert':"
        " it frames the request, is of one connection, or is the header by which a sidecar tells who calls",
        jwt(outputClaimToHeaders=[{"header": "X-Client-Cert", "claim": "sub"}]),
    ),
    **{
        f"a claim in {name}": (
            jwt(outputClaimToHeaders=[{"header": name, "claim": "sub"}]),
            f"{_JWT}.outputClaimToHeaders[0].header: wanted a header that a token may set, got {name!r}: by it proxies"
            " tell the app who calls",
            jwt(outputClaimToHeaders=[{"header": f"{name}-user", "claim": "sub"}]),
        )
        for name in ("Forwarded", "X-Forwarded-For", "x_forwarded_proto", "X-Real-IP")
    },
    "no mode of TLS": (
        tls(sni="a"),
        f"{_TLS}.mode: this field is required, and it is missing",
        tls(mode="SIMPLE", sni="a"),
    ),
    "MUTUAL without its key": (
        tls(mode="MUTUAL", clientCertificate="a"),
        f"{_TLS}.privateKey: wanted a file for MUTUAL, got none",
        tls(mode="MUTUAL", clientCertificate="a", privateKey="b"),
    ),
    "ISTIO_MUTUAL with a file": (
        tls(mode="ISTIO_MUTUAL", caCertificates="a"),
        f"{_TLS}.caCertificates: wanted no other field for ISTIO_MUTUAL, which uses the workload's SVID",
        tls(mode="ISTIO_MUTUAL"),
    ),
    "a server that is not verified": (
        tls(mode="SIMPLE", insecureSkipVerify=True),
        f"{_TLS}.insecureSkipVerify: wanted false, got true: a server that is not verified is not dialled",
        tls(mode="SIMPLE", insecureSkipVerify=False),
    ),
    "a secret of Kubernetes": (
        tls(mode="SIMPLE", credentialName="a"),
        f"{_TLS}.credentialName: wanted no credentialName, got 'a'. Kubernetes' secrets are not read here: name files.",
        tls(mode="SIMPLE"),
    ),
    "a rule that is not for everybody": (
        document("DestinationRule", {"host": "a", "exportTo": ["."]}),
        "spec.exportTo[0]: wanted '*', got '.': the rule would act in more namespaces than it says",
        document("DestinationRule", {"host": "a", "exportTo": ["*"]}),
    ),
    "a host that is none": (
        document("DestinationRule", {"host": "a*"}),
        "spec.host: wanted a host's name, or *.suffix, got 'a*'",
        document("DestinationRule", {"host": "*.a"}),
    ),
    "a part of trafficPolicy that Istio does not know": (
        document("DestinationRule", {"host": "a", "trafficPolicy": {"retries": {}}}),
        "spec.trafficPolicy.retries: unknown field; wanted one of tls, portLevelSettings, loadBalancer, connectionPool,"
        " outlierDetection, tunnel, proxyProtocol, retryBudget",
        document("DestinationRule", {"host": "a", "trafficPolicy": {"retryBudget": {}}}),
    ),
    "a port of a destination twice": (
        document(
            "DestinationRule", {"host": "a", "trafficPolicy": {"portLevelSettings": [{"port": {"number": 1}}] * 2}}
        ),
        "spec.trafficPolicy.portLevelSettings: wanted each port once, got one again",
        document("DestinationRule", {"host": "a", "trafficPolicy": {"portLevelSettings": [{"port": {"number": 1}}]}}),
    ),
    "no host": (
        document("DestinationRule", None),
        "spec.host: this field is required, and it is missing",
        document("PeerAuthentication", None),
    ),
    "a bad name": (
        document("PeerAuthentication", {}, metadata={"name": "P_"}),
        "metadata.name: wanted a name of a-z, 0-9, '-' and '.', of at most 253 characters, got 'P_'",
        document("PeerAuthentication", {}, metadata={"name": "p"}),
    ),
    "a time that is none": (
        document("PeerAuthentication", {}, metadata={"name": "p", "creationTimestamp": "2026-02-30T00:00:00Z"}),
        "metadata.creationTimestamp: wanted a time such as 2026-01-31T12:00:00Z, got '2026-02-30T00:00:00Z'",
        document("PeerAuthentication", {}, metadata={"name": "p", "creationTimestamp": "2026-02-28T00:00:00Z"}),
    ),
    "a kind of this group that is not known": (
        document("Telemetry", {}),
        "kind: wanted PeerAuthentication, AuthorizationPolicy or RequestAuthentication, got 'Telemetry'",
        document("PeerAuthentication", {}),
    ),
    "a kind of another group": (
        document("ConfigMap", {}, apiVersion="v1"),
        "apiVersion: wanted a document of security.istio.io or networking.istio.io, got 'v1', kind 'ConfigMap';"
        " keep other documents in other files",
        document("PeerAuthentication", {}),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "message", "good"), REFUSED.values(), ids=REFUSED)
def test_a_document_is_refused_with_its_field_and_its_twin_is_read(bad: Any, message: str, good: Any) -> None:
    assert problems(bad) == [message]
    parsed(yaml.safe_dump(good, sort_keys=False))


def test_a_flag_is_true_or_false_and_no_other_word_of_yaml() -> None:
    text = yaml.safe_dump(jwt(forwardOriginalToken=True), sort_keys=False)
    parsed(text)
    with pytest.raises(ConfigError, match="forwardOriginalToken: wanted true or false, got 'yes'"):
        parsed(text.replace("forwardOriginalToken: true", "forwardOriginalToken: yes"))


def test_a_policy_that_is_there_twice_is_refused_with_both_places() -> None:
    texts = [("a", yaml.safe_dump(policy())), ("b", yaml.safe_dump_all([document("PeerAuthentication", {}), policy()]))]
    with pytest.raises(ConfigError) as refused:
        parse_documents(texts)
    assert refused.value.problems == (
        "b, line 10: metadata: wanted each AuthorizationPolicy once, got web/p again; the first is in a, line 3",
    )
    parse_documents([texts[0], ("b", yaml.safe_dump({**policy(), "metadata": {"name": "p", "namespace": "db"}}))])


def test_all_problems_of_all_files_are_reported_in_their_order() -> None:
    broken = "a: [\n"
    with pytest.raises(ConfigError) as refused:
        parse_documents([("z", yaml.safe_dump(operation(ports=[80, "a"]))), ("b", broken), ("c", "- 1\n")])
    assert refused.value.problems == (
        "z, line 11: spec.rules[0].to[0].operation.ports[0]: wanted a port as text, 1 to 65535, got the number 80;"
        " put it in quotes",
        "z, line 12: spec.rules[0].to[0].operation.ports[1]: wanted a port, 1 to 65535, got 'a'",
        "b, line 2: wanted a YAML document: while parsing a flow node, expected the node content, but found"
        " '<stream end>'",
        "c, line 1: the file: wanted keys with values, got a list",
    )


def test_an_aliased_problem_is_reported_and_nothing_is_made_of_it() -> None:
    text = yaml.safe_dump(source(principals=["a"])) + "---\n"
    bad = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: q}
spec: {rules: [&r {to: [{operation: {ports: [80]}}]}, *r]}
"""
    with pytest.raises(ConfigError) as refused:
        parsed(text + bad)
    assert len(refused.value.problems) == 2
