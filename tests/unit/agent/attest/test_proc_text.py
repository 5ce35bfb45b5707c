"""Parsing of /proc, which a process can't influence by its choice of name."""

from __future__ import annotations

import pytest

from meshtls.agent.attest.proc_text import Life, Owners, lines_of, parse_stat, parse_status, text_of
from meshtls.errors import AccessError

REST = "1 2 2 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 999 5 18446744073709551615"


@pytest.mark.parametrize(
    ("text", "life"),
    [
        (f"42 (web) S {REST}", Life(4711, True)),
        (f"42 (we b) S {REST}", Life(4711, True)),
        (f"42 (x) Z 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 1 (y) R {REST}", Life(4711, True)),
        (f"42 (web) Z {REST}", Life(4711, False)),
        (f"42 (web) X {REST}", Life(4711, False)),
    ],
    ids=["plain", "blank in the name", "a name that plays stat", "zombie", "dead"],
)
def test_stat_gives_start_time_and_whether_it_runs(text: str, life: Life) -> None:
    assert parse_stat(text.encode()) == life


@pytest.mark.parametrize("text", ["", "42 (web) S 1 2 3", f"42 (web) S {REST.replace('4711', 'x')}"])
def test_a_malformed_stat_is_refused(text: str) -> None:
    with pytest.raises(AccessError, match=r"^/proc/PID/stat: wanted a state and a start time, got "):
        parse_stat(text.encode())


STATUS = "Name:\tweb\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t24 27 \nVmPeak:\t 1 kB\n"


def test_status_gives_the_effective_user_and_group_and_the_supplementary_groups() -> None:
    assert parse_status(STATUS.encode()) == Owners(2, 6, (24, 27))
    assert parse_status(STATUS.replace("24 27 ", "").encode()) == Owners(2, 6, ())


@pytest.mark.parametrize("missing", ["Uid", "Gid", "Groups"])
def test_a_status_without_a_uid_or_gid_line_is_refused(missing: str) -> None:
    with pytest.raises(AccessError, match="^/proc/PID/status: wanted Uid, Gid and Groups, got "):
        parse_status(STATUS.replace(missing, "Else").encode())


@pytest.mark.parametrize("separator", ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028"], ids=repr)
def test_the_name_of_a_program_makes_no_line_of_its_status(separator: str) -> None:
    forged = separator.join(["web", "Uid:\t0\t0\t0\t0", "Gid:\t0\t0\t0\t0", "Groups:\t0", ""])
    assert parse_status(STATUS.replace("web", forged).encode()) == Owners(2, 6, (24, 27))
    with pytest.raises(AccessError):
        parse_status(f"Name:\t{forged}\n".encode())


def test_lines_end_at_the_line_feed_alone() -> None:
    assert lines_of(b"") == []
    assert lines_of(b"a\rb\x0bc\x85\n\nd") == [b"a\rb\x0bc\x85", b"", b"d"]
    assert lines_of(b"a\n") == [b"a"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("/opt/grün/値".encode(), "/opt/grün/値"),
        (b"/opt/\xff", None),
        (b"/opt/a\nb", None),
        (b"/opt/\x1b[2J", None),
        ("/opt/\u202e".encode(), None),
        ("/opt/\x9b".encode(), None),
        (b"\xed\xa0\x80", None),
    ],
)
def test_a_name_is_text_where_all_of_it_can_be_printed(name: bytes, text: str | None) -> None:
    assert text_of(name) == text
