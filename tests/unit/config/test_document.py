"""Documents that are hostile, broken or silly: each gets one clear error, with a line where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from meshtls.config import document as module
from meshtls.config.document import (
    LARGEST,
    MOST_VALUES,
    Items,
    Nothing,
    Plain,
    Problems,
    Section,
    Text,
    read_text,
    yaml_document,
    yaml_documents,
)
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


def test_several_documents_have_their_lines_and_empty_ones_are_left_out() -> None:
    text = "---\n---\n# nothing\n---\na: 1\n...\n---\nb:\n  - 2\n"
    first, second = yaml_documents("f", text, Problems())
    assert [str(node.place) for node in (*first.root.keys.values(), *second.root.keys.values())] == [
        "f, line 5: a",
        "f, line 8: b",
    ]
    assert yaml_documents("f", "# nothing\n", Problems()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *[one for name, one in SYNTAX.items() if name not in ("two documents", "no document", "a bomb of aliases")],
        (BOMB, f"wanted at most {10_000 + 2 * len(BOMB)} values with aliases expanded, got more"),
        ("a: b\n---\nc: d: e\n", "f, line 3: wanted a YAML document: mapping values are not allowed here"),
        ("a: b\n---\n- c\n", "f, line 3: the file: wanted keys with values, got a list"),
        ("a: \ud800", "f, line 1: wanted a YAML document: the character U+D800 is not allowed"),
    ],
)
def test_several_documents_are_refused_as_one_is(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        yaml_documents("f", text, Problems())
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["a: &x [1, y]\nb: {c: *x, 'd': ~}\n---\ne: |\n  f\n", '{"a": [1, {"b": null}]}'])
def test_libyaml_and_the_parser_in_python_give_the_same_tree(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert yaml.__with_libyaml__
    fast = [one.root for one in yaml_documents("f", text, Problems())]
    monkeypatch.setattr(module, "_FastLoader", module._Loader)
    assert [one.root for one in yaml_documents("f", text, Problems())] == fast


def test_a_value_knows_whether_kubernetes_would_require_quotes() -> None:
    texts = {
        "80": Plain.NUMBER, "1.0": Plain.NUMBER, "0x10": Plain.NUMBER, "yes": Plain.FLAG, "true": Plain.FLAG,
        "'80'": Plain.TEXT, '"true"': Plain.TEXT, "v1": Plain.TEXT, "12:30": Plain.TEXT, "2026-01-31": Plain.TEXT,
    }  # fmt: skip
    for text, plain in texts.items():
        (one,) = yaml_documents("f", f"a: {text}", Problems())
        assert isinstance(value := one.root.keys["a"], Text)
        assert value.plain is plain, text
    (one,) = yaml_documents("f", "a: ~", Problems())
    assert isinstance(one.root.keys["a"], Nothing)


def test_problems_of_several_files_are_ordered_by_file_and_line() -> None:
    problems = Problems(most=3)
    (z,) = yaml_documents("z", "a: 1\n", problems)
    problems.add(z.root.keys["a"].place, "second")
    yaml_documents("b", "a: 1\na: 1\nb: 1\nb: 1\n", problems)
    problems.add(z.root.place, "third")
    with pytest.raises(ConfigError) as refused:
        yaml_documents("z", "[", problems)
    problems.add_unreadable("z", refused.value)
    with pytest.raises(ConfigError) as all_of_it:
        problems.check()
    assert all_of_it.value.problems == (
        "z, line 1: wanted a YAML document: while parsing a flow node,"
        " expected the node content, but found '<stream end>'",
        "z, line 1: a: second",
        "z, line 1: the file: third",
        "and 2 more problems",
    )
