"""The generator of mutants: its edits, and that the list of equivalent mutants names existing ones."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.edits import mutants_of
from tests.mutants.targets import EQUIVALENT, PACKAGE, TARGETS, Target

ROOT = PACKAGE.parents[1]


@pytest.mark.parametrize(
    ("line", "edits"),
    [
        ("return a < b", {"return a >= b", "return a <= b"}),
        ("return a is not None", {"return a is None"}),
        ("return a and b", {"return a or b"}),
        ("return not a", {"return not not a"}),
        ("return True", {"return False"}),
        ("return a if b else c", {"return c if b else a"}),
        ("raise ValueError(a == b)", {"pass"}),
        ("a.check(b)", {"pass"}),
        ("a.check(b.port)", {"pass", "a.check(None)"}),
        ("await a.check()", {"pass"}),
        ("a.count -= 1", {"pass", "a.count += 1"}),
        ("a.peer = b", {"pass"}),
        ("log.warning('%s', a.peer)", set()),
        ("return f'{a == b}'", set()),
        ("a = b", set()),
    ],
)
def test_each_kind_of_line_has_its_edits(line: str, edits: set[str]) -> None:
    async_def = 'async def f(self, a, b, c=True):\n    "text"\n    '

    found = {one.source.splitlines()[-1].strip() for one in mutants_of(async_def + line)}

    assert found == edits


def test_a_condition_without_an_operator_is_negated() -> None:
    found = {one.name: one.source for one in mutants_of("def f(a):\n    if a:\n        a.stop()")}

    assert set(found) == {"f: the contrary of `a`", "f: without `a.stop()`"}
    assert "if not a:" in found["f: the contrary of `a`"]


def test_reprs_have_no_mutants_and_a_nested_function_has_its_own_name() -> None:
    source = """
class A:
    def __repr__(self):
        return a == b

    def f(self):
        def g():
            return a == b
"""

    assert [one.name for one in mutants_of(source)] == ["A.f.g: the contrary of `a == b`"]


@pytest.mark.parametrize("target", TARGETS, ids=[target.file for target in TARGETS])
def test_every_mutant_differs_from_the_others_and_has_a_unique_name(target: Target) -> None:
    source = (PACKAGE / target.file).read_text("utf-8")
    found = mutants_of(source)

    assert found
    assert len({one.name for one in found}) == len(found)
    unchanged = "\n".join(map(ast.unparse, ast.parse(source).body))
    for one in found:
        ast.parse(one.source)
        assert one.source != unchanged


def test_targets_name_existing_tests_and_reasons_name_targets() -> None:
    for target in TARGETS:
        assert [test for test in target.tests if not (ROOT / test).exists()] == []
    assert set(EQUIVALENT) <= {target.file for target in TARGETS}


@pytest.mark.parametrize("file", EQUIVALENT)
def test_reasons_name_existing_mutants(file: str) -> None:
    reasons = EQUIVALENT[file]
    names = {one.name for one in mutants_of((PACKAGE / file).read_text("utf-8"))}
    assert set(reasons) <= names
    assert all(reasons.values())
