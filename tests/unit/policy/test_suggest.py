"""The suggested policies allow what was recorded, and nothing else."""

from __future__ import annotations

from itertools import product

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from meshtls.errors import RequestError
from meshtls.policy import suggest
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.lint import Severity, findings
from meshtls.policy.istio.model import Documents, MeshOptions, MeshSettings, Normalization
from meshtls.policy.istio.parse import parse_documents
from meshtls.policy.path_template import path_template
from meshtls.policy.replay import Proposal, Replay
from meshtls.policy.review import review
from meshtls.policy.suggest import LeftOut, Suggestions, Unlabelled, rule_for
from meshtls.policy.workloads import workload_of
from meshtls.spiffeid import SpiffeId
from tests.unit.policy.recorded_lines import CLIENT, OTHER, WEB, connection, recorded, request

DESTINATION = SpiffeId.parse(WEB)
LABELS = {DESTINATION: (("app", "web"),)}
MESH = MeshSettings(trust_domain="a.test", normalization=Normalization.NONE)

SOURCES = (None, CLIENT, OTHER, "spiffe://b.test/ns/front/sa/client", "spiffe://a.test/plain")
HTTP_PORTS, TCP_PORTS = (8080, 8081), (5432, 5433)
METHODS = ("GET", "POST", "PUT*", "P*T", "CONNECT")
PATHS = ("/", "/a*b", "/a{b}", "/a", "/a/", "/a/b", "/a*", "*", "/{*}", "/a/{**}", "/A", "/a/4711", "/a/4712", "")

Seen = tuple[str | None, int, str | None, str | None]
REQUESTS: tuple[Seen, ...] = tuple(product(SOURCES, HTTP_PORTS, METHODS, PATHS))
CONNECTIONS: tuple[Seen, ...] = tuple((source, port, None, None) for source, port in product(SOURCES, TCP_PORTS))


def line(seen: Seen, *, denied: bool = False) -> str:
    source, port, method, path = seen
    who = {"plaintext": True} if source is None else {"source_id": source}
    if method is None or path is None:
        return connection(port=port, denied=denied, **who)
    return request(method, path, port=port, denied=denied, **who)


def suggested(lines: list[str], *, templates: bool = False) -> tuple[Suggestions, Documents]:
    suggestions = Suggestions(LABELS, templates=templates)
    for one in lines:
        suggestions.add(recorded(one))
    text = "---\n".join(yaml.safe_dump(dict(one.document)) for one in suggestions.policies())
    return suggestions, parse_documents([("suggested.yaml", text)])


def compiled(documents: Documents) -> WorkloadPolicies:
    return compile_policies(documents, MESH, workload_of(DESTINATION, LABELS[DESTINATION]))


def allows(policies: WorkloadPolicies, seen: Seen) -> bool:
    asked = recorded(line(seen)).request
    return review(policies, asked, reads_http=asked.http is not None).decision.allowed


@settings(max_examples=60, deadline=None)
@given(st.sets(st.sampled_from(REQUESTS + CONNECTIONS), min_size=1, max_size=25))
def test_a_suggestion_allows_recorded_requests_and_denies_all_others(seen: set[Seen]) -> None:
    suggestions, documents = suggested([line(one) for one in sorted(seen, key=str)])
    left_out = {(one.method, one.path) for one in suggestions.left_out}
    policies = compiled(documents)

    for one in REQUESTS + CONNECTIONS:
        if one[2] == "CONNECT" and one[3]:
            continue  # there is no such request
        assert allows(policies, one) is (one in seen and (one[2], one[3]) not in left_out), one


@settings(max_examples=30, deadline=None)
@given(st.sets(st.sampled_from(REQUESTS + CONNECTIONS), min_size=1, max_size=25), st.booleans())
def test_a_replay_on_the_suggestion_denies_only_what_was_left_out(seen: set[Seen], templates: bool) -> None:
    lines = [line(one) for one in sorted(seen, key=str)]
    suggestions, documents = suggested(lines, templates=templates)
    replay = Replay(Proposal(documents=documents, labels=LABELS, mesh=MeshOptions(normalization=Normalization.NONE)))
    for one in lines:
        replay.add(recorded(one))

    denied = {(group.method, group.path) for group in replay.report().groups}
    left_out = {(one.method, path_template(one.path)) for one in suggestions.left_out}
    assert denied <= left_out


