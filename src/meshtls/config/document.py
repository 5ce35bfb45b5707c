"""A configuration file as a tree in which every node has its file, line and path. Pure, except for ``read_text``.

The tree is made from YAML's nodes, not from the values that YAML constructs. So each problem has a line, a duplicate
key is detected, and ``tls_min: 1.3`` is the text 1.3, not a float. Problems with keys are collected. What prevents
reading the file at all (bytes that are not text, a syntax error, a file that is too large) is raised immediately.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

import yaml

from meshtls.errors import ConfigError
from meshtls.regular_files import open_regular
from meshtls.scalars import shown

__all__ = [
    "DEEPEST",
    "LARGEST",
    "MOST_VALUES",
    "Document",
    "Items",
    "Node",
    "Nothing",
    "Place",
    "Plain",
    "Problems",
    "Section",
    "Text",
    "compose",
    "described",
    "document_of",
    "read_text",
    "yaml_document",
    "yaml_documents",
]

T = TypeVar("T")

#: Levels of nested lists and mappings. Our files have fewer than twelve; readers recurse once per level.
DEEPEST = 64
#: Bytes of a file. YAML is parsed at about 100 kB per second; 1 MiB is enough for some 10,000 identities.
LARGEST = 1 << 20
#: Values of a document with its aliases expanded: a few lines of nested aliases can expand to billions.
MOST_VALUES = 200_000
#: Values of a text with several documents: these, and two for each character, so that only aliases can exceed it.
_VALUES_OF_ALIASES = 10_000
_MOST_PROBLEMS = 100
_LONGEST_MESSAGE = 2000
_SHOWN = 60
_BOOL, _FLOAT, _INT, _NULL = (f"tag:yaml.org,2002:{one}" for one in ("bool", "float", "int", "null"))
#: The tags that YAML infers for a value without a tag. ``<<`` is an ordinary key here.
_IMPLICIT = frozenset(
    f"tag:yaml.org,2002:{one}"
    for one in ("bool", "float", "int", "map", "merge", "null", "seq", "str", "timestamp", "value")
)


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a value: its file, its line (from 1), and its path, empty for the document itself."""

    file: str
    line: int
    path: str

    def below(self, name: str) -> Place:
        """The place of a key of this name in this section."""
        # Paths are logged, and a key may contain any character and be as long as the file.
        plain = name if name.isprintable() and len(name) <= _SHOWN else shown(name)
        return Place(self.file, self.line, f"{self.path}.{plain}" if self.path else plain)

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.path or 'the file'}"


class Plain(Enum):
    """The type that YAML gives a value without quotes. A quoted one is TEXT."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "true or false"


@dataclass(frozen=True, slots=True)
class Text:
    """A single value, as written in the file. ``plain`` is for readers that require quotes where Kubernetes does."""

    place: Place
    text: str
    plain: Plain = Plain.TEXT


@dataclass(frozen=True, slots=True)
class Nothing:
    """A key without a value."""

    place: Place


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Keys with values."""

    place: Place
    keys: Mapping[str, Node] = field(default_factory=dict)

    def where(self, name: str) -> Place:
        """The place of this key, even if the key is missing."""
        return self.keys[name].place if name in self.keys else self.place.below(name)


Node = Text | Nothing | Items | Section


class Problems:
    """The problems of one or more files, collected to be raised as one error. ``most`` are listed, the rest counted."""

    def __init__(self, most: int = _MOST_PROBLEMS) -> None:
        self._found: dict[str, tuple[int, int]] = {}
        self._files: dict[str, int] = {}
        self._most = most

    def add(self, place: Place, message: str) -> None:
        """Add a problem. The same problem is kept once, since an aliased value is read several times."""
        short = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}..."
        self._found.setdefault(f"{place}: {short}", (self._number(place.file), place.line))

    def add_unreadable(self, file: str, error: ConfigError) -> None:
        """Add what prevents reading this file at all. Its text names the file."""
        for one in error.problems:
            self._found.setdefault(one, (self._number(file), 0))

    def _number(self, file: str) -> int:
        return self._files.setdefault(file, len(self._files))

    def __bool__(self) -> bool:
        return bool(self._found)

    def check(self) -> None:
        """Raise ConfigError with all problems, ordered by file and line, if there are any."""
        told = sorted(self._found, key=lambda one: self._found[one])
        if len(told) > self._most:
            told[self._most :] = [f"and {len(told) - self._most} more problems"]
        if told:
            raise ConfigError(*told)


