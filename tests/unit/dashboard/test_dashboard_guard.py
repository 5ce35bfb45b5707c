"""Whom the dashboard answers."""

from __future__ import annotations

import pytest

from meshtls.address import Address
from meshtls.dashboard.guard import POLICY, refused

BOUND = Address("127.0.0.1", 9000)


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "127.0.0.1:9000"},
        {"host": "localhost:9000"},
        {"host": "[::1]:9000"},
        {"host": "127.0.0.1:9000", "sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:9000"},
        {"host": "127.0.0.1:9000", "sec-fetch-site": "none"},
    ],
)
def test_a_request_for_the_listener_itself_is_answered(fields: dict[str, str]) -> None:
    assert refused(fields, BOUND) == ""


def test_a_browser_leaves_the_port_out_where_it_is_80() -> None:
    assert refused({"host": "localhost", "origin": "http://localhost"}, Address("127.0.0.1", 80)) == ""


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "Host: wanted 127.0.0.1:9000, got ''"),
        ({"host": "evil.example:9000"}, "Host: wanted 127.0.0.1:9000, got 'evil.example:9000'"),
        ({"host": "127.0.0.1:9001"}, "Host: wanted 127.0.0.1:9000, got '127.0.0.1:9001'"),
        ({"host": "127.0.0.1"}, "Host: wanted 127.0.0.1:9000, got '127.0.0.1'"),
        ({"host": "127.0.0.1.evil.example:9000"}, "Host: wanted 127.0.0.1:9000"),
        ({"host": "127.0.0.1:9000", "sec-fetch-site": "cross-site"}, "a request that another site caused is refused"),
        ({"host": "127.0.0.1:9000", "sec-fetch-site": "same-site"}, "a request that another site caused is refused"),
        ({"host": "127.0.0.1:9000", "origin": "http://evil.example"}, "a request that another site caused is refused"),
        ({"host": "127.0.0.1:9000", "origin": "http://127.0.0.1:1"}, "a request that another site caused is refused"),
        ({"host": "127.0.0.1:9000", "origin": "null"}, "a request that another site caused is refused"),
    ],
)
def test_a_request_that_another_site_caused_is_refused(fields: dict[str, str], why: str) -> None:
    assert refused(fields, BOUND).startswith(why)


@pytest.mark.parametrize("source", ["'unsafe-inline'", "'unsafe-eval'", "http:", "data:", "*"])
def test_the_policy_for_content_has_nothing_inline_and_nothing_from_elsewhere(source: str) -> None:
    assert source not in POLICY
