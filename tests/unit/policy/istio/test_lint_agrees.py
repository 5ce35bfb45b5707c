"""What lint says of rules is so by the evaluator: a rule that never matches matches nothing, a shadowed one allows
nothing."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshtls.policy.istio.lint import findings
from meshtls.policy.istio.model import Action, AuthorizationPolicy, Condition, Documents, Operation, Rule, Source
from meshtls.policy.request import HttpRequest, Request, RequestAuth
from tests.unit.policy.istio import test_agreement as values
from tests.unit.policy.istio.making import MESH, US, compiled, meta, peer

SOURCES = {
    "principals": values.PRINCIPALS,
    "request_principals": values.SUBJECTS,
    "namespaces": values.NAMESPACES,
    "service_accounts": values.ACCOUNTS,
    "trust_domains": values.DOMAINS,
    "ip_blocks": values.BLOCKS,
    "remote_ip_blocks": values.BLOCKS,
}
OPERATIONS = {"hosts": values.HOSTS, "ports": values.PORTS, "methods": values.METHODS, "paths": values.PATHS}
KEYS = {**values.KEYS, "connection.sni": values.HOSTS}


def pair(of: tuple[str, ...]) -> st.SearchStrategy[tuple[tuple[str, ...], tuple[str, ...]]]:
    some = st.lists(st.sampled_from(of), max_size=2).map(tuple)
    return st.tuples(some, some).filter(any)


def owner(kind: type, of: dict[str, tuple[str, ...]], name: str) -> st.SearchStrategy[Any]:
    return pair(of[name]).map(lambda both: kind(**{name: both[0], f"not_{name}": both[1]}))


def rules(field: str) -> st.SearchStrategy[Rule]:
    """With this field of a source, of an operation or of one or two conditions, and nothing else."""
    sources: Any = st.just(())
    operations: Any = st.just(())
    conditions: Any = st.just(())
    if field in SOURCES:
        sources = st.lists(owner(Source, SOURCES, field), min_size=1, max_size=1).map(tuple)
    elif field in OPERATIONS:
        operations = st.lists(owner(Operation, OPERATIONS, field), min_size=1, max_size=1).map(tuple)
    else:
        one = pair(KEYS[field]).map(lambda both: Condition(key=field, values=both[0], not_values=both[1]))
        conditions = st.lists(one, min_size=1, max_size=2).map(tuple)
    return st.builds(Rule, place=st.just(values.PLACE), sources=sources, operations=operations, conditions=conditions)


def requests() -> list[Request]:
    chosen = random.Random(5)  # noqa: S311
    ids = (*values.IDS, "old.test/ns/shop/sa/web", "a.test/ns/front/sa/v1", "b.test/ns/fort/sa/web", "x.test/y")
    paths = ("/", "/a", "/a/", "/a/c", "/a/c/b", "/a//b", "/a/b", "/b", "/x/y/b", "/xb", "", "*")
    auths = [
        RequestAuth(
            f"{issuer}/{subject}",
            tuple(chosen.sample(("x", "xy", "zy", "a"), chosen.randint(0, 2))),
            chosen.choice((None, "x", "xy", "zy", "q")),
            {"iss": issuer, "sub": subject, "group": chosen.choice(("x", ["xy", "zy"], "q")), "scope": "x z xy",
             "realm": {"roles": chosen.choice(("xa", ["z", "by"], "x"))}},
        )
        for issuer in ("iss", "issue", "https://i", "")
        for subject in ("sub", "u", "resub", "")
    ]  # fmt: skip
    pick = chosen.choice
    return [
        Request(
            peer(pick((None, *ids))),
            US,
            port=pick((80, 8080, 9, None)),
            source_ip=pick((*values.ADDRESSES, "203.0.113.1", "2001:db9::1")),
            sni=pick((None, "web", "WEB.shop", "web:80", "q")),
            http=HttpRequest(
                pick(("GET", "POST", "PUT", "G")),
                pick(("web", "Web.Shop", "web:80", "q.shop", "")),
                pick(paths),
                tuple(("x-user", pick(("x", "xy", "zy", "z", "", "*a*b"))) for _ in range(pick((0, 1, 1, 2)))),
            ),
            remote_ip=pick((*values.ADDRESSES, "203.0.113.1")),
            destination_ip=pick((*values.ADDRESSES, "203.0.113.1")),
            auth=pick((None, *auths)),
        )
        for _ in range(150)
    ]


REQUESTS = requests()
FIELDS = st.sampled_from((*SOURCES, *OPERATIONS, *KEYS))


def policy(name: str, action: Action, rule: Rule) -> AuthorizationPolicy:
    return AuthorizationPolicy(meta=meta(name), action=action, rules=(rule,))


def codes(*policies: AuthorizationPolicy) -> set[str]:
    return {one.code for one in findings(Documents(authorization_policies=policies), MESH)}


@settings(max_examples=100, deadline=None)
@given(FIELDS.flatmap(rules), st.sampled_from((Action.ALLOW, Action.DENY)))
def test_a_rule_that_lint_says_never_matches_matches_nothing(rule: Rule, action: Action) -> None:
    one = policy("p", action, rule)
    if "never-matches" not in codes(one):
        return
    found = compiled(one)
    assert [request for request in REQUESTS if found.evaluate(request, reads_http=True).rule is not None] == []


@settings(max_examples=100, deadline=None)
@given(FIELDS.flatmap(lambda field: st.tuples(rules(field), rules(field))))
def test_a_rule_that_lint_says_is_shadowed_allows_nothing(both: tuple[Rule, Rule]) -> None:
    allow, deny = policy("p", Action.ALLOW, both[0]), policy("q", Action.DENY, both[1])
    if "deny-shadows-allow" not in codes(allow, deny):
        return
    found = compiled(allow, deny)
    assert [request for request in REQUESTS if found.evaluate(request, reads_http=True)] == []
