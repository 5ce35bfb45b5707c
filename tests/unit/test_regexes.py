"""No input makes a regular expression of the project take more than linear time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.regexes import Use, superlinear, uses

ROOT = Path(__file__).parents[2]
FILES = sorted(file for top in ("src", "bench", "examples", "tests") for file in (ROOT / top).rglob("*.py"))
#: An oracle writes Istio's own expressions down, and gets short texts that the tests make.
ORACLES = {ROOT / "tests/unit/policy/istio/slow_evaluator.py"}
USES = [one for file in FILES if file not in ORACLES for one in uses(file)]


@pytest.mark.parametrize("use", USES, ids=[str(Path(one.where).relative_to(ROOT)) for one in USES])
def test_a_regular_expression_takes_linear_time(use: Use) -> None:
    if not use.pattern:
        assert "/src/meshtls/" not in use.where, "wanted a literal pattern in the source"
        return
    assert superlinear(use.pattern, use.flags, anchored=use.anchored, whole=use.whole) is None


def test_the_patterns_of_the_package_are_found() -> None:
    assert len([one for one in USES if "/src/meshtls/" in one.where and one.pattern]) >= 12


@pytest.mark.parametrize(
    ("pattern", "kind"),
    [
        (r"(?:\s|\#[^\n]*|//[^\n]*)*[a-z]", "exponential"),
        ("(a*)*b", "exponential"),
        ("(a|a)*b", "exponential"),
        ("(a|ab|b)*c", "exponential"),
        ("(?:[a-z]+x?)+!", "exponential"),
        (r"(\w+\s?)+!", "exponential"),
        (r"\s*\s*x", "polynomial"),
        (r"[a-z]*[a-f0-9]*x", "polynomial"),
        (r".*=.*=", "polynomial"),
        (rb"BEGIN.+?END", "polynomial"),
    ],
)
def test_an_ambiguous_pattern_is_found(pattern: str | bytes, kind: str) -> None:
    assert str(superlinear(pattern, re.DOTALL, anchored=isinstance(pattern, str))).startswith(kind)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s))+",
        r'(?:"[^"\n]*"\s*)*\{',
        r"[a-z]+\s*=\s*[0-9]+",
        r"(?:a|b)*c",
        r"(?:a+b)*",
        r"[a-z]{2,500}",
    ],
)
def test_an_unambiguous_pattern_is_accepted(pattern: str) -> None:
    assert superlinear(pattern, anchored=True) is None


def test_an_unanchored_search_is_judged_from_every_start() -> None:
    assert superlinear(r"\d+x", anchored=True) is None
    assert str(superlinear(r"\d+x")).startswith("polynomial")
    assert superlinear(r"^\d+x") is None


def test_an_unanchored_end_is_judged_without_an_end() -> None:
    assert str(superlinear(r"nginx/\S*")).startswith("polynomial")
    assert superlinear(r"nginx/\S*", whole=False) is None
    assert str(superlinear(r"nginx/\S*$", whole=False)).startswith("polynomial")
