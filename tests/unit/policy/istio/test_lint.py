"""What lint finds in documents, with whole messages. Each finding has a silent twin that differs in one thing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from meshtls.policy.istio.lint import Finding, Severity, findings
from meshtls.policy.istio.lint_covers import Comparison
from meshtls.policy.istio.lint_finding import CODES
from meshtls.policy.istio.model import MeshSettings, Workload
from meshtls.policy.istio.parse import parse_documents
from tests.unit.policy.istio.test_parse import CHAPTER

MESH = MeshSettings(trust_domain="a.test", trust_domain_aliases=("old.test",))
WEB = Workload(namespace="web", labels=(("app", "web"), ("version", "v1")))
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
"""


def lint(*texts: str, known: tuple[Workload, ...] = (), federated: tuple[str, ...] = ()) -> list[Finding]:
    documents = parse_documents([*((f"f{number}", text) for number, text in enumerate(texts)), ("strict", STRICT)])
    return list(findings(documents, MESH, known, federated))


def policy(spec: str, name: str = "p", namespace: str = "web", annotations: str = "") -> str:
    more = f", annotations: {{{annotations}}}" if annotations else ""
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}{more}}}\nspec: {{{spec}}}\n"
    )


def peers(spec: str, name: str = "q", namespace: str = "web", more: str = "") -> str:
    return (
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
        f"metadata: {{name: {name}, namespace: {namespace}{more}}}\nspec: {{{spec}}}\n"
    )


def allow(source: str, rest: str = "") -> str:
    return policy(f"rules: [{{from: [{{source: {{{source}}}}}]{rest}}}]")


def operation(action: str, fields: str) -> str:
    provider = ", provider: {name: x}" if action == "CUSTOM" else ""
    source = "from: [{source: {principals: ['*']}}], " if action == "ALLOW" else ""
    return policy(f"action: {action}{provider}, rules: [{{{source}to: [{{operation: {{{fields}}}}}]}}]")


_RULE = "f0, line 4: spec.rules[0]"
_META = "f0, line 3: metadata"
_OLD, _NEW = ", creationTimestamp: '2026-01-01T00:00:00Z'", ", creationTimestamp: '2026-01-02T00:00:00Z'"
_SELECTOR = "selector: {matchLabels: {app: web}}"


class Case(NamedTuple):
    bad: tuple[str, ...]
    message: str
    good: tuple[str, ...]
    known: tuple[Workload, ...] = ()
    federated: tuple[str, ...] = ()
    #: What the finding depends on beside the documents.
    twin: Mapping[str, Any] = MappingProxyType({})


