"""Text from outside is escaped: it can't forge a line or control a terminal, and stays readable."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.errors import ConfigError, NotFoundError, UntrustedPeerError
from meshtls.printable import indented, json_line, printable, printable_json, printable_lines

# Including lone surrogates, which occur in file names.
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/usr/bin/grün 値", "/usr/bin/grün 値"),
        ("a\nb", r"a\nb"),
        ("\r\t\0\x7f", r"\r\t\x00\x7f"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x85\x9b1m", r"\x85\x9b1m"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u202e\u2066", r"\u202e\u2066"),
        ("\u200b\ufeff", r"\u200b\ufeff"),
        ("\ud800", r"\ud800"),
        ("\udcff", r"\xff"),
        ("\U000e0001", r"\U000e0001"),
        (b"/bin/\xe5\x80\xa4\xff\n", r"/bin/値\xff\n"),
        (b"\xc2\x85", r"\x85"),
        (r"C:\n", r"C:\n"),
    ],
)
def test_unprintable_characters_are_escaped(value: str | bytes, expected: str) -> None:
    assert printable(value) == expected


@given(ANY_TEXT | st.binary())
def test_any_value_becomes_one_printable_line_that_stays_as_it_is(value: str | bytes) -> None:
    text = printable(value)
    assert text.isprintable()
    assert text.encode("utf-8").decode("utf-8") == text
    assert printable(text) == text


@given(ANY_TEXT)
def test_lines_end_at_line_feeds_alone(text: str) -> None:
    lines = printable_lines(text)
    assert lines.count("\n") == text.count("\n")
    assert all(line.isprintable() for line in lines.split("\n"))


@given(st.recursive(ANY_TEXT | st.integers() | st.booleans() | st.none(), lambda one: st.dictionaries(ANY_TEXT, one)))
def test_a_json_line_has_all_but_printable_ascii_escaped(value: object) -> None:
    line = json_line({"value": value})
    assert line == json.dumps({"value": value}, separators=(",", ":"))
    assert line.isascii()
    assert line.isprintable()


@given(st.text())
def test_a_json_document_means_the_same(text: str) -> None:
    document = printable_json(json.dumps({"text": text}, ensure_ascii=False))
    assert document.isprintable()
    assert json.loads(document) == {"text": text}


def test_a_json_document_that_is_printable_stays_as_it_is() -> None:
    document = json.dumps({"grün": ["値", 1]}, ensure_ascii=False, indent=2)
    assert printable_json(document) == document


@pytest.mark.parametrize("kind", [NotFoundError, UntrustedPeerError])
def test_the_text_of_an_error_is_one_printable_line(kind: type[Exception]) -> None:
    assert str(kind("peer \x1b[2J\n2030-01-01 INFO meshtls: all is well")) == (
        r"peer \x1b[2J\n2030-01-01 INFO meshtls: all is well"
    )


def test_each_argument_of_an_error_is_one_line() -> None:
    assert str(NotFoundError("it can't be used:", *indented(["a\nb", "c\x9b"]))) == (
        "it can't be used:\n  a\\nb\n  c\\x9b"
    )
    assert str(NotFoundError()) == ""


def test_the_text_of_a_configuration_error_keeps_its_lines() -> None:
    assert str(ConfigError("a.yaml:\n  line 2:\x9b1m")) == "a.yaml:\n  line 2:\\x9b1m"
