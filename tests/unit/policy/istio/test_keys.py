"""The keys of patterns, by which an index finds rules: whatever matches is found by one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.config.document import Place
from meshtls.policy.decision import PolicyVerdict
from meshtls.policy.istio.facts import ConnectionFacts, HttpFacts
from meshtls.policy.istio.index import Index
from meshtls.policy.istio.match import (
    Accounts,
    Domains,
    Key,
    KeyKind,
    Namespaces,
    Networks,
    Ports,
    RequestPrincipals,
    Strings,
    accounts_of,
    namespaces_of,
    read_ip,
    segments_after_ns,
)
from meshtls.policy.istio.model import Action, Operation, Rule
from meshtls.policy.istio.paths import Paths
from meshtls.policy.istio.rules import compile_rules
from meshtls.policy.request import RequestAuth
from tests.unit.policy.istio.making import MESH, compiled, policy, request, rule, source


def exact(*values: str) -> tuple[Key, ...]:
    return tuple(Key("exact", one) for one in values)


def begin(*values: str) -> tuple[Key, ...]:
    return tuple(Key("prefix", one, (len(one), 0)) for one in values)


def end(*values: str) -> tuple[Key, ...]:
    return tuple(Key("suffix", one, (len(one), 0)) for one in values)


KEYS: dict[str, tuple[Any, tuple[Key, ...] | None]] = {
    "texts": (Strings(["b", "a"]), exact("a", "b")),
    "a prefix and a suffix": (Strings(["ab*", "*abc"]), (Key("prefix", "ab", (2, 0)), Key("suffix", "abc", (3, 0)))),
    "a star beside a text": (Strings(["a", "*"]), None),
    "a star that also matches the empty text": (Strings(["*"], star_matches_empty=True), None),
    "blocks": (
        Networks(["10.0.0.0/8", "::1", "::ffff:192.0.2.1"]),
        (Key("network", 0xC0000201, (4, 0)), Key("network", 10, (4, 24)), Key("network", 1, (6, 0))),
    ),
    "ports": (Ports(["80", "8"]), exact("8", "80")),
    "namespaces": (Namespaces(["a", "b"]), exact("a", "b")),
    "a namespace's beginning": (Namespaces(["a", "b*", "c*d"]), (*exact("a"), *begin("b", "c"))),
    "a namespace with a star in front": (Namespaces(["a", "*b"]), None),
    "a namespace's beginning with a slash": (Namespaces(["a/b*"]), None),
    "a namespace with a slash": (Namespaces(["a/b"]), None),
    "accounts": (Accounts(["web", "b/web"], "a"), exact("a/web", "b/web")),
    "an account with a slash": (Accounts(["b/web/v1"], "a"), None),
    "trust domains": (Domains(["a.test", "b.test/ns"]), exact("a.test", "b.test")),
    "trust domains with stars": (
        Domains(["a.test", "*.test", "b*", "*.test/ns", "a.test/ns/f*"]),
        (*exact("a.test"), *end(".test"), *begin("b"), *end(".test"), *exact("a.test")),
    ),
    "any trust domain": (Domains(["a.test", "*"]), None),
    "a path of any trust domain": (Domains(["a.test", "*/ns"]), None),
    "subjects of tokens": (RequestPrincipals(["i/s", "a/b/c"]), exact("a/b/c", "i/s")),
    "a subject's beginning": (RequestPrincipals(["i/s", "i/*"]), (*exact("i/s"), Key("prefix", "i/", (2, 0)))),
    "an issuer's beginning": (RequestPrincipals(["i*"]), (Key("prefix", "i", (1, 0)),)),
    "an issuer's end": (RequestPrincipals(["*i/s"]), (Key("suffix", "i/s", (3, 0)),)),
    "a subject's end": (RequestPrincipals(["*s"]), (Key("suffix", "s", (1, 0)),)),
    "any subject": (RequestPrincipals(["i/s", "*"]), None),
    "paths": (Paths(["/a", "/b/{*}"]), (*exact("/a"), Key("prefix", "/b/", (3, 0)))),
    "any path": (Paths(["/b/{*}", "*"]), None),
}


@pytest.mark.parametrize("what", KEYS)
def test_patterns_have_keys_unless_they_match_too_much(what: str) -> None:
    patterns, keys = KEYS[what]
    assert patterns.keys == keys


FOUND: dict[tuple[Callable[..., Any], str | None], Any] = {
    (namespaces_of, None): (),
    (namespaces_of, "/ns/a/sa/b"): ("a",),
    (namespaces_of, "/ns/a"): (),
    (namespaces_of, "/x/ns/a/ns/b/c"): ("a", "b"),
    (accounts_of, None): (),
    (accounts_of, "/ns/a/sa/b"): ("a/b",),
    (accounts_of, "/ns/a/x/sa/b"): ("a/b",),
    (accounts_of, "/ns/sa/b"): (),
    (accounts_of, "/ns/a"): (),
    (accounts_of, "/x/a/sa/b"): (),
    (accounts_of, "/ns/a/x/b"): (),
    (accounts_of, "/ns/a/ns/b/sa/c/sa/d"): ("a/c", "b/c", "a/d", "b/d"),
    (read_ip, None): None,
    (read_ip, "web"): None,
    (read_ip, "10.0.0.1"): (4, 0x0A000001),
    (read_ip, "::ffff:10.0.0.1"): (4, 0x0A000001),
    (read_ip, "fe80::1%eth0"): (6, 0xFE80 << 112 | 1),
}


@pytest.mark.parametrize(("function", "text"), FOUND)
def test_values_of_a_request_are_looked_up(function: Callable[..., Any], text: str | None) -> None:
    assert sorted(function(text) or ()) == sorted(FOUND[function, text] or ())


#: A field's pattern, a request that it matches, and one that it does not match.
SPLIT: dict[str, tuple[Any, Any, Any]] = {
    "a principal": ({"principals": ("a.test/x",)}, {"client": "a.test/x"}, {"client": "a.test/y"}),
    "a principal's beginning": ({"principals": ("a.test/x*",)}, {"client": "a.test/xy"}, {"client": "a.test/y"}),
    "a principal's end": ({"principals": ("*/x",)}, {"client": "a.test/x"}, {"client": "a.test/y"}),
    "a namespace": ({"namespaces": ("x",)}, {"client": "a.test/ns/x/sa/s"}, {"client": "a.test/ns/y/sa/s"}),
    "a namespace's beginning": (
        {"namespaces": ("x-*",)},
        {"client": "a.test/ns/x-y/sa/s"},
        {"client": "a.test/ns/x/sa/x-s"},
    ),
    "a namespace's end": ({"namespaces": ("*-x",)}, {"client": "a.test/ns/y/a-x/s"}, {"client": "a.test/ns/y/a/s-x"}),
    "a namespace's middle": ({"namespaces": ("*x*",)}, {"client": "a.test/ns/axb/s"}, {"client": "a.test/ns/ab/x"}),
    "an account": ({"service_accounts": ("x/s",)}, {"client": "a.test/ns/x/sa/s"}, {"client": "a.test/ns/x/sa/t"}),
    "a trust domain": ({"trust_domains": ("x.test",)}, {"client": "x.test/a"}, {"client": "y.test/a"}),
    "a trust domain's end": ({"trust_domains": ("*x.test",)}, {"client": "ax.test/a"}, {"client": "ax.tests/a"}),
    "a trust domain's beginning": ({"trust_domains": ("x.*",)}, {"client": "x.test/a"}, {"client": "y/x.test"}),
    "a block": ({"ip_blocks": ("10.1.0.0/16",)}, {"source_ip": "10.1.2.3"}, {"source_ip": "10.2.2.3"}),
    "an address": ({"ip_blocks": ("::1",)}, {"source_ip": "::1"}, {"source_ip": "0.0.0.1"}),
    "another client": ({"remote_ip_blocks": ("10.1.0.1",)}, {"remote_ip": "10.1.0.1"}, {"remote_ip": "10.1.0.2"}),
    "a path": ({"paths": ("/x",)}, {"path": "/x"}, {"path": "/x/"}),
    "a path's beginning": ({"paths": ("/x/*",)}, {"path": "/x/y"}, {"path": "/y"}),
    "a path's end": ({"paths": ("*/x",)}, {"path": "/y/x"}, {"path": "/y"}),
    "a path's template with an end": ({"paths": ("/x/{*}/e",)}, {"path": "/x/y/e"}, {"path": "/x/y/z"}),
    "a path's template with a literal inside": (
        {"paths": ("/{*}/x/{*}",)},
        {"path": "/y/x/z"},
        {"path": "/x/y/z"},
    ),
    "a path's template, or a path": ({"paths": ("/{*}/x/{*}", "/x")}, {"path": "/x"}, {"path": "/y/x"}),
    "a path's template": ({"paths": ("/x/{*}",)}, {"path": "/x/y"}, {"path": "/x/y/z"}),
    "a method": ({"methods": ("PUT",)}, {"method": "PUT"}, {"method": "GET"}),
    "a host": ({"hosts": ("X.test",)}, {"host": "x.TEST"}, {"host": "y.test"}),
    "a port": ({"ports": ("81",)}, {"port": 81}, {"port": 82}),
}


@pytest.mark.parametrize("action", [Action.ALLOW, Action.DENY])
@pytest.mark.parametrize("what", SPLIT)
def test_a_rule_is_found_among_many_by_its_field(what: str, action: Action) -> None:
    fields, given, other = SPLIT[what]
    names = ("paths", "methods", "hosts", "ports")
    wanted = {"operation": Operation(**fields)} if set(fields) <= set(names) else {"source": source(**fields)}
    kind = next(iter(fields))
    others = []
    for number in range(20):
        value = {"ip_blocks": f"192.0.2.{number}", "remote_ip_blocks": f"192.0.2.{number}", "ports": str(9000 + number)}
        more: dict[str, Any] = {
            kind: (value.get(kind, f"other/{number}" if kind == "service_accounts" else f"o{number}"),)
        }
        part: dict[str, Any] = {"operation": Operation(**more)} if kind in names else {"source": source(**more)}
        others.append(rule(**part))
    policies = compiled(policy(*others, rule(**wanted), action=action))
    for facts, matches in ((given, True), (other, False)):
        decision = policies.evaluate(request(**facts), reads_http=True)
        assert decision.rule == ("20" if matches else None)
        assert decision.allowed is (matches is (action is Action.ALLOW))
        http = request(**facts).http
        assert http is not None
        assert policies.narrow(request(**facts)).evaluate(http) == decision


def test_a_rule_for_any_text_is_found_beside_many_for_one() -> None:
    others = [rule(source=source(principals=(f"a.test/{number}",))) for number in range(20)]
    policies = compiled(policy(*others, rule(source=source(principals=("a.test/x", "*")))))
    assert policies.evaluate(request("b.test/y"), reads_http=True).rule == "20"
    assert not policies.evaluate(request(None), reads_http=True)


def test_each_rule_of_a_connection_is_tried() -> None:
    found = compiled(policy(*(rule(operation=Operation(paths=(path,))) for path in ("/a", "/b", "/c"))))
    narrow = found.narrow(request())
    for number, path in enumerate(("/a", "/b", "/c")):
        http = request(path=path).http
        assert http is not None
        assert narrow.evaluate(http).rule == str(number)


@pytest.mark.parametrize(
    ("client", "path", "matches"),
    [
        ("a.test/a", "/a", True),
        ("a.test/b", "/b", True),
        ("a.test/a", "/b", True),
        ("a.test/c", "/a", False),
        ("a.test/a", "/c", False),
        (None, "/a", False),
    ],
)
def test_item_9_a_rule_needs_one_of_its_sources_and_one_of_its_operations(
    client: str | None, path: str, matches: bool
) -> None:
    both = Rule(
        place=Place("policies.yaml", 7, "spec.rules[0]"),
        sources=(source(principals=("a.test/a",)), source(principals=("a.test/b",))),
        operations=(Operation(paths=("/a",)), Operation(paths=("/b",))),
    )
    asked = request(client, path=path)
    assert asked.http is not None
    for rules in ((both,), (*(rule(source=source(principals=(f"o/{n}",))) for n in range(20)), both)):
        found = compiled(policy(*rules))
        assert found.evaluate(asked, reads_http=True).allowed is matches
        assert found.narrow(asked).evaluate(asked.http).allowed is matches
        certain = found.evaluate(request(client, http=False), reads_http=True)
        assert certain.verdict is (
            PolicyVerdict.NEEDS_HTTP if client in ("a.test/a", "a.test/b") else PolicyVerdict.DENY
        )


def _rule_of(number: int, kind: str) -> Rule:
    operation = Operation(paths=(f"/p{number}",))
    match kind:
        case "an unknown address of the client":
            return rule(source=source(remote_ip_blocks=(f"10.0.{number}.0/24",)), operation=operation)
        case "an unknown address":
            return rule(source=source(ip_blocks=(f"10.0.{number}.0/24",)), operation=operation)
        case "an unknown port":
            return rule(operation=Operation(ports=(str(1000 + number),), paths=(f"/p{number}",)))
        case "a template's end":
            return rule(operation=Operation(paths=(f"/a/{{*}}/p{number}",)))
        case "a header":
            return rule(when={f"request.headers[X-{number}]": ("*",)})
        case "a claim":
            return rule(when={f"request.auth.claims[c{number}]": ("*",)})
        case _:
            return rule(source=source(request_principals=(f"issuer{number}/*",)))


NOBODY_KNOWS: dict[str, Any] = {"port": None, "source_ip": None, "remote_ip": ""}
UNKNOWN = ("an unknown address of the client", "an unknown address", "an unknown port")
OTHERS = ("a template's end", "a header", "a claim", "an issuer")
FEW = 6


@pytest.mark.parametrize("action", [Action.ALLOW, Action.DENY])
@pytest.mark.parametrize("kind", [*UNKNOWN, *OTHERS])
def test_only_rules_that_may_match_are_tried(kind: str, action: Action) -> None:
    number = 150
    index = Index(
        compile_rules([policy(*(_rule_of(one, kind) for one in range(number)), action=action)], MESH),
    )
    auth = RequestAuth("issuer7/x", (), None, {"iss": "issuer7", "sub": "x", "c7": "y"})
    for path, header, token, found in (
        ("/p7", "x-7", auth, "7"),
        ("/a/z/p7", "x-7", auth, "7"),
        ("/none", "x-none", None, None),
    ):
        if (kind in UNKNOWN and path == "/a/z/p7") or (kind == "a template's end" and path == "/p7"):
            continue
        asked = request(path=path, headers=((header, ""), ("accept", "*/*")), auth=token, **NOBODY_KNOWS)
        assert asked.http is not None
        connection, http = ConnectionFacts(asked), HttpFacts(asked.http, asked.auth)
        tried = len([*index.near(connection, http)]) - number
        assert tried <= FEW
        matching = index.first(connection, http)
        # An address or a port that is not known matches what denies, and nothing that allows.
        matches = found is not None and (kind not in UNKNOWN or action is Action.DENY)
        assert (None if matching is None else matching.rule) == (found if matches else None)
        narrow = index.narrow(connection).first(http)
        assert (None if narrow is None else narrow.rule) == (found if matches else None)


@pytest.mark.parametrize("number", [10, 500])
def test_narrowing_to_a_connection_leaves_the_rules_that_may_match_it(number: int) -> None:
    """Nothing divides these, and each request would try all of them."""
    only = Operation(hosts=("web",), not_paths=("/internal/*",))
    rules = (rule(source=source(namespaces=(f"*-{one}-*",)), operation=only) for one in range(number))
    index = Index(compile_rules([policy(*rules)], MESH))
    for namespace, left in (("x-7-y", True), ("x-7", False)):
        asked = request(f"a.test/ns/{namespace}/sa/web", host="web")
        assert asked.http is not None
        narrow = index.narrow(ConnectionFacts(asked))
        assert bool(narrow) is left
        found = narrow.first(HttpFacts(asked.http, None))
        assert (None if found is None else found.rule) == ("7" if left else None)


def test_kinds_of_keys_are_told_apart() -> None:
    assert len({KeyKind.EXACT, KeyKind.PREFIX, KeyKind.SUFFIX, KeyKind.NETWORK, KeyKind.CHOICE}) == 5


@given(
    st.lists(st.text(alphabet="ab-*/", max_size=5), min_size=1, max_size=3),
    st.lists(st.sampled_from(["ns", "a", "ab", "b-a", "-", ""]), min_size=1, max_size=6),
)
def test_whatever_namespaces_match_is_found_by_each_kind_of_key(patterns: list[str], segments: list[str]) -> None:
    namespaces, id_path = Namespaces(patterns), "/" + "/".join(segments)
    if not namespaces.matches(id_path):
        return
    for keys, values in (
        (namespaces.keys, namespaces_of(id_path)),
        (namespaces.keys_by_ending, segments_after_ns(id_path)),
    ):
        assert keys is None or any(_has_key(value, one) for value in values for one in keys)


@given(
    st.lists(st.text(alphabet="ab.*/", min_size=1, max_size=5), min_size=1, max_size=3),
    st.text(alphabet="ab.", min_size=1, max_size=4),
    st.sampled_from(["", "/a", "/a/b", "/b./a"]),
)
def test_whatever_trust_domains_match_is_found_by_a_key(patterns: list[str], domain: str, path: str) -> None:
    domains = Domains(patterns)
    if domains.matches(f"{domain}{path}"):
        assert domains.keys is None or any(_has_key(domain, one) for one in domains.keys)


def _has_key(value: str, key: Key) -> bool:
    text = str(key.value)
    tests = {KeyKind.EXACT: value == text, KeyKind.PREFIX: value.startswith(text), KeyKind.SUFFIX: value.endswith(text)}
    return tests[key.kind]


@pytest.mark.parametrize(
    ("pattern", "client"), [("team{}-*", "a.test/ns/team7-x/sa/s"), ("*-team{}", "a.test/ns/x-team7/sa/s")]
)
@pytest.mark.parametrize("action", [Action.ALLOW, Action.DENY])
def test_only_namespaces_with_a_star_that_may_match_are_tried(pattern: str, client: str, action: Action) -> None:
    number = 150
    rules = [rule(source=source(namespaces=(pattern.format(one),))) for one in range(number)]
    index = Index(compile_rules([policy(*rules, action=action)], MESH))
    for caller, found in ((client, "7"), ("a.test/ns/other/sa/s", None)):
        asked = request(caller)
        assert asked.http is not None
        connection, http = ConnectionFacts(asked), HttpFacts(asked.http, None)
        assert len([*index.near(connection, http)]) - number <= FEW
        matching = index.first(connection, http)
        assert (None if matching is None else matching.rule) == found