def test_callers_with_the_same_operations_share_a_rule() -> None:
    lines = [
        request(method, path, source_id=source, port=port)
        for source, port, method, path in product((CLIENT, OTHER), (8080, 8081), ("GET", "HEAD"), ("/a", "/b"))
    ]
    suggestions, _ = suggested([*lines, request("POST", "/c")])

    assert [one.document for one in suggestions.policies()] == [
        {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "allow-seen-web", "namespace": "shop"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "action": "ALLOW",
                "rules": [
                    {
                        "from": [{"source": {"principals": ["a.test/ns/front/sa/client"]}}],
                        "to": [
                            {"operation": {"ports": ["8080"], "methods": ["POST"], "paths": ["/c"]}},
                            {
                                "operation": {
                                    "ports": ["8080", "8081"],
                                    "methods": ["GET", "HEAD"],
                                    "paths": ["/a", "/b"],
                                }
                            },
                        ],
                    },
                    {
                        "from": [{"source": {"principals": ["a.test/ns/front/sa/other"]}}],
                        "to": [
                            {
                                "operation": {
                                    "ports": ["8080", "8081"],
                                    "methods": ["GET", "HEAD"],
                                    "paths": ["/a", "/b"],
                                }
                            }
                        ],
                    },
                ],
            },
        }
    ]

    same, _ = suggested(lines)
    (only,) = same.policies()
    assert only.document["spec"]["rules"] == [
        {
            "from": [{"source": {"principals": ["a.test/ns/front/sa/client", "a.test/ns/front/sa/other"]}}],
            "to": [{"operation": {"ports": ["8080", "8081"], "methods": ["GET", "HEAD"], "paths": ["/a", "/b"]}}],
        }
    ]


def test_templates_allow_other_identifiers_and_no_other_path() -> None:
    _, documents = suggested([request("GET", "/a/4711")], templates=True)
    policies = compiled(documents)

    assert allows(policies, (CLIENT, 8080, "GET", "/a/4712"))
    assert not allows(policies, (CLIENT, 8080, "GET", "/a/b/c"))
    assert not allows(compiled(suggested([request("GET", "/a/4711")])[1]), (CLIENT, 8080, "GET", "/a/4712"))


def test_a_query_is_no_part_of_what_is_allowed() -> None:
    _, documents = suggested([request("GET", "/a?x=1")])

    assert allows(compiled(documents), (CLIENT, 8080, "GET", "/a"))


def test_a_denied_request_is_not_suggested() -> None:
    _, documents = suggested([request("GET", "/a"), request("GET", "/b", denied=True)])

    assert allows(compiled(documents), (CLIENT, 8080, "GET", "/a"))
    assert not allows(compiled(documents), (CLIENT, 8080, "GET", "/b"))


def test_a_destination_of_which_nothing_was_allowed_gets_a_policy_that_allows_nothing() -> None:
    _, documents = suggested([request("GET", "/b", denied=True)])

    (only,) = documents.authorization_policies
    assert only.rules == ()
    assert not allows(compiled(documents), (CLIENT, 8080, "GET", "/b"))


