"""The forms of a path that an ASGI app may route by, and the scope that it gets."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from meshtls.errors import RequestError
from meshtls.integrations.asgi_request import http_of, paths_read, roots_of, scope_for
from meshtls.policy.istio.model import Normalization
from meshtls.policy.istio.paths import normalize
from meshtls.wire.http import HttpRequest
from meshtls.wire.http1.fields import MessageError

BASE = partial(normalize, how=Normalization.BASE)


def a_scope(*headers: tuple[bytes, bytes], **keys: Any) -> dict[str, Any]:
    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b""}
    return scope | {"headers": [(b"host", b"a.test"), *headers]} | keys


@pytest.mark.parametrize(
    ("path", "root", "read"),
    [
        ("/a", "", ()),
        ("/a?b=%2F", "", ()),
        ("/a%20b", "", ()),
        ("/a%2Fb", "", ("/a/b",)),
        ("/a%2Fb?c=%2F", "", ("/a/b",)),
        ("/a%2F..%2Fb", "", ("/a/../b", "/b")),
        ("/a%2F.%2Fb", "", ("/a/./b", "/a/b")),
        ("/a%2F..", "", ("/a/..", "/")),
        ("/a%252F..", "", ()),
        ("/api/a", "/api", ("/a",)),
        ("/api/api/a", "/api", ("/api/a",)),
        ("/api", "/api", ("/",)),
        ("/api/", "/api", ("/",)),
        ("/api/a", "/api/", ("/a",)),
        ("/apia", "/api", ("/a",)),
        ("/x/api/a", "/api", ("/a",)),
        ("/other", "/api", ()),
        ("/a", "/", ()),
        ("//a", "/", ("/a",)),
        ("/%61pi/a", "/api", ("/api/a", "/a")),
        ("/api%2Fa", "/api", ("/api/a", "/a")),
        ("/api/a%2F..%2Fb", "/api", ("/api/a/../b", "/api/b", "/a/../b", "/b")),
        ("/api/..%2Fb", "/api", ("/api/../b", "/b", "/../b")),
        ("*", "", ()),
        ("", "", ()),
    ],
)
def test_the_paths_that_an_app_may_read(path: str, root: str, read: tuple[str, ...]) -> None:
    assert paths_read(path, [root] if root else [], BASE) == read


def test_a_path_may_be_below_each_of_several_roots() -> None:
    assert paths_read("/api/sub/a", ["/api", "/api/sub"], BASE) == ("/sub/a", "/a")


def test_a_path_with_nul_is_refused() -> None:
    with pytest.raises(RequestError) as refused:
        paths_read("/api/%00", ["/api"], BASE)
    assert str(refused.value) == "path '/api/%00': wanted no NUL (%00)"


def test_roots_are_those_of_the_scope_and_the_app_s_own() -> None:
    class App:
        root_path = "/own"

    assert roots_of(a_scope(), object()) == frozenset()
    assert roots_of(a_scope(root_path=""), object()) == frozenset()
    scope = a_scope(root_path="/api/sub", app_root_path="/api")
    assert roots_of(scope, App()) == {"/api/sub", "/api", "/own"}


@pytest.mark.parametrize(
    ("scope", "headers"),
    [
        (a_scope((b"A", b" b\t")), (("a", "b"),)),
        (a_scope((b"connection", b"close, a"), (b"a", b"1"), (b"b", b"2")), (("b", "2"),)),
        (a_scope((b"a", b"1"), type="websocket"), (("a", "1"), ("upgrade", "websocket"))),
        (a_scope((b"expect", b"100-continue")), ()),
        (a_scope((b"expect", b"100-continue"), http_version="2"), (("expect", "100-continue"),)),
        (a_scope((b"expect", b"100-continue"), (b"content-length", b"1")), (("expect", "100-continue"),)),
        (a_scope((b"expect", b"100-continue"), (b"content-length", b"1"), http_version="1.0"), ()),
    ],
)
def test_a_scope_s_request_has_the_headers_of_a_sidecar_s(
    scope: dict[str, Any], headers: tuple[tuple[str, str], ...]
) -> None:
    assert http_of(scope) == HttpRequest("GET", "a.test", "/", headers)


@pytest.mark.parametrize(
    ("scope", "message", "status"),
    [
        (a_scope((b"a", b"1\r\nb: 2")), "wanted fields of one line each, got others", 400),
        (a_scope((b"a", b"1\nb: 2")), "wanted lines that end with CRLF and have no control bytes, got others", 400),
        (a_scope((b"a:b", b"1")), "wanted a field's name and a colon right after it, got 'a:b'", 400),
        (a_scope((b"a_b", b"1")), "wanted no underscore in a field's name, got a_b", 400),
        (a_scope((b"te_", b"1")), "wanted no underscore in a field's name, got te_", 400),
        (a_scope(headers=[]), "wanted one Host, got none", 400),
        (a_scope((b"expect", b"else")), "wanted no Expect but 100-continue, got another", 417),
        (a_scope(method="get"), "method: wanted one in capital letters, got 'get'", 400),
        (
            a_scope(path="http://b/", raw_path=b"http://b/"),
            "wanted the same host in target and Host, got two",
            400,
        ),
        (
            a_scope(path="/a#b", raw_path=b"/a#b"),
            "wanted a target of printable ASCII without a fragment, got something else",
            400,
        ),
        (
            a_scope(path="/a b", raw_path=b"/a b"),
            "wanted a method, a target and a version with one space between, got something else",
            400,
        ),
    ],
)
def test_a_scope_that_no_sidecar_would_pass_on_is_refused(scope: dict[str, Any], message: str, status: int) -> None:
    with pytest.raises(MessageError) as refused:
        http_of(scope)
    assert (str(refused.value), refused.value.status) == (message, status)


@pytest.mark.parametrize(
    ("came", "gets"),
    [
        ([(b"A", b"b")], [(b"host", b"a.test"), (b"a", b"b")]),
        ([(b"a", b"b ")], [(b"host", b"a.test"), (b"a", b"b")]),
        (
            [(b"connection", b"a"), (b"a", b"1"), (b"te", b"trailers"), (b"b", b"2")],
            [(b"host", b"a.test"), (b"connection", b"a"), (b"te", b"trailers"), (b"b", b"2")],
        ),
        ([(b"b", b"1"), (b"upgrade", b"foo"), (b"c", b"2")], None),
        ([[b"b", b"1"]], None),
    ],
)
def test_the_app_s_headers_are_those_that_were_judged(came: Any, gets: list[tuple[bytes, bytes]] | None) -> None:
    scope = a_scope(*came)
    found = scope_for(scope, http_of(scope))
    if gets is None:
        assert found is scope
    else:
        assert found == scope | {"headers": gets}


def test_the_app_gets_the_path_of_a_target_that_names_the_host() -> None:
    scope = a_scope(path="http://a.test/b", raw_path=b"http://a.test/b", query_string=b"c=d")
    read = {"path": "/b", "raw_path": b"/b", "query_string": b"c=d"}
    assert scope_for(scope, http_of(scope)) == scope | read
