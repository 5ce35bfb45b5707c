"""Paths with their identifiers replaced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.policy.istio.paths import Paths
from meshtls.policy.path_template import path_template


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/", "/"),
        ("/orders/4711", "/orders/{*}"),
        ("/orders/4711/", "/orders/{*}/"),
        ("/v1/orders", "/v1/orders"),
        ("/2024-01-31/report", "/{*}/report"),
        ("/u/6f9619ff-8b86-d011-b42d-00cf4fc964ff/x", "/u/{*}/x"),
        ("/c/deadbeef01", "/c/{*}"),
        ("/c/deadbeef", "/c/deadbeef"),
        ("/t/abcdefghijklmnopqrstuvw7", "/t/{*}"),
        ("/t/abcdefghijklmnopqrstuvwx", "/t/abcdefghijklmnopqrstuvwx"),
        ("/a*/4711", "/a*/4711"),
        ("/{x}/4711", "/{x}/4711"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_an_identifier_becomes_an_operator(path: str, template: str) -> None:
    assert path_template(path) == template


@given(
    st.lists(st.sampled_from(["", "a", "4711", "deadbeef01", "*", "a*", "{", "{*}", "x" * 23 + "1", "."]), max_size=6)
)
def test_a_template_matches_its_path(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    template = path_template(path)

    assert template == path or Paths([template]).matches(path)