def test_a_connection_of_a_port_with_http_allows_nothing_by_itself() -> None:
    _, documents = suggested([connection(source_id=OTHER), request("GET", "/a")])

    assert not allows(compiled(documents), (OTHER, 8080, "GET", "/a"))
    assert not allows(compiled(documents), (OTHER, 8080, None, None))


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        ("GET", "/a*", "a path with a star at an end, or with an operator of templates, is a pattern"),
        ("GET", "/{*}/b", "a path with a star at an end, or with an operator of templates, is a pattern"),
        (
            "GET",
            "/a*b/c",
            "the path can't be written in a rule: wanted at most one star, at the beginning or at the end, got"
            " '/a*b/c'",
        ),
        (
            "GET",
            "/a{b}",
            "the path can't be written in a rule: wanted a path, or a template such as /users/{*}/files/{**}, got"
            " '/a{b}': an operator, {*} or {**}, is a segment by itself",
        ),
        (
            "G*T",
            "/a",
            "the method can't be written in a rule: wanted at most one star, at the beginning or at the end, got 'G*T'",
        ),
        ("OPTIONS", "*", "a path with a star at an end, or with an operator of templates, is a pattern"),
        ("G*", "/a", "a method with a star at an end is a pattern"),
        ("GET", "", "an empty path can't be written in a rule"),
        ("GET", "/" + "a" * 2047, "the access log has only the beginning of the path"),
    ],
)
def test_a_request_that_no_rule_means_alone_is_left_out(method: str, path: str, reason: str) -> None:
    suggestions, documents = suggested([request(method, path)])

    assert suggestions.left_out == (LeftOut(WEB, method, path, reason),)
    assert documents.authorization_policies[0].rules == ()
    assert [one.left_out for one in suggestions.policies()] == [True]
    assert rule_for(recorded(request(method, path)).request) == reason or len(path) == 2048


@pytest.mark.parametrize("path", ["/a*b/4711", "/[a]/4711", "//4711", "/a{b}/4711", "/a b/4711", "/4711"])
@pytest.mark.parametrize("templates", [False, True])
def test_a_suggestion_is_valid_and_allows_the_path_or_leaves_it_out(path: str, templates: bool) -> None:
    suggestions, documents = suggested([request("GET", path)], templates=templates)

    assert allows(compiled(documents), (CLIENT, 8080, "GET", path)) is (not suggestions.left_out)
    assert bool(suggestions.left_out) is any(one in path for one in "*{}")
    assert [one.left_out for one in suggestions.policies()] == [bool(suggestions.left_out)]


_ELSEWHERE = "spiffe://example.org/ns/shop/sa/web"
_LOCAL = ("spiffe://cluster.local/ns/front/sa/client", "spiffe://cluster.local/plain")


@pytest.mark.parametrize("what", ["request", "connection"])
def test_a_federated_caller_of_cluster_local_is_allowed_as_itself_or_not_at_all(what: str) -> None:
    """In principals ``cluster.local`` means the trust domain of the workload itself."""
    sources = (*_LOCAL, "spiffe://example.org/ns/front/sa/client", "spiffe://example.org/plain")

    def one(source: str) -> str:
        if what == "request":
            return request("GET", "/a", source_id=source, destination_id=_ELSEWHERE)
        return connection(source_id=source, destination_id=_ELSEWHERE)

    def allowed_of(*seen: str) -> list[str]:
        _, documents = suggested([one(source) for source in seen])
        mesh = MeshSettings(trust_domain="example.org")
        policies = compile_policies(documents, mesh, workload_of(SpiffeId.parse(_ELSEWHERE)))
        asked = {source: recorded(one(source)).request for source in sources}
        return [
            source
            for source, request in asked.items()
            if review(policies, request, reads_http=request.http is not None).decision.allowed
        ]

    for source in (sources[0], *sources[2:]):
        assert allowed_of(source) == [source]
    assert allowed_of(*sources) == [sources[0], *sources[2:]]
    suggestions, documents = suggested([one(sources[1])])
    assert documents.authorization_policies[0].rules == ()
    reason = (
        "cluster.local stands for example.org in principals, and the ID has no /ns/<namespace>/sa/<account> for"
        " serviceAccounts"
    )
    assert suggestions.left_out == (LeftOut(_ELSEWHERE, "", "", reason, sources[1]),)
    if what == "request":
        assert rule_for(recorded(one(sources[1])).request) == reason
        assert rule_for(recorded(one(sources[0])).request) == {
            "from": [{"source": {"serviceAccounts": ["front/client"], "trustDomains": ["cluster.local"]}}],
            "to": [{"operation": {"ports": ["8080"], "methods": ["GET"], "paths": ["/a"]}}],
        }