CASES: dict[str, Case] = {
    "a path that is not normalized": Case(
        (operation("DENY", "paths: [/admin/../x], ports: ['80']"),),
        f"{_RULE}.to[0].operation: warning value-never-matches: '/admin/../x' in paths never matches, and so denies"
        " nothing, and what it is meant for passes: paths are normalized (BASE) before they are judged, and this is"
        " not; write '/x'",
        (operation("DENY", "paths: [/x], ports: ['80']"),),
    ),
    "a denied host": Case(
        (operation("DENY", "hosts: [a.test], ports: ['80']"),),
        f"{_RULE}.to[0].operation: warning host-passed-by: 'a.test' in hosts is compared with the whole Host field: a"
        " request for the same host with a port or with a last dot is not denied; write also 'a.test:*', 'a.test.',"
        " 'a.test.:*'",
        (operation("DENY", "hosts: [a.test, 'a.test:*', a.test., 'a.test.:*'], ports: ['80']"),),
    ),
    "a path with a query": Case(
        (operation("ALLOW", "notPaths: ['/a?x=1']"),),
        f"{_RULE}.to[0].operation: warning value-never-matches: '/a?x=1' in notPaths never matches, and so excludes"
        " nothing: paths are judged without query and fragment; leave out what begins with '?' or '#'",
        (operation("ALLOW", "notPaths: [/a]"),),
    ),
    "a path without a slash": Case(
        (operation("DENY", "paths: [admin]"),),
        f"{_RULE}.to[0].operation: warning value-never-matches: 'admin' in paths never matches, and so denies nothing,"
        " and what it is meant for passes: each path begins with a slash; write '/admin'",
        (operation("DENY", "paths: [/admin]"),),
    ),
    "a path with NUL": Case(
        (operation("DENY", "paths: ['/a%00']"),),
        f"{_RULE}.to[0].operation: warning value-never-matches: '/a%00' in paths never matches, and so denies nothing,"
        " and what it is meant for passes: a request with NUL in its path is refused; leave it out",
        (operation("DENY", "paths: ['/a%01']"),),
    ),
    "a method in small letters": Case(
        (operation("DENY", "methods: [delete, PUT]"),),
        f"{_RULE}.to[0].operation: warning value-never-matches: 'delete' in methods never matches, and so denies"
        " nothing, and what it is meant for passes: methods are compared with their case, and a request with one that"
        " is not in capitals is refused; write 'DELETE'",
        (operation("DENY", "methods: [DELETE, PUT]"),),
    ),
    "a method that no request has": Case(
        (operation("ALLOW", "methods: ['1']"),),
        f"{_RULE}.to[0].operation: warning value-never-matches: '1' in methods never matches, and so allows nothing:"
        " methods are compared with their case, and a request with one that is not in capitals is refused",
        (operation("ALLOW", "methods: [A1]"),),
    ),
    "a header of the connection": Case(
        (policy("action: DENY, rules: [{when: [{key: 'request.headers[TE]', values: [trailers]}]}]"),),
        f"{_RULE}.when[0]: warning value-never-matches: request.headers[TE] never matches, and so denies nothing, and"
        " what it is meant for passes: the header is of one connection, or of a body's framing: it is taken out before"
        " the policies judge, and written anew for the app; leave the condition out",
        (policy("action: DENY, rules: [{when: [{key: 'request.headers[T]', values: [trailers]}]}]"),),
    ),
    "a header of the connection that is excluded": Case(
        (allow("principals: ['*']", ", when: [{key: 'request.headers[connection]', notValues: [close]}]"),),
        f"{_RULE}.when[0]: warning value-never-matches: request.headers[connection] never matches, and so excludes"
        " nothing: the header is of one connection, or of a body's framing: it is taken out before the policies judge,"
        " and written anew for the app; leave the condition out",
        (allow("principals: ['*']", ", when: [{key: 'request.headers[upgrade]', notValues: [websocket]}]"),),
    ),
    "a host that is a URL": Case(
        (operation("DENY", "hosts: ['https://admin.example.org']"),),
        f"{_RULE}.to[0].operation: warning value-never-matches: 'https://admin.example.org' in hosts never matches, and"
        " so denies nothing, and what it is meant for passes: a request is refused whose Host is no name or address,"
        " with or without a port; write 'admin.example.org'",
        (operation("DENY", "hosts: [admin.example.org*]"),),
    ),
    "a host with a path that is excluded": Case(
        (operation("ALLOW", "notHosts: [admin.example.org/]"),),
        f"{_RULE}.to[0].operation: warning value-never-matches: 'admin.example.org/' in notHosts never matches, and so"
        " excludes nothing: a request is refused whose Host is no name or address, with or without a port; write"
        " 'admin.example.org'",
        (operation("ALLOW", "notHosts: [admin.example.org*]"),),
    ),
    "a host outside ASCII": Case(
        (operation("DENY", "hosts: [köln.de]"),),
        f"{_RULE}.to[0].operation: warning value-never-matches: 'köln.de' in hosts never matches, and so denies"
        " nothing, and what it is meant for passes: a request is refused whose Host is no name or address, with or"
        " without a port; write a name outside ASCII as clients send it, which begins with xn--",
        (operation("DENY", "hosts: [xn--kln-sna.de*]"),),
    ),
    "a principal without its trust domain": Case(
        (policy("action: DENY, rules: [{from: [{source: {principals: [ns/default/sa/a]}}]}]"),),
        f"{_RULE}.from[0].source: warning value-never-matches: 'ns/default/sa/a' in principals never matches, and so"
        " denies nothing, and what it is meant for passes: a principal begins with its trust domain; write"
        " 'cluster.local/ns/default/sa/a'",
        (policy("action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/a]}}]}]"),),
    ),
    "a principal in capitals": Case(
        (policy("action: DENY, rules: [{when: [{key: source.principal, values: [EXAMPLE.org/ns/A/sa/a]}]}]"),),
        f"{_RULE}.when[0]: warning value-never-matches: 'EXAMPLE.org/ns/A/sa/a' in source.principal never matches, and"
        " so denies nothing, and what it is meant for passes: trust domains are in small letters; write"
        " 'example.org/ns/A/sa/a'",
        (policy("action: DENY, rules: [{when: [{key: source.principal, values: [example.org/ns/A/sa/a]}]}]"),),
    ),
    "a principal that is excluded and has no path": Case(
        (allow("principals: ['*'], notPrincipals: [a.test]"),),
        f"{_RULE}.from[0].source: warning value-never-matches: 'a.test' in notPrincipals never matches, and so excludes"
        " nothing: a principal is a trust domain and a path, such as cluster.local/ns/web/sa/web",
        (allow("principals: ['*'], notPrincipals: [a.test/*]"),),
    ),
    "a principal that is no SPIFFE ID": Case(
        (policy("action: DENY, rules: [{from: [{source: {principals: [a.test//b]}}]}]"),),
        f"{_RULE}.from[0].source: warning value-never-matches: 'a.test//b' in principals never matches, and so denies"
        " nothing, and what it is meant for passes: a trust domain has only a-z, 0-9, '.', '_' and '-', and the path of"
        " a SPIFFE ID has only A-Z, a-z, 0-9, '.', '_' and '-' in its segments",
        (policy("action: DENY, rules: [{from: [{source: {principals: [a.test/b]}}]}]"),),
    ),
    "a trust domain in capitals": Case(
        (policy("action: DENY, rules: [{from: [{source: {trustDomains: [Example.org]}}]}]"),),
        f"{_RULE}.from[0].source: warning value-never-matches: 'Example.org' in trustDomains never matches, and so"
        " denies nothing, and what it is meant for passes: trust domains are in small letters; write 'example.org'",
        (policy("action: DENY, rules: [{from: [{source: {trustDomains: [example.org]}}]}]"),),
    ),
    "a trust domain with a path": Case(
        (policy("action: DENY, rules: [{when: [{key: source.trustDomain, values: [a.test/b]}]}]"),),
        f"{_RULE}.when[0]: warning value-never-matches: 'a.test/b' in source.trustDomain never matches, and so denies"
        " nothing, and what it is meant for passes: a trust domain has only a-z, 0-9, '.', '_' and '-'",
        (policy("action: DENY, rules: [{when: [{key: source.trustDomain, values: [a.test]}]}]"),),
    ),
    "a namespace that no ID has": Case(
        (policy("action: DENY, rules: [{from: [{source: {namespaces: ['a b']}}]}]"),),
        f"{_RULE}.from[0].source: warning value-never-matches: 'a b' in namespaces never matches, and so denies"
        " nothing, and what it is meant for passes: the path of a SPIFFE ID has only A-Z, a-z, 0-9, '.', '_' and '-' in"
        " its segments",
        (policy("action: DENY, rules: [{from: [{source: {namespaces: ['a*b']}}]}]"),),
    ),
    "a header's value that ends with a blank": Case(
        (policy("action: DENY, rules: [{when: [{key: 'request.headers[x]', values: ['a ']}]}]"),),
        f"{_RULE}.when[0]: warning value-never-matches: 'a ' in request.headers[x] never matches, and so denies"
        " nothing, and what it is meant for passes: the value of a header is judged without the blanks at its ends;"
        " write 'a'",
        (policy("action: DENY, rules: [{when: [{key: 'request.headers[x]', values: ['a *']}]}]"),),
    ),
    "a header's value that begins with a blank": Case(
        (policy("action: DENY, rules: [{when: [{key: 'request.headers[x]', values: [' a*']}]}]"),),
        f"{_RULE}.when[0]: warning value-never-matches: ' a*' in request.headers[x] never matches, and so denies"
        " nothing, and what it is meant for passes: the value of a header is judged without the blanks at its ends;"
        " write 'a*'",
        (policy("action: DENY, rules: [{when: [{key: 'request.headers[x]', values: ['* a']}]}]"),),
    ),
    "an upgrade in capitals": Case(
        (policy("action: DENY, rules: [{when: [{key: 'request.headers[upgrade]', values: [WebSocket]}]}]"),),
        f"{_RULE}.when[0]: warning value-never-matches: 'WebSocket' in request.headers[upgrade] never matches, and so"
        " denies nothing, and what it is meant for passes: an upgrade is judged in small letters; write 'websocket'",
        (policy("action: DENY, rules: [{when: [{key: 'request.headers[upgrade]', values: [websocket]}]}]"),),
    ),
    "only negative identities": Case(
        (allow("notPrincipals: [a/b]"),),
        f"{_RULE}.from[0].source: warning plaintext-matches: a plaintext peer has no identity, so notPrincipals can't"
        ' exclude it, and the rule allows it; add principals: ["*"] to require an identity',
        (allow("notPrincipals: [a/b], principals: ['*']"),),
    ),
    "a negative condition on the identity": Case(
        (policy("rules: [{when: [{key: source.namespace, notValues: [a]}]}]"),),
        f"{_RULE}: warning plaintext-matches: a plaintext peer has no identity, so source.namespace can't exclude it,"
        ' and the rule allows it; add principals: ["*"] to require an identity',
        (policy("rules: [{when: [{key: source.namespace, notValues: [a], values: ['*']}]}]"),),
    ),
    "an empty ALLOW rule": Case(
        (policy("rules: [{}]"),),
        f"{_RULE}: warning allows-everybody: the rule is empty: it allows everything to every caller, also by"
        " plaintext; add a source",
        (policy("action: DENY, rules: [{}]"),),
    ),
    "an ALLOW rule without a source": Case(
        (policy("rules: [{to: [{operation: {ports: ['80']}}]}]"),),
        f"{_RULE}: info allows-any-caller: the rule has no from: it allows these operations to every caller, also by"
        " plaintext; add a source if only some are meant",
        (operation("ALLOW", "ports: ['80']"),),
    ),
    "an ALLOW rule that needs HTTP": Case(
        (operation("ALLOW", "methods: [GET], notPaths: [/a]"),),
        f"{_RULE}: info http-rule-on-tcp: HTTP is needed for methods, notPaths: where none is read, the whole rule is"
        " skipped, and allows nothing",
        (operation("ALLOW", "ports: ['80']"),),
    ),
    "a DENY rule of HTTP alone": Case(
        (operation("DENY", "methods: [GET]"),),
        f"{_RULE}: warning http-fields-on-tcp: HTTP is needed for methods: on a connection on which none is read the"
        " rule denies everything, as in Istio's sidecar; in Istio's ambient mode it has no effect there; add"
        " ports to limit it",
        (operation("DENY", "ports: ['80']"),),
    ),
    "an AUDIT rule with HTTP": Case(
        (operation("AUDIT", "methods: [GET], ports: ['80']"),),
        f"{_RULE}: warning http-fields-on-tcp: HTTP is needed for methods: on a connection on which none is read the"
        " rule records by its other fields alone, as in Istio's sidecar; in Istio's ambient mode it may have no effect"
        " there; add ports to limit it",
        (operation("AUDIT", "ports: ['80']"),),
    ),
    "a DENY condition on HTTP": Case(
        (policy("action: DENY, rules: [{when: [{key: 'request.headers[x]', values: [a]}]}]"),),
        f"{_RULE}: warning http-fields-on-tcp: HTTP is needed for request.headers[x]: on a connection on which none is"
        " read the rule denies everything, as in Istio's sidecar; in Istio's ambient mode it has no effect there; add"
        " ports to limit it",
        (policy("action: DENY, rules: [{when: [{key: connection.sni, values: [a]}]}]"),),
    ),
    "a CUSTOM rule with HTTP": Case(
        (operation("CUSTOM", "paths: [/a]"),),
        f"{_RULE}: warning http-rule-on-tcp: HTTP is needed for paths: a connection on which none is read is denied, as"
        " the rule can't be decided there; add ports to limit it",
        (operation("CUSTOM", "ports: ['80']"),),
    ),
    "values that are all excluded": Case(
        (operation("ALLOW", "ports: ['80', '81'], notPorts: ['81', '80']"),),
        f"{_RULE}.to[0].operation: warning never-matches: this never matches, and so allows nothing: each of ports is"
        " excluded by notPorts; remove one of them",
        (operation("ALLOW", "ports: ['80', '82'], notPorts: ['81', '80']"),),
    ),
    "principals that an alias excludes": Case(
        (allow("principals: [cluster.local/ns/a/sa/b], notPrincipals: [old.test/ns/a/*]"),),
        f"{_RULE}.from[0].source: warning never-matches: this never matches, and so allows nothing: each of principals"
        " is excluded by notPrincipals; remove one of them",
        (allow("principals: [cluster.local/ns/a/sa/b], notPrincipals: [other.test/ns/a/*]"),),
    ),
    "addresses within an excluded block": Case(
        (allow("ipBlocks: [10.1.0.0/16], notIpBlocks: [10.0.0.0/8]"),),
        f"{_RULE}.from[0].source: warning never-matches: this never matches, and so allows nothing: each of ipBlocks is"
        " excluded by notIpBlocks; remove one of them",
        (allow("ipBlocks: [10.0.0.0/8], notIpBlocks: [10.1.0.0/16]"),),
    ),
    "an account that its policy's namespace excludes": Case(
        (allow("serviceAccounts: [b], notServiceAccounts: [web/b]"),),
        f"{_RULE}.from[0].source: warning never-matches: this never matches, and so allows nothing: each of"
        " serviceAccounts is excluded by notServiceAccounts; remove one of them",
        (allow("serviceAccounts: [b], notServiceAccounts: [db/b]"),),
    ),
    "principals of other namespaces": Case(
        (allow("principals: [a.test/ns/db/sa/x], namespaces: [web, api]"),),
        f"{_RULE}.from[0].source: warning never-matches: this never matches, and so allows nothing: none of principals"
        " is in one of namespaces; remove one of them, or make two sources of it",
        (allow("principals: [a.test/ns/db/sa/x], namespaces: [web, 'd*']"),),
    ),
    "a condition that excludes itself": Case(
        (allow("principals: ['*']", ", when: [{key: connection.sni, values: [a.b], notValues: ['*.b']}]"),),
        f"{_RULE}.when[0]: warning never-matches: this never matches, and so allows nothing: each of values is excluded"
        " by notValues; remove one of them",
        (allow("principals: ['*']", ", when: [{key: connection.sni, values: ['*.b'], notValues: [a.b]}]"),),
    ),
    "two conditions that contradict each other": Case(
        (
            allow(
                "principals: ['*']",
                ", when: [{key: source.principal, values: [x/*]}, {key: source.principal, values: [y/a, z/a]}]",
            ),
        ),
        f"{_RULE}.when[1]: warning never-matches: this never matches, and so allows nothing: another condition on"
        " source.principal allows none of these values; make one condition of them",
        (
            allow(
                "principals: ['*']",
                ", when: [{key: source.principal, values: [x/*]}, {key: source.principal, values: ['*/a']}]",
            ),
        ),
    ),
    "namespaces with a federated partner": Case(
        (allow("namespaces: [db]"),),
        f"{_RULE}.from[0].source: warning any-trust-domain: namespaces can match in any trust domain, so also in"
        " b.test, c.test, whose bundles are federated; add trustDomains",
        (allow("namespaces: [db], trustDomains: [a.test]"),),
        federated=("c.test", "b.test"),
    ),
    "service accounts with a federated partner": Case(
        (allow("serviceAccounts: [db]"),),
        f"{_RULE}.from[0].source: warning any-trust-domain: serviceAccounts can match in any trust domain, so also in"
        " b.test, whose bundles are federated; add trustDomains",
        (allow("serviceAccounts: [db]"),),
        federated=("b.test",),
        twin={"federated": ()},
    ),
    "a dry run that can't be read": Case(
        (policy("rules: []", annotations='istio.io/dry-run: "yes"'),),
        f"{_META}: error dry-run-unreadable: istio.io/dry-run is 'yes', which is neither true nor false: the policy is"
        ' in force; write "true" or "false"',
        (policy("rules: []", annotations='istio.io/dry-run: "t"'),),
    ),
    "a dry run of another kind": Case(
        (peers("mtls: {mode: STRICT}", more=", annotations: {istio.io/dry-run: 'true'}"),),
        f"{_META}: warning dry-run-without-effect: istio.io/dry-run is for an AuthorizationPolicy only: this"
        " PeerAuthentication is in force; remove it",
        (peers("mtls: {mode: STRICT}", more=", annotations: {other: 'true'}"),),
    ),
    "targets of gateways": Case(
        (policy("targetRefs: [{kind: Service, name: a}], rules: [{}]"),),
        f"{_META}: warning target-refs-ignored: a policy with targetRefs is for gateways and waypoints: no sidecar"
        " enforces it; use a selector",
        (policy(f"{_SELECTOR}, action: DENY, rules: [{{}}]"),),
    ),
    "a selector in the root namespace": Case(
        (peers(f"{_SELECTOR}, mtls: {{mode: STRICT}}", namespace="istio-system"),),
        f"{_META}: warning root-selector: a PeerAuthentication with a selector is ignored in the root namespace; move"
        " it to the workload's",
        (peers(f"{_SELECTOR}, mtls: {{mode: STRICT}}", namespace="web"),),
    ),
    "two of a namespace": Case(
        (peers("mtls: {mode: STRICT}", more=_NEW), peers("mtls: {mode: STRICT}", name="r", more=_OLD)),
        f"{_META}: warning several-at-one-level: only the oldest PeerAuthentication of the namespace is in force, which"
        " is web/r, and they are not merged; remove one of them",
        (peers("mtls: {mode: STRICT}", more=_NEW), peers("mtls: {mode: STRICT}", name="r", namespace="db", more=_OLD)),
    ),
    "two selectors that a known workload has": Case(
        (
            peers("selector: {matchLabels: {version: v1}}"),
            peers(_SELECTOR, name="r", more=_OLD),
        ),
        f"{_META}: warning several-at-one-level: only the oldest PeerAuthentication of a workload is in force, which is"
        " web/r, and they are not merged; remove one of them",
        (peers("selector: {matchLabels: {version: v1}}"), peers(_SELECTOR, name="r", more=_OLD)),
        known=(WEB,),
        twin={"known": ()},
    ),
    "no workload of a selector": Case(
        (policy("selector: {matchLabels: {app: wbe}}"),),
        f"{_META}: warning selects-nothing: no known workload with app=wbe is in namespace web: it does nothing; check"
        " the selector and the namespace",
        (policy(_SELECTOR),),
        known=(WEB,),
    ),
    "no workload of a namespace": Case(
        (policy("", namespace="wbe"),),
        f"{_META}: warning selects-nothing: no known workload is in namespace wbe: it does nothing; check the selector"
        " and the namespace",
        (policy("", namespace="istio-system"),),
        known=(WEB,),
    ),
    "a DENY that matches all of an ALLOW": Case(
        (
            allow("principals: [a.test/ns/db/sa/x]", ", to: [{operation: {ports: ['80']}}]"),
            policy("action: DENY, rules: [{from: [{source: {principals: ['*/sa/y']}}]},"
                   " {from: [{source: {principals: [cluster.local/ns/db/*]}}]}]", name="d", namespace="istio-system"),
        ),
        f"{_RULE}: warning deny-shadows-allow: the rule allows nothing: rule 1 of the DENY policy istio-system/d"
        " matches all that it matches, and DENY comes first; narrow that one, or remove this one",
        (
            allow("principals: [a.test/ns/db/sa/x]", ", to: [{operation: {ports: ['80']}}]"),
            policy("action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/db/*]}}],"
                   " to: [{operation: {ports: ['81']}}]}]", name="d", namespace="istio-system"),
        ),
    ),
    "a workload that is not strict": Case(
        (peers(f"{_SELECTOR}, mtls: {{mode: PERMISSIVE}}, portLevelMtls: {{80: {{mode: DISABLE}}}}"),),
        f"{_META}: info not-strict: plaintext is taken: the mode is PERMISSIVE, port 80 is DISABLE; make it STRICT once"
        " no plaintext caller is left",
        (peers(f"{_SELECTOR}, mtls: {{mode: STRICT}}, portLevelMtls: {{80: {{mode: UNSET}}}}"),),
    ),
    "a namespace that is not strict": Case(
        (peers("mtls: {mode: PERMISSIVE}"), policy("", namespace="db")),
        "warning strict-missing: plaintext is taken in web, since no PeerAuthentication of the namespace or the mesh is"
        " STRICT; add one once no plaintext caller is left",
        (peers("mtls: {mode: UNSET}"), policy("", namespace="db")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_suspicious_document_is_found_and_its_twin_is_not(case: Case) -> None:
    given: dict[str, Any] = {"known": case.known, "federated": case.federated}
    tcp = set() if "on-tcp" in case.message else {"http-fields-on-tcp", "http-rule-on-tcp"}
    assert [str(one) for one in lint(*case.bad, **given) if one.code not in tcp] == [case.message]
    assert [one for one in lint(*case.good, **given | dict(case.twin)) if one.code not in tcp] == []


def test_each_code_is_explained_and_none_is_left_over() -> None:
    found = {one.code for case in CASES.values() for one in lint(*case.bad, known=case.known, federated=case.federated)}
    assert found | {"port-level-not-in-force", "not-all-compared"} == CODES.keys()


def test_the_ports_of_a_policy_that_is_not_in_force_are_found() -> None:
    newer, older = f"{_SELECTOR}, portLevelMtls: {{80: {{mode: STRICT}}}}", _SELECTOR
    found = lint(peers(newer), peers(older, name="r", more=_OLD))
    assert [(one.code, one.severity) for one in found] == [
        ("several-at-one-level", Severity.WARNING),
        ("port-level-not-in-force", Severity.WARNING),
    ]
    assert found[1].text == "its portLevelMtls is not in force, since that of web/r counts; move the ports there"
    assert [one.code for one in lint(peers(newer, more=_OLD), peers(older, name="r"))] == ["several-at-one-level"]


def test_without_any_document_plaintext_is_taken_everywhere() -> None:
    (found,) = findings(parse_documents([]), MESH)
    assert str(found) == (
        "warning strict-missing: plaintext is taken everywhere, since no PeerAuthentication of the namespace or the"
        " mesh is STRICT; add one once no plaintext caller is left"
    )


def test_the_chapter_has_nothing_but_a_rule_that_needs_http() -> None:
    found = findings(parse_documents([("chapter.yaml", CHAPTER.read_text("utf-8"))]), MESH)
    assert [str(one) for one in found] == [
        "chapter.yaml, line 34: spec.rules[0]: info http-rule-on-tcp: HTTP is needed for methods, paths: where none is"
        " read, the whole rule is skipped, and allows nothing"
    ]


def test_patterns_are_compared_as_the_sets_of_the_texts_that_they_match() -> None:
    words = ["".join(word) for length in range(1, 7) for word in product("ab", repeat=length)]
    short = [word for word in words if len(word) <= 3]
    patterns = ["*", *short, *(f"{word}*" for word in short), *(f"*{word}" for word in short)]

    def matched(pattern: str) -> set[str]:
        if pattern.endswith("*"):
            return {word for word in words if word.startswith(pattern[:-1])}
        return {word for word in words if word.endswith(pattern[1:])} if pattern.startswith("*") else {pattern}

    sets = {pattern: matched(pattern) for pattern in patterns}
    for one, other in product(patterns, repeat=2):
        compared = Comparison(MESH)
        assert compared.all_covered("pattern", [one], [other]) is (sets[one] <= sets[other]), (one, other)
        assert compared.all_disjoint("pattern", [one], [other]) is sets[one].isdisjoint(sets[other]), (one, other)


#: DENY and ALLOW rules, and whether all that the ALLOW rule matches is certainly denied.
SHADOWS: list[tuple[str, str, bool]] = [
    ("", "", True),
    ("from: [{source: {principals: ['*']}}]", "from: [{source: {principals: [x/a]}}]", True),
    ("from: [{source: {principals: ['*']}}]", "from: [{source: {ipBlocks: [10.0.0.1]}}]", False),
    ("from: [{source: {principals: [x/*]}}]", "from: [{source: {principals: [x/y/*, x/z]}}]", True),
    ("from: [{source: {principals: [x/*]}}]", "from: [{source: {principals: [x/y/*, y/z]}}]", False),
    ("from: [{source: {principals: [x/*]}}]", "from: [{source: {principals: ['*/a']}}]", False),
    ("from: [{source: {principals: ['*a']}}]", "from: [{source: {principals: ['b*']}}]", False),
    # The mesh is a.test, formerly old.test.
    ("from: [{source: {principals: [cluster.local/x]}}]", "from: [{source: {principals: [old.test/x]}}]", True),
    ("from: [{source: {principals: [old*]}}]", "from: [{source: {principals: [old.test/x]}}]", False),
    ("from: [{source: {notPrincipals: [old*]}}]", "from: [{source: {principals: [a.test/x]}}]", False),
    ("from: [{source: {notPrincipals: [x/a]}}]", "from: [{source: {principals: [x/b]}}]", True),
    ("from: [{source: {trustDomains: [a.test]}}]", "from: [{source: {trustDomains: [old.test]}}]", True),
    ("from: [{source: {trustDomains: [a.test]}}]", "from: [{source: {trustDomains: [cluster.local]}}]", False),
    ("from: [{source: {notPrincipals: [x/b*]}}]", "from: [{source: {principals: [x/b]}}]", False),
    ("from: [{source: {notPrincipals: ['*b']}}]", "from: [{source: {principals: [x/*]}}]", False),
    ("from: [{source: {notPrincipals: [x/a]}}]", "from: [{source: {notPrincipals: [x/*]}}]", True),
    ("from: [{source: {notPrincipals: [x/*]}}]", "from: [{source: {notPrincipals: [x/a]}}]", False),
    ("from: [{source: {namespaces: ['d*']}}]", "from: [{source: {namespaces: [db]}}]", True),
    ("from: [{source: {namespaces: [db]}}]", "from: [{source: {namespaces: ['d*']}}]", False),
    ("from: [{source: {notNamespaces: [a]}}]", "from: [{source: {namespaces: [b]}}]", False),
    ("from: [{source: {ipBlocks: [10.0.0.0/8]}}]", "from: [{source: {ipBlocks: [10.1.0.0/16]}}]", True),
    ("from: [{source: {ipBlocks: [10.0.0.0/8]}}]", "from: [{source: {ipBlocks: ['::1']}}]", False),
    ("to: [{operation: {hosts: ['*.A.test']}}]", "to: [{operation: {hosts: [b.a.TEST]}}]", True),
    ("to: [{operation: {methods: [get]}}]", "to: [{operation: {methods: [GET]}}]", False),
    ("to: [{operation: {paths: ['/a/{**}']}}]", "to: [{operation: {paths: [/a/b]}}]", False),
    ("to: [{operation: {paths: ['/a/{**}']}}]", "to: [{operation: {paths: ['/a/{**}']}}]", True),
    ("to: [{operation: {paths: [/a*]}}]", "to: [{operation: {paths: ['/a/{*}']}}]", False),
    ("to: [{operation: {notPaths: ['/a/{*}']}}]", "to: [{operation: {paths: [/b]}}]", False),
    ("to: [{operation: {ports: ['1']}}]", "to: [{operation: {ports: ['1'], methods: [GET]}}]", True),
    ("to: [{operation: {ports: ['1']}}, {operation: {ports: ['2']}}]", "to: [{operation: {ports: ['2']}}]", True),
    ("to: [{operation: {ports: ['1']}}]", "to: [{operation: {ports: ['1']}}, {operation: {ports: ['2']}}]", False),
    ("when: [{key: connection.sni, values: ['*']}]", "when: [{key: connection.sni, values: [a]}]", True),
    ("when: [{key: connection.sni, values: ['*']}]", "when: [{key: destination.port, values: ['1']}]", False),
    (
        "when: [{key: request.auth.audiences, notValues: [b]}]",
        "when: [{key: request.auth.audiences, values: [a]}]",
        False,
    ),
]


@pytest.mark.parametrize(("deny", "allowed", "shadows"), SHADOWS)
def test_a_deny_shadows_an_allow_where_that_is_certain(deny: str, allowed: str, shadows: bool) -> None:
    found = lint(policy(f"rules: [{{{allowed}}}]"), policy(f"action: DENY, rules: [{{{deny}}}]", name="d"))
    assert ("deny-shadows-allow" in [one.code for one in found]) is shadows


@pytest.mark.parametrize(
    ("selector", "namespace", "annotations", "shadows"),
    [
        ("{app: web}", "web", "", True),
        ("{}", "istio-system", "", True),
        ("{app: web, version: v1}", "web", "", False),
        ("{}", "db", "", False),
        ("{app: web}", "web", "istio.io/dry-run: 'true'", False),
    ],
)
def test_a_deny_shadows_only_where_it_acts(selector: str, namespace: str, annotations: str, shadows: bool) -> None:
    deny = f"selector: {{matchLabels: {selector}}}, action: DENY, rules: [{{}}]"
    found = lint(policy(f"{_SELECTOR}, rules: [{{}}]"), policy(deny, "d", namespace, annotations))
    assert ("deny-shadows-allow" in [one.code for one in found]) is shadows


def test_a_large_set_is_compared_in_part_and_that_is_told() -> None:
    ports = ", ".join(f"{{to: [{{operation: {{ports: ['{port}']}}}}]}}" for port in range(1, 501))
    found = lint(policy(f"rules: [{ports}]"), policy(f"action: DENY, rules: [{ports}]", name="d"))
    text = "more than 200000 pairs of a DENY and an ALLOW rule: the rest was not compared"
    assert found[-1] == Finding(Severity.INFO, "not-all-compared", None, text)