@dataclass(slots=True)
class Document:
    """A file's tree, its problems, and ``notices`` for the operator, which are not problems."""

    root: Section
    problems: Problems = field(default_factory=Problems)
    notices: list[str] = field(default_factory=list)

    def notice(self, place: Place, message: str) -> None:
        self.notices.append(f"{place}: {message}")


def read_text(path: Path, largest: int = LARGEST) -> str:
    """A file's text, without a byte order mark. Raises ConfigError for a file that is not UTF-8, or too large."""
    try:
        with open_regular(path) as file:
            content = file.read(largest + 1)
    except OSError as error:
        raise ConfigError(f"{path}: wanted a configuration file to read: {error.strerror or error}") from error
    if len(content) > largest:
        raise ConfigError(f"{path}: wanted a configuration file of at most {largest} bytes, got more")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: wanted UTF-8, got the byte 0x{content[error.start]:02x}") from error


def yaml_document(file: str, text: str) -> Document:
    """Parse YAML or JSON; ``file`` is the file's name in messages. Raises ConfigError."""
    return document_of(file, compose(file, text))


def yaml_documents(file: str, text: str, problems: Problems, largest: int = LARGEST) -> list[Document]:
    """Parse the YAML documents of a text, or one of JSON; empty ones are left out. They share ``problems``.

    libyaml is used where it is installed: it is ten times as fast. Raises ConfigError for a text that can't be read,
    is longer than ``largest`` characters, or has a document that is not a mapping.
    """
    text = _prepared(file, text, largest)
    nodes = _parsed(file, text, 1, _compose_all)
    conversion = _Conversion(file, 1, problems, _VALUES_OF_ALIASES + 2 * len(text))
    found = []
    for node in nodes:
        root = conversion.node(node, Place(file, conversion.line(node), ""))
        if isinstance(root, Section):
            found.append(Document(root, problems))
        elif not isinstance(root, Nothing):
            raise ConfigError(f"{root.place}: wanted keys with values, got {described(root)}")
    return found


def compose(file: str, text: str, first_line: int = 1) -> yaml.Node:
    """The YAML nodes of a text that begins at this line of the file. Raises ConfigError."""
    node = _parsed(
        file, _prepared(file, text, LARGEST), first_line, lambda content: yaml.compose(content, Loader=_Loader)
    )
    if node is None:
        raise ConfigError(f"{file}: wanted keys with values, got an empty file")
    return node


def _prepared(file: str, text: str, largest: int) -> str:
    text = text.removeprefix("\ufeff")
    if len(text) > largest:
        raise ConfigError(f"{file}: wanted a configuration of at most {largest} bytes, got more")
    if text.lstrip().startswith("{"):
        # Valid JSON is YAML, except that it allows tabs, and only between tokens.
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(text)
            text = text.replace("\t", " ")
    return text