def test_a_destination_whose_namespace_no_policy_can_have_gets_none() -> None:
    destination = "spiffe://a.test/ns/Prod_1/sa/B"
    suggestions = Suggestions({})
    for one in (request(destination_id=destination), request("GET", "/b", destination_id=destination)):
        suggestions.add(recorded(one))

    assert (list(suggestions.policies()), suggestions.unlabelled) == ([], ())
    assert suggestions.without_policy == (destination,)
    reason = (
        "no policy can be in its namespace: wanted a namespace's name of a-z, 0-9 and '-', of at most 63 characters,"
        " got 'Prod_1'"
    )
    assert suggestions.left_out == (LeftOut(destination, "", "", reason),)
    suggestions.add(recorded(request(destination_id="spiffe://a.test/ns/prod-1/sa/B")))
    assert [one.destination for one in suggestions.policies()] == ["spiffe://a.test/ns/prod-1/sa/B"]


def test_too_many_destinations_without_a_policy_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggest, "_MOST_DESTINATIONS", 2)
    suggestions = Suggestions({})
    for name in "ab":
        suggestions.add(recorded(request(destination_id=f"spiffe://a.test/ns/X/sa/{name}")))

    with pytest.raises(RequestError, match=r"and 2 destinations, got more"):
        suggestions.add(recorded(request(destination_id="spiffe://a.test/ns/X/sa/c")))


def test_a_suggestion_has_no_errors_for_lint_and_says_that_plaintext_matches() -> None:
    suggestions, documents = suggested([request("GET", "/a"), request("GET", "/a", plaintext=True)])

    found = findings(documents, MESH, [workload_of(DESTINATION, LABELS[DESTINATION])])
    assert not [one for one in found if one.severity is Severity.ERROR]
    assert [one.code for one in found if one.severity is Severity.WARNING] == [
        "plaintext-matches",
        "strict-missing",
    ]
    assert [one.plaintext for one in suggestions.policies()] == [True]


def test_without_its_labels_a_destinations_policy_has_no_selector_and_that_is_told() -> None:
    suggestions = Suggestions({})
    suggestions.add(recorded(request()))

    assert list(suggestions.unlabelled) == [Unlabelled(WEB, "shop", ())]
    assert ["selector" in one.document["spec"] for one in suggestions.policies()] == [False]
    database, elsewhere = "spiffe://a.test/ns/shop/sa/db", "spiffe://a.test/ns/back/sa/web"
    for destination in (database, elsewhere):
        suggestions.add(recorded(request(destination_id=destination)))
    assert list(suggestions.unlabelled) == [
        Unlabelled(elsewhere, "back", ()),
        Unlabelled(database, "shop", (WEB,)),
        Unlabelled(WEB, "shop", (database,)),
    ]
    assert Suggestions(LABELS).unlabelled == ()


def test_destinations_with_one_name_get_policies_with_two() -> None:
    suggestions = Suggestions({})
    for domain in ("a.test", "b.test"):
        suggestions.add(recorded(request(destination_id=f"spiffe://{domain}/ns/shop/sa/web")))

    assert [one.document["metadata"]["name"] for one in suggestions.policies()] == [
        "allow-seen-web",
        "allow-seen-web-2",
    ]


def test_more_rules_than_a_policy_may_have_are_several_policies() -> None:
    _, documents = suggested(
        [request("GET", f"/{number}x", source_id=f"spiffe://a.test/sa/c{number}") for number in range(513)]
    )

    assert [len(one.rules) for one in documents.authorization_policies] == [512, 1]


def test_too_many_different_requests_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggest, "_MOST_REQUESTS", 2)
    suggestions = Suggestions(LABELS)
    for path in ("/a", "/b", "/a"):
        suggestions.add(recorded(request("GET", path)))

    with pytest.raises(RequestError, match=r"wanted at most 2 different requests .* write paths as templates"):
        suggestions.add(recorded(request("GET", "/c")))


def test_the_rule_for_a_request_is_of_its_caller_and_operation() -> None:
    assert rule_for(recorded(request("GET", "/a?b")).request) == {
        "from": [{"source": {"principals": ["a.test/ns/front/sa/client"]}}],
        "to": [{"operation": {"ports": ["8080"], "methods": ["GET"], "paths": ["/a"]}}],
    }
    assert rule_for(recorded(connection()).request) == "it is no HTTP request"
