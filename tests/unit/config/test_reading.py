"""Reading by declared keys: all problems of a file in one run, at every depth, and none of what is good."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
import pytest

from meshtls.config.document import yaml_document
from meshtls.config.keys import COUNT, FLAG, SECONDS, TEXT, Key
from meshtls.config.reading import Found, Rule, RuleProblems, read
from meshtls.errors import ConfigError


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, Key("Its name.", TEXT)]
    size: Annotated[int, Key("Its size.", COUNT, old=("length",))] = 1
    parts: Annotated[tuple[int, ...], Key("Its parts.", COUNT)] = ()


def _least_and_most(least: int, most: int) -> RuleProblems:
    if least > most:
        yield "most", f"wanted at least {least}, got {most}"


def _each_name_once(found: Found[Outer]) -> RuleProblems:
    seen = set()
    for place, name in found.every("many.name"):
        if name in seen:
            yield place, f"wanted each name once, got {name} again"
        seen.add(name)


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    least: Annotated[int, Key("The least.", COUNT)] = 1
    most: Annotated[int, Key("The most.", COUNT)] = 10
    on: Annotated[bool, Key("Whether.", FLAG)] = False
    wait: Annotated[float, Key("How long.", SECONDS)] = 1.0
    one: Annotated[Inner | None, Key("One.")] = None
    many: Annotated[tuple[Inner, ...], Key("Many.")] = ()
    not_a_key: int = 7

    RULES: ClassVar[tuple[Rule, ...]] = (_least_and_most, _each_name_once)


def refusal(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        read(yaml_document("f", text), Outer)
    assert list(refused.value.problems) == str(refused.value).splitlines()
    return list(refused.value.problems)


def test_a_good_file_gives_the_struct() -> None:
    text = "most: 4\non: true\nwait: 1m\none: {name: x, length: 2}\nmany: [{name: a}, {name: b, parts: [1, 2]}]\n"
    document = yaml_document("f", text)
    assert read(document, Outer).value == Outer(
        most=4,
        on=True,
        wait=60.0,
        one=Inner(name="x", size=2),
        many=(Inner(name="a"), Inner(name="b", parts=(1, 2))),
    )
    assert document.notices == ["f, line 4: one.length: this key was renamed to size; the old name still works"]


def test_all_problems_are_reported_in_one_run_in_line_order() -> None:
    text = """\
least: 5
most: 4
on: maybe
wait: [1s]
one: {size: 0, colour: red}
many:
  - {name: a, parts: [1, x, {}, -1, 99999999999]}
  - {name: a, parts: 3}
  - just a text
  - {name: , size: 1, length: 2}
  -
not_a_key: 8
"""
    assert refusal(text) == [
        "f, line 2: most: wanted at least 5, got 4",
        "f, line 3: on: wanted true or false, got 'maybe'",
        "f, line 4: wait: wanted a single value, got a list",
        "f, line 5: one.name: this key is required, and it is missing",
        "f, line 5: one.size: wanted a whole number from 1 to 10000000, got '0'",
        "f, line 5: one.colour: unknown key; wanted one of name, size, parts",
        "f, line 7: many[0].parts[1]: wanted a whole number from 1 to 10000000, got 'x'",
        "f, line 7: many[0].parts[2]: wanted a single value, got keys with values",
        "f, line 7: many[0].parts[3]: wanted a whole number from 1 to 10000000, got '-1'",
        "f, line 7: many[0].parts[4]: wanted a whole number from 1 to 10000000, got '99999999999'",
        "f, line 8: many[1].parts: wanted a list, got '3'",
        "f, line 8: many[1].name: wanted each name once, got a again",
        "f, line 9: many[2]: wanted keys with values, got 'just a text'",
        "f, line 10: many[3].name: wanted a single value, got nothing",
        "f, line 10: many[3].length: wanted only one of size and length, which are names of the same key",
        "f, line 11: many[4].name: this key is required, and it is missing",
        "f, line 12: not_a_key: unknown key; wanted one of least, most, on, wait, one, many",
    ]


def test_a_rule_is_not_applied_to_an_unreadable_value() -> None:
    assert refusal("least: 5\nmost: 4\n") == ["f, line 2: most: wanted at least 5, got 4"]
    assert refusal("least: x\nmost: 4\n") == ["f, line 1: least: wanted a whole number from 1 to 10000000, got 'x'"]


def test_a_section_of_comments_has_no_keys() -> None:
    assert refusal("one:\n  # name: x\n") == ["f, line 1: one.name: this key is required, and it is missing"]


@pytest.mark.parametrize("value", ["{}", "[]", "~", "[[]]", "{a: {b: [c]}}", "!!binary x"])
@pytest.mark.parametrize(
    "at", ["least: {}", "one: {{name: {}}}", "many: [{{name: a, parts: [{}]}}]", "one: {{parts: {}}}"]
)
def test_a_wrong_type_at_any_depth_is_reported_with_its_line(at: str, value: str) -> None:
    if at.startswith("one: {{parts") and value == "[]":
        value = "[x]"
    problems = refusal(f"on: true\n{at.format(value)}\n")
    assert problems
    assert all(one.startswith("f, line 2: ") for one in problems)
