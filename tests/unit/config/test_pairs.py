"""A section of free keys: labels, for example."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from meshtls.config.document import yaml_document
from meshtls.config.keys import TEXT, Key
from meshtls.config.reading import read
from meshtls.config.schema import json_schema, markdown_table
from meshtls.errors import ConfigError


class File(msgspec.Struct, frozen=True, kw_only=True):
    labels: Annotated[tuple[tuple[str, str], ...], Key("The labels.", TEXT)] = ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("labels: {app: web, 'a/b': '1'}", (("app", "web"), ("a/b", "1"))),
        ("labels: {}", ()),
        ("labels:", ()),
        ("{}", ()),
    ],
)
def test_free_keys_are_read_in_their_order(text: str, wanted: tuple[tuple[str, str], ...]) -> None:
    assert read(yaml_document("a.yaml", text), File).value.labels == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: [app]", "a.yaml, line 1: labels: wanted keys with values, got a list"),
        ("labels: web", "a.yaml, line 1: labels: wanted keys with values, got 'web'"),
        ("labels: {app: {}}", "a.yaml, line 1: labels.app: wanted a single value, got keys with values"),
        ("labels: {app: ''}", "a.yaml, line 1: labels.app: wanted a word, got an empty text"),
        ("labels: {app: a, app: b}", "a.yaml, line 1: labels.app: wanted each key once, got it again"),
    ],
)
def test_invalid_free_keys_are_refused_with_their_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(yaml_document("a.yaml", text), File)
    assert str(raised.value) == message


def test_the_documentation_says_what_each_key_holds() -> None:
    assert "| `labels` | free keys, each with: text | none |" in markdown_table(File)
    schema: Any = json_schema(File, "f")["properties"]["labels"]
    assert (schema["type"], schema["additionalProperties"]["type"]) == (["object", "null"], "string")
