"""What of /proc is read, and that a process's own choice of name can't bend it."""

from __future__ import annotations

import pytest

from meshtls.agent.attest.proc_text import Life, Owners, parse_stat, parse_status
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
    assert parse_stat(text) == life


@pytest.mark.parametrize("text", ["", "42 (web) S 1 2 3", f"42 (web) S {REST.replace('4711', 'x')}"])
def test_a_stat_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(AccessError, match=r"^/proc/PID/stat: wanted a state and a start time, got "):
        parse_stat(text)


STATUS = "Name:\tweb\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t24 27 \nVmPeak:\t 1 kB\n"


def test_status_gives_the_effective_user_and_group_and_the_supplementary_groups() -> None:
    assert parse_status(STATUS) == Owners(2, 6, (24, 27))
    assert parse_status(STATUS.replace("24 27 ", "")) == Owners(2, 6, ())


@pytest.mark.parametrize("missing", ["Uid", "Gid", "Groups"])
def test_a_status_without_one_of_them_is_refused(missing: str) -> None:
    with pytest.raises(AccessError, match="^/proc/PID/status: wanted Uid, Gid and Groups, got "):
        parse_status(STATUS.replace(missing, "Else"))
