"""A day in the life of a mesh: it is broken in many ways, and each surface names the true cause in the same words.

After each breakage it is mended, and seen to work again: the twin.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.day_in_the_life.breakage import Breakage, Sample, has_words
from tests.e2e.day_in_the_life.mesh import Mesh, running_mesh
from tests.e2e.day_in_the_life.programs import until
from tests.e2e.day_in_the_life.surfaces import (
    Marks,
    browsed,
    browsed_page,
    checked,
    ended,
    explained,
    failures,
    marks_of,
    problems,
    sample,
)
from tests.e2e.day_in_the_life.table import BREAKAGES, PAGE, with_table
from tests.support.require import require

#: Of a busy machine: each test waits for processes that start.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with running_mesh() as mesh:
        yield mesh


@pytest.mark.parametrize("one", BREAKAGES, ids=lambda one: one.name)
def test_every_surface_names_the_cause_and_the_mended_mesh_works(mesh: Mesh, one: Breakage) -> None:
    if one.needs:
        able = {"mounts": bool(mesh.server.prefix), "softhsm": mesh.hsm is not None}
        present = able.get(one.needs, shutil.which(one.needs) is not None)
        require(one.needs, present, f"this machine or user has no {one.needs}")
    marks = marks_of(mesh, one.at)
    before = failures(mesh, one.at, one.outcome.name) if one.outcome is not None else 0.0
    since = value_of(mesh, one.metric) or 0.0 if one.metric is not None else 0.0
    with one.broken(mesh):
        if one.outcome is not None:
            outcome = one.outcome.name
            line = line_of(mesh, one, marks)
            assert line["reason"] in (one.outcome.value, one.outcome.of_request)
            story = explained(mesh, line["connection_id"])
            assert has_words(story, one.words), story
            shows(mesh, line["connection_id"], one.words)
            until(lambda: failures(mesh, one.at, outcome) > before, lambda: f"no {outcome} is counted")
        else:
            log_names(mesh, one, marks)
            page_names(mesh, one)
        if one.metric is not None:
            until_sample(mesh, one.metric, since, holds=True)
        check_names(mesh, one)
    mesh.until_works()
    if one.metric is not None and one.metric.value is not None:
        until_sample(mesh, one.metric, since, holds=False)
    if one.outcome is None:
        until(lambda: not has_page_words(mesh, one), lambda: f"the dashboard still shows {one.cause}")


def test_the_troubleshooting_page_has_the_table_of_these_breakages() -> None:
    """`python -m tests.e2e.day_in_the_life.table` writes it."""
    page = PAGE.read_text("utf-8")
    assert page == with_table(page)


def line_of(mesh: Mesh, one: Breakage, marks: Marks) -> dict[str, Any]:
    """The line of the access log of the connection that failed."""
    assert one.outcome is not None
    outcome = one.outcome.name

    def found() -> list[dict[str, Any]]:
        lines = ended(mesh, one.at, marks)
        return [line for line in lines if line["outcome"] == outcome and has_words(line["detail"], one.cause)]

    until(
        lambda: bool(found()),
        lambda: (
            f"wanted {outcome}: {one.cause}; got"
            f" {[(line['outcome'], line['detail']) for line in ended(mesh, one.at, marks)]}"
        ),
    )
    return found()[-1]


def shows(mesh: Mesh, connection_id: str, words: str) -> None:
    """On the dashboard, which asks and follows the sidecars by itself."""
    until(
        lambda: has_words(browsed(mesh, connection_id), words),
        lambda: f"the dashboard shows {browsed(mesh, connection_id)}",
    )


def log_names(mesh: Mesh, one: Breakage, marks: Marks) -> None:
    program = mesh.programs[one.at]
    until(lambda: has_words(program.said(marks.err), one.words), lambda: f"{one.at} logs {program.said(marks.err)}")


def check_names(mesh: Mesh, one: Breakage) -> None:
    found: list[str] = []

    def names() -> bool:
        found[:] = problems(checked(mesh, one.checked or one.at))
        return any(has_words(line, one.words) for line in found)

    until(names, lambda: f"check finds {found}")


def page_names(mesh: Mesh, one: Breakage) -> None:
    """A page of the dashboard, which asks the processes and the server by itself."""
    until(lambda: has_page_words(mesh, one), lambda: f"the dashboard shows {browsed_page(mesh, one.page, one.at)}")


def has_page_words(mesh: Mesh, one: Breakage) -> bool:
    return has_words(browsed_page(mesh, one.page, one.at), one.page_words or one.cause)


def value_of(mesh: Mesh, wanted: Sample) -> float | None:
    return sample(mesh, wanted.program, wanted.name, wanted.labels)


def until_sample(mesh: Mesh, wanted: Sample, since: float, *, holds: bool) -> None:
    """``since`` is the value before the mesh was broken, above which a counter has to be."""

    def held() -> bool:
        value = value_of(mesh, wanted)
        return (value or 0.0) > since if wanted.value is None else value == wanted.value

    until(lambda: held() is holds, lambda: f"{wanted} is {value_of(mesh, wanted)}, wanted {holds}")
