"""Values that no request or peer has when it is judged: paths by normalization, methods, hosts, identities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.policy.istio.lint import findings
from meshtls.policy.istio.lint_hosts import host_problem
from meshtls.policy.istio.lint_identities import domain_problem, principal_problem, segment_problem
from meshtls.policy.istio.model import Action, Documents, MeshSettings, Normalization, Operation
from meshtls.policy.istio.paths import normalize
from meshtls.spiffeid import SpiffeId
from meshtls.wire.http import HttpLimits, HttpRequest
from meshtls.wire.http1.fields import MessageError
from meshtls.wire.http1.request import is_target, request_of
from meshtls.wire.http_rules import NOT_JUDGED, is_host
from tests.unit.policy.istio.making import compiled, policy, request, rule

NONE, BASE, MERGE, DECODE = Normalization


def found(operation: Operation, how: Normalization = BASE) -> list[str]:
    documents = Documents(authorization_policies=(policy(rule(operation=operation), action=Action.DENY),))
    mesh = MeshSettings(trust_domain="a.test", normalization=how)
    return [one.text for one in findings(documents, mesh) if one.code == "value-never-matches"]


#: A pattern, and the modes in which no path matches it.
PATHS: dict[str, tuple[Normalization, ...]] = {
    "/": (),
    "*": (),
    "/*": (),
    "/a": (),
    "/a/": (),
    "/a/.well-known": (),
    "/a/..*": (),
    "*..": (),
    "*/": (),
    "/a%20b": (),
    "/a;v=1/b": (),
    "/a/{*}/b": (),
    "/a/{**}": (),
    "/a%2*": (),
    "*2e": (),
    "a": (NONE, BASE, MERGE, DECODE),
    "a*": (NONE, BASE, MERGE, DECODE),
    "/a?x=1": (NONE, BASE, MERGE, DECODE),
    "*?x=1": (NONE, BASE, MERGE, DECODE),
    "/a?*": (NONE, BASE, MERGE, DECODE),
    "/a#b": (NONE, BASE, MERGE, DECODE),
    "/a b": (NONE, BASE, MERGE, DECODE),
    "/\u00e9*": (NONE, BASE, MERGE, DECODE),
    "/a%00*": (NONE, BASE, MERGE, DECODE),
    "/admin/../x": (BASE, MERGE, DECODE),
    "/admin/../x*": (BASE, MERGE, DECODE),
    "*/../x": (BASE, MERGE, DECODE),
    "/a/./b": (BASE, MERGE, DECODE),
    "/a/..": (BASE, MERGE, DECODE),
    "/a/../{*}": (BASE, MERGE, DECODE),
    "/a/%2e%2e/b": (BASE, MERGE, DECODE),
    "/%61dmin": (BASE, MERGE, DECODE),
    "/%61dmin/*": (BASE, MERGE, DECODE),
    "*%61": (BASE, MERGE, DECODE),
    "/a\\b": (BASE, MERGE, DECODE),
    "/a//b": (MERGE, DECODE),
    "//*": (MERGE, DECODE),
    "*//": (MERGE, DECODE),
    "/a%2Fb": (DECODE,),
    "/a%2Fb*": (DECODE,),
    "/a%5cb": (DECODE,),
}


@pytest.mark.parametrize("how", Normalization)
@pytest.mark.parametrize("pattern", PATHS)
def test_a_path_that_no_request_has_is_found(pattern: str, how: Normalization) -> None:
    assert bool(found(Operation(paths=(pattern,)), how)) is (how in PATHS[pattern])
    assert len(found(Operation(not_paths=(pattern, "/b")), how)) == (how in PATHS[pattern])


PIECES = ("/", "/", "a", ".", "..", "%2e", "%2F", "%61", "%", "%2", "\\", ";", "*", "//", "%5c", "2e", "F", "{", "3")
SENT = st.lists(st.sampled_from(PIECES), max_size=9).map(lambda pieces: f"/{''.join(pieces)}")


@given(SENT, st.sampled_from(Normalization), st.data())
def test_no_pattern_that_a_judged_path_matches_is_found(path: str, how: Normalization, data: st.DataObject) -> None:
    assert is_target(path)
    judged = normalize(path, how)
    at = data.draw(st.integers(1, len(judged)))
    segments = judged.split("/")
    template = "/".join(["{*}" if number == len(segments) - 1 else one for number, one in enumerate(segments)])
    patterns = [judged, f"{judged[:at]}*", f"*{judged[at:]}", template]
    assert found(Operation(paths=tuple(one for one in patterns if "*" not in one[1:-1] or one is template)), how) == []


def patterns_of(value: str, data: st.DataObject) -> list[str]:
    at = data.draw(st.integers(0, len(value)))
    return [value, f"{value[:at]}*", f"*{value[at:]}"]


_LABELS = st.from_regex(r"[a-z0-9._-]{1,9}", fullmatch=True)
_SEGMENTS = st.from_regex(r"[A-Za-z0-9._-]{1,5}", fullmatch=True).filter(lambda one: one.strip("."))
_IDS = st.builds(
    lambda domain, path: f"{domain}/{'/'.join(path)}", _LABELS, st.lists(_SEGMENTS, min_size=1, max_size=4)
)
_NAMES = st.one_of(_LABELS, st.just("[::1]"), st.just("[fe80::a]"), st.just("10.0.0.1"))
_HOSTS = st.builds(lambda name, port: f"{name}{port}", _NAMES, st.sampled_from(["", ":1", ":8080", ":65535"]))


@given(_HOSTS, st.data())
def test_no_pattern_that_a_host_matches_is_found(host: str, data: st.DataObject) -> None:
    assert is_host(host)
    assert [host_problem(one) for one in patterns_of(host, data)] == ["", "", ""]


@given(_IDS, st.data())
def test_no_pattern_that_an_id_matches_is_found(spiffe_id: str, data: st.DataObject) -> None:
    assert str(SpiffeId.parse(f"spiffe://{spiffe_id}")) == f"spiffe://{spiffe_id}"
    mesh = MeshSettings(trust_domain=spiffe_id.partition("/")[0])
    assert [principal_problem(mesh, one) for one in patterns_of(spiffe_id, data)] == ["", "", ""]
    domain, _, path = spiffe_id.partition("/")
    assert [domain_problem(one) for one in patterns_of(domain, data)] == ["", "", ""]
    assert segment_problem(path) == ""


@pytest.mark.parametrize(
    "pattern", ["a:", "*:99999", "a:x*", "*/", "u@b*", "b,c", "", "a b", "%62", "http://*", "[::1", "*\u00f6ln.de"]
)
def test_a_host_that_no_request_has_is_found(pattern: str) -> None:
    assert host_problem(pattern)
    assert found(Operation(hosts=(pattern,))) == found(Operation(hosts=(pattern, "a")))


@pytest.mark.parametrize("pattern", ["A*", "*A b", "a.test/../b", "/a", "a.test/", "a/b c*", "*/", "ns/*"])
def test_a_principal_that_no_peer_has_is_found(pattern: str) -> None:
    assert principal_problem(MeshSettings(trust_domain="a.test"), pattern)


def test_a_trust_domain_may_be_named_ns() -> None:
    assert principal_problem(MeshSettings(trust_domain="ns"), "ns/default/sa/a") == ""
    assert principal_problem(MeshSettings(trust_domain="a.test", trust_domain_aliases=("ns",)), "ns/a") == ""
    assert principal_problem(MeshSettings(trust_domain="a.test"), "ns/a") != ""


@pytest.mark.parametrize(
    ("key", "never", "may"),
    [(":authority", "a/", "a"), ("host", "http://a", "a"), (":method", "get", "GET"), ("x", "get ", "get")],
)
def test_a_condition_on_a_header_that_no_request_has_is_found(key: str, never: str, may: str) -> None:
    def codes(value: str) -> list[str]:
        documents = Documents(
            authorization_policies=(policy(rule(when={f"request.headers[{key}]": (value,)}), action=Action.DENY),)
        )
        lint = findings(documents, MeshSettings(trust_domain="a.test"))
        return [one.code for one in lint if one.code == "value-never-matches"]

    assert (codes(never), codes(may)) == (["value-never-matches"], [])


METHODS = {
    "GET": True,
    "G*": True,
    "*T": True,
    "*": True,
    "M-SEARCH": True,
    "*1": True,
    "get": False,
    "Get": False,
    "g*": False,
    "*t": False,
    "1*": False,
    "": False,
}


@pytest.mark.parametrize("pattern", METHODS)
def test_a_method_that_no_request_has_is_found(pattern: str) -> None:
    assert (found(Operation(methods=(pattern,))) == []) is METHODS[pattern]


def head(*fields: str) -> HttpRequest:
    lines = ("GET / HTTP/1.1", "Host: web", *fields)
    return request_of("\r\n".join(lines).encode(), HttpLimits(), {}).request


@pytest.mark.parametrize("name", sorted(NOT_JUDGED))
def test_a_header_that_lint_calls_unjudged_is_taken_out(name: str) -> None:
    value = {"content-length": "0", "transfer-encoding": "chunked"}.get(name, "x")
    assert head(f"{name}: {value}", "x-user: bob").headers == (("x-user", "bob"),)


def test_a_websocket_is_judged_by_its_upgrade() -> None:
    no_websocket = compiled(policy(rule(when={"request.headers[upgrade]": ("websocket",)}), action=Action.DENY))
    upgrade = head("Connection: Upgrade", "Upgrade: WebSocket")
    for http, allowed in ((upgrade, False), (head("Connection: Upgrade", "Upgrade: other"), True)):
        judged = request(headers=http.headers)
        assert no_websocket.evaluate(judged, reads_http=True).allowed is allowed
    with pytest.raises(MessageError):
        head("Up grade: websocket")
