"""Reads a YAML file as sections whose every complaint says file, line and key. Pure.

The node tree is read, not the values that YAML makes of it: so each complaint has its line, a key given twice is seen,
and ``tls_min: 1.3`` is the text 1.3 and not a number that came close to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import yaml

from meshtls.errors import ConfigError, RequestError

__all__ = ["DEEPEST", "Section", "as_section", "composed", "read_yaml"]

T = TypeVar("T")
_MAP = "tag:yaml.org,2002:map"
_NULL = "tag:yaml.org,2002:null"
#: Levels of lists and mappings in one another. No file of ours has a dozen, and a reader calls itself for each.
DEEPEST = 64


class Section:
    """One mapping of the file. Take the keys out of it, then call ``finish``: what is left is unknown."""

    def __init__(self, file: str, path: str, node: yaml.Node) -> None:
        self._file = file
        self._path = path
        self._node = node
        self._taken: list[str] = []
        self._entries: dict[str, yaml.Node] = dict(self._pairs())

    def required(self, key: str, parse: Callable[[str], T]) -> T:
        """The value of ``key``; ``parse`` raises RequestError for a text that won't do. Raises ConfigError."""
        return self._parse(self._key(key), self._must(key), parse)

    def optional(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """The same, and ``default`` where the key is not there."""
        return self.required(key, parse) if self.has(key) else default

    def texts(self, key: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        """A list of scalars that has to be there; it may be empty."""
        items = self._items(key, self._must(key))
        return tuple(self._parse(f"{self._key(key)}[{place}]", item, parse) for place, item in enumerate(items))

    def section(self, key: str) -> Section | None:
        """The mapping under ``key``, None where the key is not there."""
        return Section(self._file, self._key(key), self._must(key)) if self.has(key) else None

    def part(self, key: str) -> Section:
        """The same, and one without keys where the key is not there."""
        return self.section(key) or Section(
            self._file, self._key(key), yaml.MappingNode(_MAP, [], self._node.start_mark)
        )

    def sections(self, key: str) -> Iterator[Section]:
        """The list of mappings under ``key``, none where the key is not there."""
        if self.has(key):
            for place, item in enumerate(self._items(key, self._must(key))):
                yield Section(self._file, f"{self._key(key)}[{place}]", item)

    def names(self) -> tuple[str, ...]:
        """All keys, in the file's order, where they are names of the user's."""
        return tuple(self._entries)

    def where(self, key: str) -> str:
        """File, line and key of this value, as a complaint begins."""
        return _where(self._file, self._entries.get(key, self._node), self._key(key))

    def notices(self, key: str, notice_of: Callable[[str], str]) -> Iterator[str]:
        """What is to be said of the value under ``key``, and where that stands; nothing where the key is not there."""
        if notice := self.optional(key, notice_of, ""):
            yield f"{self.where(key)}: {notice}"

    def has(self, key: str) -> bool:
        self._taken.append(key)
        return key in self._entries

    def finish(self) -> None:
        """Raise ConfigError for a key that nobody took."""
        for key, node in self._entries.items():
            if key not in self._taken:
                known = ", ".join(dict.fromkeys(self._taken))
                _complain(self._file, node, self._key(key), f"unknown key; wanted one of {known}")

    def complain(self, key: str, message: str) -> NoReturn:
        """Raise ConfigError about this key."""
        _complain(self._file, self._entries.get(key, self._node), self._key(key), message)

    def refuse(self, message: str) -> NoReturn:
        """Raise ConfigError about the section itself."""
        _complain(self._file, self._node, self._path, message)

    def _must(self, key: str) -> yaml.Node:
        if not self.has(key):
            self.complain(key, "this key is required, and it is missing")
        return self._entries[key]

    def _items(self, key: str, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self.complain(key, f"wanted a list, got {_shown(node)}")
        items: list[yaml.Node] = node.value
        return items

    def _parse(self, path: str, node: yaml.Node, parse: Callable[[str], T]) -> T:
        if not isinstance(node, yaml.ScalarNode) or node.tag == _NULL:
            _complain(self._file, node, path, f"wanted a single value, got {_shown(node)}")
        try:
            return parse(node.value)
        except RequestError as error:
            _complain(self._file, node, path, str(error))

    def _pairs(self) -> Iterator[tuple[str, yaml.Node]]:
        if not isinstance(self._node, yaml.MappingNode):
            what = self._path or "the file"
            _complain(self._file, self._node, what, f"wanted keys with values, got {_shown(self._node)}")
        seen = set()
        for name, value in self._node.value:
            if not isinstance(name, yaml.ScalarNode) or name.value in seen:
                _complain(self._file, name, self._key(str(name.value)), "wanted each key once, and a plain word as key")
            seen.add(name.value)
            yield name.value, value

    def _key(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key


def read_yaml(file: str, text: str) -> Section:
    """The top section of a YAML document; ``file`` is its name in messages. Raises ConfigError."""
    try:
        node = composed(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: wanted a YAML document: {error}") from error
    if node is None:
        raise ConfigError(f"{file}: wanted keys with values, got an empty file")
    return Section(file, "", node)


class _Loader(yaml.SafeLoader):
    """Refuses a document that is nested deeper than ``DEEPEST``."""

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


def composed(text: str) -> yaml.Node | None:
    """The node tree of a YAML document, None of an empty one. Raises yaml.YAMLError."""
    node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return node


def as_section(file: str, node: yaml.Node) -> Section:
    """The same reading of a node tree that another parser made."""
    return Section(file, "", node)


def _complain(file: str, node: yaml.Node, key: str, message: str) -> NoReturn:
    raise ConfigError(f"{_where(file, node, key)}: {message}")


def _where(file: str, node: yaml.Node, key: str) -> str:
    return f"{file}, line {node.start_mark.line + 1}: {key}"


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if node.tag == _NULL else repr(node.value)
    return "a list" if isinstance(node, yaml.SequenceNode) else "keys with values"
