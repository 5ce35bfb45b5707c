"""The compiled evaluator agrees with the slow one on random policies and requests, and never raises."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshtls.config.document import Place
from meshtls.policy.decision import PolicyVerdict
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.index import Index
from meshtls.policy.istio.model import (
    Action,
    AuthorizationPolicy,
    Condition,
    Documents,
    MtlsMode,
    Operation,
    PeerAuthentication,
    Rule,
    Source,
)
from meshtls.policy.request import HttpRequest, Request, RequestAuth
from tests.unit.policy.istio.making import MESH, US, WORKLOAD, compiled, meta, peer
from tests.unit.policy.istio.slow_evaluator import SlowPolicies, slow_mode

IDS = (
    "a.test/ns/shop/sa/web",
    "a.test/ns/front/sa/client",
    "old.test/ns/front/sa/client",
    "b.test/ns/front/sa/client",
    "b.test/ns/fr.nt/sa/client",
    "a.test/ns/shop/x/ns/front/sa/client/v1",
    "a.test/plain",
    "b.test/ns/shop",
    "ns/shop/sa/web",
)
PRINCIPALS = (*IDS, "cluster.local/ns/front/sa/client", "*", "a.test/*", "*/sa/client", "*client", "cluster.local/ns/*")
NAMESPACES = ("shop", "front", "fr*", "*t", "*", "f*o*t", "fr.nt", "sa")
ACCOUNTS = ("client", "web", "front/client", "shop/web", "shop/client", "front/v1")
DOMAINS = ("a.test", "old.test", "b.test", "*", "*.test", "a*", "b.t*")
BLOCKS = ("10.0.0.0/8", "10.0.0.1", "::1", "2001:db8::/32", "::ffff:10.0.0.0/104", "0.0.0.0/0", "::/0", "192.0.2.0/24")
ADDRESSES = ("10.0.0.1", "192.0.2.9", "::ffff:10.0.0.1", "::1", "2001:db8::5", "hidden", None)
HOSTS = ("web", "WEB", "web.shop", "*.shop", "web*", "*", "web:80")
METHODS = ("GET", "POST", "G*", "*T", "*")
PATHS = (
    *("/", "/a", "/a/*", "*/b", "*", "/a//b"),
    *("/a/{*}", "/a/{*}/b", "/a/{**}", "/{**}/b", "/{*}/{*}", "/a/{**}/b", "/{*}/c/{*}", "/{*}/c/{**}"),
)
PORTS = ("80", "8080")
SUBJECTS = ("iss/sub", "iss/*", "*/sub", "*", "iss*", "*sub", "https://i/u", "*u", "iss")
#: The header value "é", as it comes.
IN_UTF_8 = "Ã©"
TEXTS = ("x", "x*", "*y", "*", "xy", "z", "*a*b")

Any_ = st.SearchStrategy[Any]


def some(values: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.one_of(st.just(()), st.just(()), st.lists(st.sampled_from(values), min_size=1, max_size=2).map(tuple))


def fields(kind: type, of: dict[str, tuple[str, ...]]) -> Any_:
    """A struct with a few of these fields."""
    return st.dictionaries(
        st.sampled_from([name for one in of for name in (one, f"not_{one}")]), st.integers(), min_size=1, max_size=3
    ).flatmap(
        lambda chosen: st.builds(
            kind,
            **{
                name: st.lists(st.sampled_from(of[name.removeprefix("not_")]), min_size=1, max_size=2).map(tuple)
                for name in chosen
            },
        )
    )


SOURCES = fields(
    Source,
    {
        "principals": PRINCIPALS,
        "request_principals": SUBJECTS,
        "namespaces": NAMESPACES,
        "service_accounts": ACCOUNTS,
        "trust_domains": DOMAINS,
        "ip_blocks": BLOCKS,
        "remote_ip_blocks": BLOCKS,
    },
)
OPERATIONS = fields(Operation, {"hosts": HOSTS, "ports": PORTS, "methods": METHODS, "paths": PATHS})
KEYS = {
    "source.ip": BLOCKS,
    "remote.ip": BLOCKS,
    "source.namespace": NAMESPACES,
    "source.serviceAccount": ACCOUNTS,
    "source.principal": PRINCIPALS,
    "source.trustDomain": (*DOMAINS, "a.test/ns/shop", "*.test/ns", "a.test/ns/f*"),
    "request.auth.principal": SUBJECTS,
    "request.auth.audiences": TEXTS,
    "request.auth.presenter": TEXTS,
    "request.auth.claims[group]": TEXTS,
    "request.auth.claims[realm][roles]": TEXTS,
    "request.auth.claims[scope]": TEXTS,
    "request.headers[X-User]": (*TEXTS, "x,zy", "x, zy", "x,*", "é", "é*", "*é"),
    "request.headers[:method]": (*METHODS, "get"),
    "request.headers[:Path]": ("/a", "/a*", "*/b", "*", "/a?x=/a/b"),
    "request.headers[:authority]": HOSTS,
    "destination.ip": BLOCKS,
    "destination.port": PORTS,
    "connection.sni": (*HOSTS, "*.Shop"),
}
CONDITIONS = st.sampled_from(sorted(KEYS)).flatmap(
    lambda key: st.builds(Condition, key=st.just(key), values=some(KEYS[key]), not_values=some(KEYS[key]))
)
PLACE = Place("policies.yaml", 1, "spec")
RULES = st.builds(
    Rule,
    place=st.just(PLACE),
    sources=st.lists(SOURCES, max_size=2).map(tuple),
    operations=st.lists(OPERATIONS, max_size=2).map(tuple),
    conditions=st.one_of(st.just(()), st.lists(CONDITIONS, max_size=2).map(tuple)),
)


@st.composite
def policy_sets(draw: st.DrawFn, most: int = 6) -> tuple[AuthorizationPolicy, ...]:
    found = []
    for number in range(draw(st.integers(0, most))):
        action = draw(st.sampled_from((Action.ALLOW, Action.ALLOW, Action.DENY, Action.AUDIT, Action.CUSTOM)))
        needs_rules = action in (Action.DENY, Action.CUSTOM)
        found.append(
            AuthorizationPolicy(
                meta=meta(f"p{number}", draw(st.sampled_from(("shop", "shop", "istio-system", "front")))),
                selector=draw(st.sampled_from(((), (), (("app", "web"),), (("app", "db"),)))),
                action=action,
                rules=tuple(draw(st.lists(RULES, min_size=1 if needs_rules else 0, max_size=3))),
                provider="opa" if action is Action.CUSTOM else None,
                dry_run=draw(st.integers(0, 5)) == 0,
                target_refs=draw(st.integers(0, 9)) == 0,
            )
        )
    return tuple(found)


@st.composite
def policies_alike(draw: st.DrawFn) -> tuple[AuthorizationPolicy, ...]:
    """Many rules that share a few sources, operations and conditions."""
    sources, operations = (((), *((one,) for one in draw(st.lists(of, max_size=3)))) for of in (SOURCES, OPERATIONS))
    conditions = ((), *((one,) for one in draw(st.lists(CONDITIONS, max_size=2))))
    rules = st.builds(
        Rule,
        place=st.just(PLACE),
        sources=st.sampled_from(sources),
        operations=st.sampled_from(operations),
        conditions=st.sampled_from(conditions),
    )
    return tuple(
        AuthorizationPolicy(meta=meta(action.value), action=action, rules=tuple(draw(st.lists(rules, min_size=1))))
        for action in (Action.ALLOW, Action.DENY, Action.AUDIT)
    )


CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "iss": st.sampled_from(("iss", "https://i", "", 1)),
        "sub": st.sampled_from(("sub", "u", "", "a/b")),
        "group": st.sampled_from(("x", ["xy", 1, "zy"], {"x": "x"}, None)),
        "realm": st.sampled_from(({"roles": ["xa", "z"]}, "x", ["x"], {"roles": "by"})),
        "scope": st.sampled_from(("x z", "xy", "")),
    },
)
AUTHS = st.builds(
    RequestAuth,
    principal=st.sampled_from(("iss/sub", "https://i/u", "iss", "")),
    audiences=st.lists(st.sampled_from(("x", "xy", "zy")), max_size=2).map(tuple),
    presenter=st.sampled_from((None, "x", "zy")),
    claims=CLAIMS,
    spiffe_id=st.sampled_from((None, None, "iss/sub", "https://i/u", "spiffe://a.test/x")),
)
HTTP = st.builds(
    HttpRequest,
    method=st.sampled_from(("GET", "POST", "get")),
    host=st.sampled_from(("web", "Web.Shop", "web:80", "")),
    path=st.sampled_from(
        ("/", "/a", "/a/", "/a/c", "/a/c/b", "/a//b", "/a/b", "/b", "/a?x=/a/b", "/a/c#/b", "", "/a/c*/b", "/é/b", "*")
    ),
    headers=st.lists(
        st.tuples(st.sampled_from(("x-user", "accept")), st.sampled_from(("x", "zy", "", IN_UTF_8, "xé"))), max_size=3
    ).map(tuple),
)
REQUESTS = st.builds(
    Request,
    peer=st.sampled_from((None, *map(peer, IDS))),
    destination=st.just(US),
    port=st.sampled_from((80, 8080, None)),
    source_ip=st.sampled_from(ADDRESSES),
    sni=st.sampled_from((None, "", "web", "WEB.shop")),
    http=st.one_of(st.none(), HTTP, HTTP, HTTP),
    remote_ip=st.sampled_from(ADDRESSES),
    destination_ip=st.sampled_from(ADDRESSES),
    auth=st.one_of(st.none(), AUTHS),
)


@settings(max_examples=150, deadline=None)
@given(policy_sets(), st.lists(REQUESTS, min_size=1, max_size=4), st.booleans())
def test_compiled_policies_decide_as_the_slow_evaluator(
    policies: tuple[AuthorizationPolicy, ...], requests: list[Request], reads_http: bool
) -> None:
    _agree(policies, requests, reads_http)


@settings(max_examples=40, deadline=None)
@given(policy_sets(most=30), st.lists(REQUESTS, min_size=3, max_size=8), st.booleans())
def test_an_index_of_many_rules_decides_as_the_slow_evaluator(
    policies: tuple[AuthorizationPolicy, ...], requests: list[Request], reads_http: bool
) -> None:
    _agree(policies, requests, reads_http)


@settings(max_examples=100, deadline=None)
@given(policies_alike(), st.lists(REQUESTS, min_size=1, max_size=4), st.booleans())
def test_an_index_of_rules_that_share_clauses_decides_as_the_slow_evaluator(
    policies: tuple[AuthorizationPolicy, ...], requests: list[Request], reads_http: bool
) -> None:
    _agree(policies, requests, reads_http)


def _agree(policies: tuple[AuthorizationPolicy, ...], requests: list[Request], reads_http: bool) -> None:
    documents = Documents(authorization_policies=policies)
    fast, slow = compile_policies(documents, MESH, WORKLOAD), SlowPolicies(documents, MESH, WORKLOAD)
    for request in requests:
        decision = fast.evaluate(request, reads_http=reads_http)
        assert decision.verdict is slow.evaluate(request, reads_http=reads_http)
        named = (decision.policy, decision.rule)
        if decision.policy is not None:
            action = Action.ALLOW if decision.allowed else Action.DENY
            assert named in slow.matching(action, request, reads_http=reads_http)
        if decision.verdict is PolicyVerdict.DENY:
            assert decision.clause is not None or decision.policy or not _allow_rules(slow)
            assert decision.reason.startswith("denied")
            assert (decision.nearest is not None) == (decision.policy is None and bool(_allow_rules(slow)))
        if request.http is not None or not reads_http:
            matching = slow.matching(Action.AUDIT, request, reads_http=reads_http)
            assert set(fast.audit(request, reads_http=reads_http)) == {f"{a}-rule[{b}]" for a, b in matching}
            custom = {name for name, _ in slow.matching(Action.CUSTOM, request, reads_http=reads_http)}
            assert {one.policy for one in fast.custom(request, reads_http=reads_http)} == custom
        shadow = fast.shadow(request, reads_http=reads_http)
        if any(one.dry_run and one.action in (Action.ALLOW, Action.DENY) for one in slow.policies):
            assert shadow[0].verdict is slow.evaluate(request, reads_http=reads_http, dry_run=True)
        if request.http is not None:
            narrow = fast.narrow(replace(request, http=None, auth=None)).evaluate(request.http, request.auth)
            assert narrow == fast.evaluate(request, reads_http=True)


def _allow_rules(slow: SlowPolicies) -> list[Rule]:
    return [rule for one in slow.policies if one.action is Action.ALLOW and not one.dry_run for rule in one.rules]


MODES = st.sampled_from(MtlsMode)
AUTHENTICATIONS = st.lists(
    st.builds(
        PeerAuthentication,
        meta=st.builds(
            meta,
            st.sampled_from(("a", "b", "c", "d")),
            st.sampled_from(("shop", "istio-system", "front")),
            st.sampled_from((None, datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))),
        ),
        selector=st.sampled_from(((), (("app", "web"),), (("app", "db"),))),
        mode=MODES,
        ports=st.lists(st.tuples(st.sampled_from((80, 8080)), MODES), max_size=2, unique_by=lambda one: one[0]).map(
            tuple
        ),
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(AUTHENTICATIONS, st.sampled_from((80, 8080, 9090)))
def test_modes_are_those_of_the_slow_evaluator(documents: list[PeerAuthentication], port: int) -> None:
    policies = compile_policies(Documents(peer_authentications=tuple(documents)), MESH, WORKLOAD)
    assert policies.mode(port) == slow_mode(documents, MESH, WORKLOAD, port)


ANY_TEXT = st.text(max_size=40)


@settings(max_examples=100, deadline=None)
@given(
    policy_sets(),
    st.builds(
        Request,
        peer=st.sampled_from((None, *map(peer, IDS))),
        destination=st.just(US),
        port=st.one_of(st.none(), st.integers()),
        source_ip=st.one_of(st.none(), ANY_TEXT),
        sni=st.one_of(st.none(), ANY_TEXT),
        http=st.one_of(
            st.none(),
            st.builds(HttpRequest, ANY_TEXT, ANY_TEXT, ANY_TEXT, st.lists(st.tuples(ANY_TEXT, ANY_TEXT)).map(tuple)),
        ),
        remote_ip=st.one_of(st.none(), ANY_TEXT),
        destination_ip=st.one_of(st.none(), ANY_TEXT),
        auth=st.one_of(
            st.none(),
            st.builds(
                RequestAuth,
                ANY_TEXT,
                st.lists(ANY_TEXT).map(tuple),
                st.one_of(st.none(), ANY_TEXT),
                st.dictionaries(
                    st.sampled_from(("iss", "sub", "group", "realm", "scope")),
                    st.recursive(
                        st.one_of(st.none(), st.booleans(), st.floats(), ANY_TEXT),
                        lambda inner: st.one_of(st.lists(inner), st.dictionaries(ANY_TEXT, inner)),
                        max_leaves=5,
                    ),
                ),
            ),
        ),
    ),
    st.booleans(),
)
def test_evaluation_never_raises(policies: tuple[AuthorizationPolicy, ...], request: Request, reads_http: bool) -> None:
    found = compiled(*policies)
    decision = found.evaluate(request, reads_http=reads_http)
    shadow = found.shadow(request, reads_http=reads_http)
    for one in (decision, *shadow):
        assert one.reason.isprintable()
        assert one.clause is None or one.clause.isprintable()
        assert one.nearest is None or str(one.nearest).isprintable()
    for match in found.custom(request, reads_http=reads_http):
        assert match.refusal is None or match.refusal.reason.isprintable()
    if request.http is not None:
        assert found.narrow(request).evaluate(request.http, request.auth) == found.evaluate(request, reads_http=True)


def test_an_empty_index_finds_nothing() -> None:
    assert not Index(())
