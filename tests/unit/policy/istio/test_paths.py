"""Paths: normalized in each mode as Envoy does it, and matched in linear time."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.errors import RequestError
from meshtls.policy.istio.model import Normalization
from meshtls.policy.istio.paths import Template, normalize
from tests.unit.policy.istio.making import compiled

NONE, BASE, MERGE, DECODE = Normalization

#: Path, and what BASE, MERGE_SLASHES and DECODE_AND_MERGE_SLASHES make of it.
NORMALIZED = {
    "/a/b": ("/a/b", "/a/b", "/a/b"),
    "/a/../b": ("/b", "/b", "/b"),
    "/a/./b": ("/a/b", "/a/b", "/a/b"),
    "/a/..": ("/", "/", "/"),
    "/a/.": ("/a/", "/a/", "/a/"),
    "/..": ("/", "/", "/"),
    "/../../a": ("/a", "/a", "/a"),
    "/a/%2e%2E/b": ("/b", "/b", "/b"),
    "/a/.%2e/b": ("/b", "/b", "/b"),
    "/a/...": ("/a/...", "/a/...", "/a/..."),
    "/a/..;x/b": ("/b", "/b", "/b"),
    "/a/..;": ("/", "/", "/"),
    "/a/.;x;y/b": ("/a/b", "/a/b", "/a/b"),
    "/a/%2e.;x/b": ("/b", "/b", "/b"),
    "/a/b\\..;x/c": ("/a/c", "/a/c", "/a/c"),
    "/a/..;b\\c": ("/", "/", "/"),
    "/a/..;%2Fb": ("/", "/", "/b"),
    "/a/..%3B/b": ("/a/..%3B/b", "/a/..%3B/b", "/a/..%3B/b"),
    "/a/...;x/.b;x/;../c;..": ("/a/...;x/.b;x/;../c;..", "/a/...;x/.b;x/;../c;..", "/a/...;x/.b;x/;../c;.."),
    "/.a": ("/.a", "/.a", "/.a"),
    "/%61dmin": ("/admin", "/admin", "/admin"),
    "/%7euser": ("/~user", "/~user", "/~user"),
    "/a%2eb": ("/a.b", "/a.b", "/a.b"),
    "/%3Fa": ("/%3Fa", "/%3Fa", "/%3Fa"),
    "/%c3%a9": ("/%c3%a9", "/%c3%a9", "/%c3%a9"),
    "/\xe9": ("/%E9", "/%E9", "/%E9"),
    "/a b": ("/a%20b", "/a%20b", "/a%20b"),
    "/{a}|<b>": ("/%7Ba%7D%7C%3Cb%3E", "/%7Ba%7D%7C%3Cb%3E", "/%7Ba%7D%7C%3Cb%3E"),
    "/a//b": ("/a//b", "/a/b", "/a/b"),
    "//": ("//", "/", "/"),
    "//a//": ("//a//", "/a/", "/a/"),
    "/a//../b": ("/a/b", "/a/b", "/a/b"),
    "/a%2Fb": ("/a%2Fb", "/a%2Fb", "/a/b"),
    "/a%2f%2fb": ("/a%2f%2fb", "/a%2f%2fb", "/a/b"),
    "/a\\b": ("/a/b", "/a/b", "/a/b"),
    "/a%5cb": ("/a%5cb", "/a%5cb", "/a/b"),
    "/x/..%2Fadmin": ("/x/..%2Fadmin", "/x/..%2Fadmin", "/admin"),
    "/x/..%5C..%5Cadmin": ("/x/..%5C..%5Cadmin", "/x/..%5C..%5Cadmin", "/admin"),
    "/%252e%252e/a": ("/%252e%252e/a", "/%252e%252e/a", "/%252e%252e/a"),
    "/%%300": ("/%2500", "/%2500", "/%2500"),
    "/%%30%30": ("/%2500", "/%2500", "/%2500"),
    "/%4%31": ("/%2541", "/%2541", "/%2541"),
    "/%%61z": ("/%az", "/%az", "/%az"),
    "/\u0100": ("/%C4%80", "/%C4%80", "/%C4%80"),
    "/%zz%": ("/%zz%", "/%zz%", "/%zz%"),
    "/a?b=/../c//%61": ("/a?b=/../c//%61", "/a?b=/../c//%61", "/a?b=/../c//%61"),
    "a/b": ("/a/b", "/a/b", "/a/b"),
    "*": ("*", "*", "*"),
    "": ("", "", ""),
}


@pytest.mark.parametrize("path", NORMALIZED)
def test_item_20_a_path_is_normalized(path: str) -> None:
    assert tuple(normalize(path, how) for how in (BASE, MERGE, DECODE)) == NORMALIZED[path]
    assert normalize(path, NONE) == path


@pytest.mark.parametrize("how", Normalization)
@pytest.mark.parametrize("path", ["/a%00", "/a\0", "/%00?x", "/a#b", "/a?b#c"])
def test_item_20_a_path_with_nul_or_a_fragment_is_refused(path: str, how: Normalization) -> None:
    with pytest.raises(RequestError, match=r"^path .*: wanted no (NUL|fragment)"):
        normalize(path, how)
    normalize(path.replace("%00", "").replace("\0", "").replace("#", ""), how)


@given(st.text(alphabet="/.%2eEfF5cC\\aA30?é; ", max_size=24), st.sampled_from((BASE, MERGE, DECODE)))
def test_a_normalized_path_is_plain_and_has_no_dot_segment(path: str, how: Normalization) -> None:
    try:
        found = normalize(path, how)
    except RequestError:
        return
    before_query = found.partition("?")[0]
    assert before_query.isascii()
    assert before_query.startswith("/") or path == ""
    assert not {".", ".."} & {one.partition(";")[0] for one in before_query.split("/")}
    assert "//" not in before_query or how is BASE
    # What it decodes to is not hidden any more: the escapes that remain are of other characters.
    if how is not DECODE:
        assert normalize(found, how) == found


@given(st.text(max_size=60), st.sampled_from(Normalization))
def test_normalization_raises_nothing_else(path: str, how: Normalization) -> None:
    with contextlib.suppress(RequestError):
        normalize(path, how)


def test_policies_normalize_as_the_mesh_says() -> None:
    assert compiled().normalize("/a/../b//c") == "/b//c"


TEMPLATES = {
    ("/{*}", "/a"): True,
    ("/{*}", "/"): False,
    ("/{*}", "/a/"): False,
    ("/{*}/", "/a/"): True,
    ("/{*}/{**}", "/a/"): True,
    ("/{*}/{**}", "/a"): False,
    ("/{*}/{**}", "/a/b/c"): True,
    ("/{**}/end", "/a/end"): True,
    ("/{**}/end", "//end"): True,
    ("/{**}/end", "/end"): False,
    ("/{**}/end", "/a/bend"): False,
    ("/a.c/{*}", "/abc/x"): False,
}


@pytest.mark.parametrize(("pattern", "path"), TEMPLATES)
def test_item_19_a_template_matches_whole_segments(pattern: str, path: str) -> None:
    assert Template(pattern).matches(path) is TEMPLATES[pattern, path]


@pytest.mark.parametrize(
    "pattern", ["/{*}.txt", "/a{*}", "/*/x/{*}", "/{**}/{*}", "/{**}/{**}", "/a{**}", "/{**}b", "/{x}/{*}"]
)
def test_item_19_an_invalid_template_is_an_error(pattern: str) -> None:
    with pytest.raises(RequestError, match=r"^path template '.*': wanted each \{\*\} and \{\*\*\} to be a segment"):
        Template(pattern)
