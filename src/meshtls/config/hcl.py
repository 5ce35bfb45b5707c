"""Parses SPIRE's configuration language, HCL version 1, into the same nodes as YAML. Pure.

SPIRE uses version 1. Python's HCL parsers are for version 2, and refuse quoted keys and commas, which version 1 allows.
This parser accepts the whole syntax of blocks, objects, lists and scalars. Heredocs and ``${...}`` are refused with
their line. A labelled block (``DataStore "sql" {``) is a mapping in a mapping, as in HCL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

import yaml

from meshtls.config.document import DEEPEST
from meshtls.errors import ConfigError

__all__ = ["looks_like_hcl", "read_hcl"]

_TOKEN = re.compile(
    r"""
      (?P<skip> [ \t\r\n]+ | \#[^\n]* | //[^\n]* | /\*.*?\*/ )
    | (?P<string> "(?:[^"\\\n]|\\.)*" )
    | (?P<number> -?[0-9]+(?:\.[0-9]+)?(?![A-Za-z0-9_]) )
    | (?P<word> [A-Za-z_][A-Za-z0-9_.-]* )
    | (?P<sign> [{}\[\]=,] )
    """,
    re.VERBOSE | re.DOTALL,
)
_END = "the end of the file"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_TEXT, _MAP, _LIST = "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"


def looks_like_hcl(text: str) -> bool:
    """Whether the text begins with a block, as no YAML document does."""
    tokens = (match for match in _matches(text) if match.lastgroup != "skip")
    first = next(tokens, None)
    after_labels = next((match for match in tokens if match.lastgroup != "string"), None)
    return bool(first and first.lastgroup == "word" and after_labels and after_labels[0] == "{")


def read_hcl(file: str, text: str, first_line: int = 1) -> yaml.MappingNode:
    """The nodes of this document, which begins at ``first_line`` of ``file``. Raises ConfigError with the line."""
    tokens = list(_tokens(file, text, first_line))
    depth = 0  # the parser recurses once per level
    for token in tokens:
        depth += (token.text in ("{", "[")) - (token.text in ("}", "]"))
        if depth > DEEPEST:
            _complain(file, token.line, f"wanted at most {DEEPEST} levels of nested blocks and lists, got more")
    return _Parser(file, tokens).document()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int

    @property
    def mark(self) -> yaml.Mark:
        return yaml.Mark("", 0, self.line - 1, 0, None, 0)

    def __str__(self) -> str:
        return self.text if self.kind == "end" else repr(self.text)


def _matches(text: str) -> Iterator[re.Match[str]]:
    """Each token and the space between tokens, up to the first character that is neither."""
    place = 0
    while match := _TOKEN.match(text, place):
        yield match
        place = match.end()


def _tokens(file: str, text: str, line: int) -> Iterator[_Token]:
    place = 0
    for match in _matches(text):
        if match.lastgroup != "skip":
            yield _Token(match.lastgroup or "", match[0], line)
        line += match[0].count("\n")
        place = match.end()
    if place < len(text):
        rest, _, _ = text[place : place + 20].partition("\n")
        _complain(file, line, f"wanted HCL, got {rest!r}")
    yield _Token("end", _END, line)


class _Parser:
    def __init__(self, file: str, tokens: list[_Token]) -> None:
        self._file = file
        self._tokens = tokens
        self._place = 0

    def document(self) -> yaml.MappingNode:
        return self._items(self._tokens[0], _END)

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *signs: str) -> _Token | None:
        token = self._next
        if signs and token.text not in signs:
            return None
        self._place += 1
        return token

    def _items(self, start: _Token, end: str) -> yaml.MappingNode:
        items = yaml.MappingNode(_MAP, [], start.mark)
        while self._next.text != end:
            self._item(items)
            self._take(",")
        self._place += 1
        return items

    def _item(self, items: yaml.MappingNode) -> None:
        keys = [self._key()]
        while self._next.kind in ("string", "word"):
            keys.append(self._key())
        target = items
        for label in keys[:-1]:
            # Labelled blocks with the same name share a mapping.
            for key, value in target.value:
                if key.value == label.value and isinstance(value, yaml.MappingNode):
                    inner = value
                    break
            else:
                inner = yaml.MappingNode(_MAP, [], label.start_mark)
                target.value.append((label, inner))
            target = inner
        if len(keys) == 1 and self._take("="):
            target.value.append((keys[-1], self._value()))
        elif opening := self._take("{"):
            target.value.append((keys[-1], self._items(opening, "}")))
        else:
            self._wanted("'=' and a value, or a block in braces")

    def _key(self) -> yaml.ScalarNode:
        if self._next.kind not in ("string", "word"):
            self._wanted("a key")
        return self._text()

    def _value(self) -> yaml.Node:
        if opening := self._take("{"):
            return self._items(opening, "}")
        if opening := self._take("["):
            values = []
            while not self._take("]"):
                values.append(self._value())
                if not self._take(",") and self._next.text != "]":
                    self._wanted("',' or ']'")
            return yaml.SequenceNode(_LIST, values, opening.mark)
        if self._next.kind not in ("string", "number") and self._next.text not in ("true", "false"):
            self._wanted("a value: a quoted string, a number, true, false, a list or an object")
        return self._text()

    def _text(self) -> yaml.ScalarNode:
        token = self._tokens[self._place]
        self._place += 1
        if token.kind != "string":
            return yaml.ScalarNode(_TEXT, token.text, token.mark)
        if "${" in token.text:
            _complain(self._file, token.line, f"wanted a plain string, got {token}; variables are not expanded")
        unquoted = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), token.text[1:-1])
        return yaml.ScalarNode(_TEXT, unquoted, token.mark)

    def _wanted(self, what: str) -> NoReturn:
        _complain(self._file, self._next.line, f"wanted {what}, got {self._next}")


def _complain(file: str, line: int, what: str) -> NoReturn:
    raise ConfigError(f"{file}, line {line}: {what}")
