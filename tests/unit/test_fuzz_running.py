"""The runner of fuzz targets counts inputs, and fails a target whose work grows faster than its input."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from tests.fuzz.running import documented, fuzzed, inputs_tried


def test_each_input_of_a_target_is_counted() -> None:
    seen: list[int] = []

    def target(number: int) -> None:
        seen.append(number)

    before = inputs_tried()
    fuzzed(target, st.integers(0, 1000))
    assert seen
    assert inputs_tried() - before == len(seen)


@pytest.mark.parametrize(("size", "passes"), [(100, True), (2000, False)])
def test_work_that_grows_with_the_square_of_the_input_fails(size: int, passes: bool) -> None:
    data = bytes(size)

    def read() -> int:
        return sum(abs(one) for one in data for _ in range(len(data) // 10))

    if passes:
        documented(read, size=size)
    else:
        with pytest.raises(AssertionError, match=r"\d+ calls for 2000 bytes"):
            documented(read, size=size)
