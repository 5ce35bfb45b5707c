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
        present = bool(mesh.server.prefix) if one.needs == "mounts" else shutil.which(one.needs) is not None
        require(one.needs, present, f"this machine or user has no {one.needs}")
    marks = marks_of(mesh, one.at)
    before = failures(mesh, one.at, one.outcome.name) if one.outcome is not None else 0.0
    with one.broken(mesh):
        if one.outcome is not None:
            outcome = one.outcome.name
            line = line_of(mesh, one, marks)
            assert line["reason"] in (one.outcome.value, one.outcome.of_request)
            story = explained(mesh, line["connection_id"])
            assert has_words(story, f"{outcome}: …{one.cause}"), story
            shows(mesh, line["connection_id"], f"{outcome}: …{one.cause}")
            until(lambda: failures(mesh, one.at, outcome) > before, lambda: f"no {outcome} is counted")
        else:
            log_names(mesh, one, marks)
        if one.metric is not None:
            until_sample(mesh, one.metric, holds=True)
        check_names(mesh, one)
    mesh.until_works()
    if one.metric is not None:
        until_sample(mesh, one.metric, holds=False)


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
    until(lambda: has_words(program.said(marks.err), one.cause), lambda: f"{one.at} logs {program.said(marks.err)}")


def check_names(mesh: Mesh, one: Breakage) -> None:
    found: list[str] = []

    def names() -> bool:
        found[:] = problems(checked(mesh, one.checked or one.at))
        wanted = one.cause if one.outcome is None else f"{one.outcome.name}: …{one.cause}"
        return any(has_words(line, wanted) for line in found)

    until(names, lambda: f"check finds {found}")


def until_sample(mesh: Mesh, wanted: Sample, *, holds: bool) -> None:
    def value() -> float | None:
        return sample(mesh, wanted.program, wanted.name, wanted.labels)

    until(lambda: (value() == wanted.value) is holds, lambda: f"{wanted} is {value()}, wanted {holds}")
