"""The values shared by several files: the text of each is bounded before it is converted."""

from __future__ import annotations

from datetime import timedelta

import pytest

from meshtls.errors import RequestError
from meshtls.scalars import LONGEST, count_of, duration, port, size, whole_number


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1ms", 0.001),
        ("50ms", 0.05),
        ("90s", 90),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h0.5m10s", 3640),
        ("30m1h", 5400),
        ("876600h", LONGEST.total_seconds()),
    ],
)
def test_a_duration_is_read_as_go_writes_it(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


WANTED = "wanted a time above 0 such as 100ms, 5s, 5m or 1h30m"
AT_MOST = "wanted a time of at most 876600h, which is 100 years"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"{WANTED}, got ''"),
        ("5", f"{WANTED}, got '5'"),
        ("5 m", f"{WANTED}, got '5 m'"),
        ("-5m", f"{WANTED}, got '-5m'"),
        ("0s", f"{WANTED}, got '0s'"),
        ("0.9ms", f"{WANTED}, got '0.9ms'"),
        ("٣s", f"{WANTED}, got '٣s'"),
        ("1.h", f"{WANTED}, got '1.h'"),
        ("876600h1s", f"{AT_MOST}, got '876600h1s'"),
        ("9" * 400 + "s", f"{AT_MOST}, got '{'9' * 60}'... (401 characters)"),
        ("9" * 5000, f"{WANTED}, got '{'9' * 60}'... (5000 characters)"),
    ],
)
def test_a_duration_that_is_none_or_too_long_is_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        duration(text)
    assert str(refused.value) == message


def test_whole_numbers_and_ports_have_bounds() -> None:
    assert [whole_number(1, 7)(text) for text in ("1", "007")] == [1, 7]
    assert (port("0"), port("65535")) == (0, 65535)
    for text in ("0", "8", "-1", "1.0", "x", "", "²"):
        with pytest.raises(RequestError, match=f"^wanted a whole number from 1 to 7, got '{text}'$"):
            whole_number(1, 7)(text)
    with pytest.raises(RequestError, match=r"^wanted a port, 0 to 65535, got '1111111.*\(5000 characters\)$"):
        port("1" * 5000)


@pytest.mark.parametrize(
    ("text", "count"),
    [("65536", 1 << 16), ("64KiB", 1 << 16), ("16MiB", 1 << 24), ("1GiB", 1 << 30), ("1073741824", 1 << 30)],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, count: int) -> None:
    assert size(1 << 16, 1 << 30)(text) == count


@pytest.mark.parametrize("text", ["", "0", "65535", "63KiB", "2GiB", "1TiB", "1 MiB", "1.5MiB", "-1", "٣MiB", "9" * 30])
def test_an_invalid_or_out_of_bounds_size_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as refused:
        size(1 << 16, 1 << 30)(text)
    assert str(refused.value) == f"wanted a size from 64KiB to 1GiB such as 1GiB, got {text!r}"


@pytest.mark.parametrize(
    ("number", "many", "told"),
    [(0, "", "0 entrys"), (1, "", "1 entry"), (2, "entries", "2 entries"), (1, "entries", "1 entry")],
)
def test_a_count_has_its_noun_in_the_right_number(number: int, many: str, told: str) -> None:
    assert count_of(number, "entry", many) == told
