"""Item 17 of the policy semantics: which client x-forwarded-for names, and what the app gets of it."""

from __future__ import annotations

import pytest

from meshtls.wire.xff import UNKNOWN, appended, client_of

NAME = "x-forwarded-for"


@pytest.mark.parametrize(
    ("lines", "proxies", "client"),
    [
        (["203.0.113.1"], 1, "203.0.113.1"),
        (["203.0.113.128, 203.0.113.10, 203.0.113.1"], 1, "203.0.113.1"),
        (["203.0.113.128, 203.0.113.10, 203.0.113.1"], 2, "203.0.113.10"),
        (["203.0.113.128, 203.0.113.10, 203.0.113.1"], 3, "203.0.113.128"),
        (["203.0.113.128,203.0.113.10", "\t203.0.113.1 "], 2, "203.0.113.10"),
        (["2001:DB8::1"], 1, "2001:db8::1"),
        (["anything, 203.0.113.1"], 1, "203.0.113.1"),
        (["203.0.113.1, anything"], 2, "203.0.113.1"),
    ],
)
def test_the_client_is_the_nth_address_from_the_right_over_all_lines(
    lines: list[str], proxies: int, client: str
) -> None:
    assert client_of(tuple((NAME, line) for line in lines), proxies) == client


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["203.0.113.1,"],
        ["203.0.113.1", ""],
        ["203.0.113.1:443"],
        ["[2001:db8::1]"],
        ["[2001:db8::1]:443"],
        ["fe80::1%eth0"],
        ['"203.0.113.1"'],
        ["203.0.113.01"],
        ["203.0.113"],
        ["3405803777"],
        ["0xcb007101"],
        ["203.0.113.1 203.0.113.2"],
        ["203.0.113.1;203.0.113.2"],
        ["203.0.113.\xb9"],
        ["unknown"],
        ["_hidden"],
        ["localhost"],
        ["203.0.113.0/24"],
        ["for=203.0.113.1"],
    ],
)
def test_an_entry_that_is_no_address_is_an_unknown_client(lines: list[str]) -> None:
    assert client_of(tuple((NAME, line) for line in lines), 1) == UNKNOWN


def test_too_few_addresses_are_an_unknown_client() -> None:
    headers = ((NAME, "203.0.113.10, 203.0.113.1"),)
    assert client_of(headers, 2) == "203.0.113.10"
    assert client_of(headers, 3) == UNKNOWN


def test_other_headers_name_no_client() -> None:
    headers = (("x_forwarded_for", "203.0.113.1"), ("forwarded", "for=203.0.113.1"), ("x-real-ip", "203.0.113.1"))
    assert client_of(headers, 1) == UNKNOWN


@pytest.mark.parametrize(
    ("came", "host", "gets"),
    [
        ([], "192.0.2.1", "192.0.2.1"),
        ([(NAME, "203.0.113.1")], "192.0.2.1", "203.0.113.1, 192.0.2.1"),
        ([(NAME, "203.0.113.1"), (NAME, "203.0.113.2")], "::1", "203.0.113.1,203.0.113.2, ::1"),
        ([(NAME, "")], "192.0.2.1", "192.0.2.1"),
        ([(NAME, "203.0.113.1"), (NAME, "")], "192.0.2.1", "203.0.113.1,, 192.0.2.1"),
        ([(NAME, "any thing")], "192.0.2.1", "any thing, 192.0.2.1"),
        ([("x_forwarded-for", "203.0.113.1")], "192.0.2.1", "192.0.2.1"),
        ([(NAME, "203.0.113.1")], "", "203.0.113.1, unknown"),
    ],
)
def test_the_app_gets_one_line_that_ends_with_where_the_connection_came_from(
    came: list[tuple[str, str]], host: str, gets: str
) -> None:
    headers = (("a", "1"), *came, ("b", "2"))
    assert appended(headers, host) == (("a", "1"), ("b", "2"), (NAME, gets))


def test_many_entries_cost_no_more_than_their_bytes() -> None:
    headers = ((NAME, "," * 65_000 + "203.0.113.2, 203.0.113.1"),)
    assert client_of(headers, 2) == "203.0.113.2"
    assert client_of(headers, 3) == UNKNOWN
