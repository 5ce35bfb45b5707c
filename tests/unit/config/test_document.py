"""Documents that are hostile, broken or silly: each gets one clear error, with a line where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.config.document import LARGEST, MOST_VALUES, Items, Section, Text, read_text, yaml_document
from meshtls.errors import ConfigError


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        yaml_document("f", text).problems.check()
    return str(refused.value)


# Ten of the one before, eight times: a hundred million values in 300 bytes.
BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))

SYNTAX = {
    "a bomb of aliases": (BOMB, f"wanted at most {MOST_VALUES} values with aliases expanded, got more"),
    "an alias within what it stands for": ("a: &a [*a]\n", "wanted at most 64 levels with aliases expanded, got more"),
    "lists in lists": (f"a: {'[' * 100_000}", "f, line 1: wanted a YAML document: nested deeper than 64 levels"),
    "mappings in mappings": (
        "a:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 500)),
        "f, line 65: wanted a YAML document: nested deeper than 64 levels",
    ),
    "a tab": ("a:\n\tb: c\n", "f, line 2: wanted a YAML document: a tab, where YAML allows only spaces"),
    "a control character": (
        "a: b\nc: \x00\n",
        "f, line 2: wanted a YAML document: the character U+0000 is not allowed",
    ),
    "an alias of nothing": ("a: b\nc: *d\n", "f, line 2: wanted a YAML document: found undefined alias 'd'"),
    "two documents": (
        "a: b\n---\nc: d\n",
        "f, line 2: wanted a YAML document: expected a single document in the stream",
    ),
    "a quote without an end": ('a: b\nc: "d\n', "f, line 3: wanted a YAML document: while scanning a quoted scalar"),
    "a list that goes on": ("a: [b\n", "f, line 2: wanted a YAML document: while parsing a flow sequence"),
    "no document": ("# nothing\n", "f: wanted keys with values, got an empty file"),
    "a text": ("nothing\n", "f, line 1: the file: wanted keys with values, got 'nothing'"),
    "a list": ("- a\n", "f, line 1: the file: wanted keys with values, got a list"),
    "too much of it": ("# " + "x" * LARGEST, f"f: wanted a configuration of at most {LARGEST} bytes, got more"),
}


@pytest.mark.parametrize(("text", "message"), SYNTAX.values(), ids=SYNTAX)
def test_a_document_that_cannot_be_read_is_refused_with_its_line(text: str, message: str) -> None:
    assert message in refusal(text)
    assert "\n" not in refusal(text)


def test_duplicate_and_malformed_keys_are_all_reported() -> None:
    text = "a: 1\nb: {c: 1, c: 2}\na: 2\n[x]: 3\na: 3\nd: !!python/object:os.system x\ne: !secret y\n"
    assert refusal(text).splitlines() == [
        "f, line 2: b.c: wanted each key once, got it again",
        "f, line 3: a: wanted each key once, got it again",
        "f, line 4: the file: wanted a plain word as key, got a list or keys with values",
        "f, line 5: a: wanted each key once, got it again",
        "f, line 6: d: wanted a value without a tag, got 'tag:yaml.org,2002:python/object:os.system'",
        "f, line 7: e: wanted a value without a tag, got '!secret'",
    ]


def test_a_hundred_problems_are_listed_and_the_rest_counted() -> None:
    told = refusal("".join("a: 1\n" for _ in range(103))).splitlines()
    assert (len(told), told[99:]) == (
        101,
        ["f, line 101: a: wanted each key once, got it again", "and 2 more problems"],
    )


def test_a_key_of_any_characters_forges_no_line() -> None:
    told = refusal('"x\\nmeshtls: forged\\e[31m": 1\n"x\\nmeshtls: forged\\e[31m": 2\n')
    assert told == r"f, line 2: 'x\nmeshtls: forged\x1b[31m': wanted each key once, got it again"
    long = f'"{"k" * 900}"'
    assert len(refusal(f"{long}: 1\n{long}: 2\n")) < 200


def test_values_are_texts_with_their_lines_and_paths() -> None:
    root = yaml_document("f", "a: 1.30\nb:\n  - yes\n  - {c: 0x10}\n").root
    assert isinstance(first := root.keys["a"], Text)
    assert (first.text, str(first.place)) == ("1.30", "f, line 1: a")
    assert isinstance(items := root.keys["b"], Items)
    assert isinstance(inner := items.items[1], Section)
    assert isinstance(last := inner.keys["c"], Text)
    assert (last.text, str(last.place)) == ("0x10", "f, line 4: b[1].c")


def test_a_yaml_alias_is_its_value_wherever_it_stands() -> None:
    root = yaml_document("f", "a: &x [1]\nb: *x\n").root
    assert [str(node.place) for node in root.keys.values()] == ["f, line 1: a", "f, line 2: b"]


def test_json_is_read_with_tabs_between_its_tokens() -> None:
    root = yaml_document("f", '{\n\t"a":\t"b\\/\\u00e9",\n\t"c": [1,2]\n}').root
    assert isinstance(text := root.keys["a"], Text)
    assert (text.text, text.place.line) == ("b/é", 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: b\nc: \xff\n", "{file}, line 2: wanted UTF-8, got the byte 0xff"),
        ("a: ä\n".encode("utf-16"), "{file}, line 1: wanted UTF-8, got the byte 0xff"),
        (b"a: \xc3\n", "{file}, line 1: wanted UTF-8, got the byte 0xc3"),
        (b"#" * (LARGEST + 1), f"{{file}}: wanted a configuration file of at most {LARGEST} bytes, got more"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "f"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        read_text(file)
    assert str(refused.value) == message.format(file=file)


def test_a_file_of_the_largest_size_and_one_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"#" * LARGEST)
    assert len(read_text(file)) == LARGEST
    file.write_bytes(b"\xef\xbb\xbfa: b\n")
    assert read_text(file) == "a: b\n"


def test_an_endless_file_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="wanted a configuration file of at most"):
        read_text(Path("/dev/zero"))


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wanted a configuration file to read: Is a directory"):
        read_text(tmp_path)
