"""Untrusted JSON: text that Python's parser accepts too, and text that only Python's parser accepts."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from meshtls.json_text import DEEPEST_JSON, read_json


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        " [1, -2.5e3, true, null] ",
        '{"a": {"b": 1}, "c": {"b": 1}}',
        '"\\ud83d\\ude00"',
        '"[[[{{{\\"["',
        "1" * 64,
        "0.5",
    ],
)
def test_json_is_read_as_python_reads_it(text: str) -> None:
    assert read_json(text) == read_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xef\xbb\xbf{}", "Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)"),
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        ('{"a": 1, "a": 1}', "the member 'a' is there twice"),
        ('[{"a": 1, "\\u0061": 2}]', "the member 'a' is there twice"),
        ("NaN", "NaN is no number in JSON"),
        ("[Infinity]", "Infinity is no number in JSON"),
        ("-Infinity", "-Infinity is no number in JSON"),
        ("1e400", "the number 1e400 is too large or too long"),
        ("0." + "1" * 63, "the number 0.111111111111111111 is too large or too long"),
        ("1" * 65, "a number of 65 digits, more than 64"),
        ('["\\ud800"]', "'utf-8' codec can't encode character '\\ud800' in position 2: surrogates not allowed"),
        ('["\\uDFFF"]', "'utf-8' codec can't encode character '\\udfff' in position 2: surrogates not allowed"),
        ('{"\\udc00": 1}', "'utf-8' codec can't encode character '\\udc00' in position 2: surrogates not allowed"),
    ],
)
def test_json_that_only_some_parsers_accept_is_refused(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        read_json(text)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "a": 2}', {"a": 2}),
        (r'{"a": "\ud800", "b": 1}', {"a": "\ud800", "b": 1}),
        ('{"a": 1e999, "b": -1e999}', {"a": math.inf, "b": math.inf}),
        (f'{{"a": {"9" * 65}, "b": 1}}', {"a": math.inf, "b": 1}),
    ],
    ids=["two members of one name", "a lone surrogate", "a number beyond all floats", "a number of too many digits"],
)
def test_a_bad_part_is_left_to_its_reader_where_parts_are_contained(text: str, value: object) -> None:
    assert read_json(text, contained=True) == value
    with pytest.raises(ValueError):
        read_json(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"\\"":', "}]")])
def test_the_accepted_json_depth_does_not_depend_on_the_callers_stack(opening: str, closing: str) -> None:
    levels = DEEPEST_JSON // (opening.count("[") + opening.count("{"))

    def text(times: int) -> str:
        return opening * times + "1" + closing * times

    assert read_json(text(levels)) == json.loads(text(levels))
    for times in (levels + 1, 200_000):
        with pytest.raises(ValueError, match=f"nested deeper than {DEEPEST_JSON} levels"):
            read_json(text(times))


@pytest.mark.parametrize("text", ['"' + '\\"' * 500_000, "[]" * 500_000, '"' * 500_000, "{" * 500_000])
def test_a_long_text_that_is_no_json_is_refused(text: Any) -> None:
    with pytest.raises(ValueError):
        read_json(text)
