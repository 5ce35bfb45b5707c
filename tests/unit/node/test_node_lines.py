"""Cutting bytes into lines."""

from hypothesis import given
from hypothesis import strategies as st

from meshtls.node.decode import LineCutter, Oversized

LIMIT = 8


def cut(*pieces: bytes) -> list[bytes | Oversized]:
    cutter = LineCutter(LIMIT)
    return [line for piece in pieces for line in cutter.feed(piece)] + list(cutter.finish())


def test_a_line_may_have_exactly_the_limit() -> None:
    assert cut(b"12345678\nab\n") == [b"12345678", b"ab"]


def test_a_line_over_the_limit_is_dropped_and_the_next_one_is_whole() -> None:
    assert cut(b"123456789\nab\n") == [Oversized.LINE, b"ab"]


def test_a_line_over_the_limit_is_reported_before_it_ends_and_once() -> None:
    cutter = LineCutter(LIMIT)

    assert list(cutter.feed(b"1234567890")) == [Oversized.LINE]
    assert list(cutter.feed(b"1234567890")) == []
    assert list(cutter.feed(b"x\nab")) == []
    assert list(cutter.finish()) == [b"ab"]


def test_a_last_line_needs_no_line_feed() -> None:
    assert cut(b"ab\ncd") == [b"ab", b"cd"]


@given(text=st.text("ab\n", max_size=80), cuts=st.lists(st.integers(1, 20), max_size=20))
def test_lines_do_not_depend_on_where_the_stream_was_cut(text: str, cuts: list[int]) -> None:
    data, pieces = text.encode(), []
    for length in cuts:
        pieces.append(data[:length])
        data = data[length:]

    expected = [Oversized.LINE if len(line) > LIMIT else line for line in text.encode().split(b"\n")]
    if expected[-1] == b"":
        expected.pop()
    assert cut(*pieces, data) == expected