def _parsed(file: str, text: str, first_line: int, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + first_line
        found = f"the character U+{ord(text[error.position]):04X} is not allowed"
        raise ConfigError(f"{file}, line {line}: wanted a YAML document: {found}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}, line {mark.line + first_line}" if mark else file
        words = ", ".join(part for part in (error.context, error.problem) if part)
        if "'\\t'" in words:
            words = "a tab, where YAML allows only spaces"
        raise ConfigError(f"{where}: wanted a YAML document: {words}") from error


def _compose_all(text: str) -> list[yaml.Node]:
    # libyaml reports a forbidden character by its place among bytes, and Python can't encode all of them.
    yaml.reader.Reader(text)
    with contextlib.suppress(yaml.YAMLError):
        return list(yaml.compose_all(text, Loader=_FastLoader))
    # The messages of PyYAML's own parser are better. libyaml's counts if only that one fails.
    list(yaml.compose_all(text, Loader=_Loader))
    return list(yaml.compose_all(text, Loader=_FastLoader))


def document_of(file: str, node: yaml.Node, first_line: int = 1) -> Document:
    """The document of YAML nodes, also another parser's. Raises ConfigError if it is too large or not a mapping."""
    conversion = _Conversion(file, first_line, Problems(), MOST_VALUES)
    root = conversion.node(node, Place(file, conversion.line(node), ""))
    if not isinstance(root, Section):
        raise ConfigError(f"{root.place}: wanted keys with values, got {described(root)}")
    return Document(root, conversion.problems)


def described(node: Node) -> str:
    """A description of a value, for a message."""
    match node:
        case Text(text=text):
            return shown(text)
        case Nothing():
            return "nothing"
        case Items():
            return "a list"
        case Section():
            return "keys with values"


class _Conversion:
    def __init__(self, file: str, first_line: int, problems: Problems, most: int) -> None:
        self.problems = problems
        self._file = file
        self._first_line = first_line
        self._most = most
        self._values = 0

    def line(self, node: yaml.Node) -> int:
        return int(node.start_mark.line) + self._first_line

    def node(self, node: yaml.Node, place: Place, depth: int = 0) -> Node:
        self._values += 1
        if self._values > self._most or depth > DEEPEST:
            # This also ends the expansion of an alias that contains itself.
            limit = f"{self._most} values" if depth <= DEEPEST else f"{DEEPEST} levels"
            raise ConfigError(f"{place}: wanted at most {limit} with aliases expanded, got more")
        if node.tag not in _IMPLICIT:
            self.problems.add(place, f"wanted a value without a tag, got {shown(node.tag)}")
        if isinstance(node, yaml.MappingNode):
            return Section(place, dict(self._pairs(node, place, depth)))
        if isinstance(node, yaml.SequenceNode):
            return Items(
                place,
                tuple(
                    self.node(item, Place(self._file, self.line(item), f"{place.path}[{index}]"), depth + 1)
                    for index, item in enumerate(node.value)
                ),
            )
        return Nothing(place) if node.tag == _NULL else Text(place, node.value, _plain(node))

    def _pairs(self, node: yaml.MappingNode, place: Place, depth: int) -> Iterator[tuple[str, Node]]:
        seen = set()
        for name, value in node.value:
            here = Place(self._file, self.line(name), place.path)
            if not isinstance(name, yaml.ScalarNode):
                self.problems.add(here, "wanted a plain word as key, got a list or keys with values")
                continue
            here = here.below(name.value)
            if name.value in seen:
                self.problems.add(here, "wanted each key once, got it again")
                continue
            seen.add(name.value)
            yield name.value, self.node(value, here, depth + 1)


def _plain(node: yaml.Node) -> Plain:
    if node.tag == _BOOL:
        return Plain.FLAG
    # Only YAML 1.1 reads 12:30 as a number, of base 60; Kubernetes does not.
    return Plain.NUMBER if node.tag in (_INT, _FLOAT) and ":" not in node.value else Plain.TEXT


class _Shallow(yaml.composer.Composer):
    """Refuses a document that is nested deeper than ``DEEPEST``, before the parser recurses that deep."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth > DEEPEST:
            mark = parent.start_mark if parent else None
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {DEEPEST} levels", mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Loader(_Shallow, yaml.SafeLoader):
    pass


if yaml.__with_libyaml__:

    class _FastLoader(_Shallow, yaml.CSafeLoader):
        """libyaml's events, composed in Python: libyaml's composer recurses in C, without a limit."""

        def __init__(self, stream: str) -> None:
            yaml.CSafeLoader.__init__(self, stream)
            yaml.composer.Composer.__init__(self)
else:
    _FastLoader = _Loader  # type: ignore[assignment,misc]
