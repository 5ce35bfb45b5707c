"""The rulings of the smuggling table, fed whole, byte by byte, and in random cuts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.http import HttpRequest
from tests.unit.wire.http1.ends import App, Around, bytewise
from tests.unit.wire.http1.smuggling import CASES, Case

BY_NAME = {case.name: case for case in CASES}


def told(request: HttpRequest, body: bytes) -> str:
    return f"{request.method} {request.path} {request.host} {body.decode('latin-1')!r}"


def run(pieces: list[bytes]) -> Around:
    around = Around(app=App()).client(*pieces)
    # Every case ends with a whole request, or with one that is refused before it is whole.
    assert around.app is not None
    return around


def check(case: Case, around: Around) -> None:
    assert around.app is not None
    seen = around.app.seen
    assert (
        tuple(f"{one.method} {one.target} {one.host} {one.body.decode('latin-1')!r}" for one in seen) == case.forwarded
    )
    if case.status is None:
        assert around.statuses == [200] * len(seen)
        assert around.finished == (False, False)
    else:
        assert around.statuses == [200] * len(seen) + [case.status]
        assert around.finished == (True, True)


def test_the_table_has_each_name_once() -> None:
    assert len(BY_NAME) == len(CASES) >= 60


@pytest.mark.parametrize("name", BY_NAME)
def test_a_request_of_the_smuggling_table_is_ruled_as_it_says(name: str) -> None:
    case = BY_NAME[name]
    whole = run([case.raw])
    check(case, whole)
    check(case, run(bytewise(case.raw)))
    if not case.forwarded:
        assert whole.to_app == b""
        assert not whole.filter.wants_app


@given(st.sampled_from(CASES), st.lists(st.integers(0, 200), max_size=5).map(sorted))
def test_the_ruling_does_not_depend_on_where_the_bytes_are_cut(case: Case, cuts: list[int]) -> None:
    ends = [*cuts, len(case.raw)]
    check(case, run([case.raw[start:end] for start, end in zip([0, *cuts], ends, strict=True)]))
