"""Reads a document into the struct whose fields declare its keys, and collects all problems. Pure.

A rule is a function that checks a constraint between keys. Its parameters are the names of fields, and it is called if
all of these could be read, even if there are problems elsewhere. A parameter ``found`` is the whole section, as far as
it could be read. A rule yields a pair for each problem: the key (or the Place) that it concerns, and the message.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from meshtls.config.document import Document, Items, Node, Nothing, Place, Section, Text, described
from meshtls.config.keys import KeyField, Shape, Value, keys_of
from meshtls.errors import RequestError

__all__ = ["Found", "Rule", "RuleProblems", "read", "read_section"]

S = TypeVar("S")
RuleProblems = Iterator[tuple[str | Place, str]]
Rule = Callable[..., Iterable[tuple[str | Place, str]]]


@dataclass(slots=True)
class Found(Generic[S]):
    """A section as far as it could be read: ``values`` (with defaults) and ``inner`` sections, by field."""

    section: Section
    kind: type[S]
    values: dict[str, Any] = field(default_factory=dict)
    inner: dict[str, list[Found[Any]]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def given(self) -> tuple[str, ...]:
        """The fields whose keys are in the file, in no particular order."""
        return tuple(self.places)

    def where(self, path: str) -> Place:
        """The place of a field such as ``ca_ttl`` or ``key_manager.disk.keys_path``, even if its key is missing."""
        name, _, rest = path.partition(".")
        if rest and name in self.inner:
            return self.inner[name][0].where(rest)
        keys = {one.field: one.name for one in keys_of(self.kind)}
        return self.places.get(name) or self.section.where(keys.get(name, name))

    def every(self, path: str) -> Iterator[tuple[Place, Any]]:
        """Each value in the file for a field of the sections in a list, such as ``inbound.listen``."""
        name, _, rest = path.partition(".")
        if rest:
            for inner in self.inner.get(name, ()):
                yield from inner.every(rest)
        elif name in self.places and name in self.values:
            yield self.places[name], self.values[name]

    @property
    def complete(self) -> bool:
        """Whether all keys could be read."""
        return len(self.values) == len(keys_of(self.kind))

    @property
    def value(self) -> S:
        """The struct. The section must be complete."""
        return self.kind(**self.values)


def read(document: Document, kind: type[S]) -> Found[S]:
    """Read the document by the keys of this struct. Raises ConfigError with all of the document's problems."""
    found = read_section(document, document.root, kind)
    document.problems.check()
    return found


def read_section(document: Document, node: Node, kind: type[S], base: object | None = None) -> Found[S]:
    """Read one section as far as possible, and add its problems to the document's.

    A missing key has the value of ``base``, if that is given.
    """
    if isinstance(node, Nothing):
        node = Section(node.place)
    if not isinstance(node, Section):
        document.problems.add(node.place, f"wanted keys with values, got {described(node)}")
        return Found(Section(node.place), kind)
    found = Found(node, kind)
    known: set[str] = set()
    for one in keys_of(kind):
        known.update((one.name, *one.key.old))
        given = _given(document, node, one)
        if given is not None:
            found.places[one.field] = given.place
            _read_key(document, given, one, found, base)
        elif one.required and base is None:
            document.problems.add(node.place.below(one.name), "this key is required, and it is missing")
        else:
            found.values[one.field] = one.default(base)
    for name, other in node.keys.items():
        if name not in known:
            names = ", ".join(one.name for one in keys_of(kind))
            document.problems.add(other.place, f"unknown key; wanted one of {names}" if names else "wanted no key here")
    for rule in getattr(kind, "RULES", ()):
        wanted = inspect.signature(rule).parameters
        if wanted.keys() - {"found"} <= found.values.keys():
            arguments = {name: found if name == "found" else found.values[name] for name in wanted}
            for at, message in rule(**arguments):
                place = at if isinstance(at, Place) else found.where(at) if at else found.section.place
                document.problems.add(place, message)
    return found


def _given(document: Document, section: Section, one: KeyField) -> Node | None:
    given = [name for name in (one.name, *one.key.old) if name in section.keys]
    for name in given:
        place = section.keys[name].place
        if name is not given[0]:
            document.problems.add(place, f"wanted only one of {' and '.join(given)}, which are names of the same key")
        elif name != one.name:
            document.notice(place, f"this key was renamed to {one.name}; the old name still works")
    return section.keys[given[0]] if given else None


def _read_key(document: Document, node: Node, one: KeyField, found: Found[Any], base: object | None) -> None:
    if one.shape is Shape.PAIRS:
        _read_pairs(document, node, one, found)
        return
    listed = one.shape in (Shape.VALUES, Shape.SECTIONS)
    if listed and not isinstance(node, Items):
        document.problems.add(node.place, f"wanted a list, got {described(node)}")
        return
    nodes = node.items if listed and isinstance(node, Items) else (node,)
    if one.section is None:
        values = [value for one_node in nodes for value in _read_value(document, one_node, one.key.value)]
    else:
        default = one.default_section(base)
        inner = [read_section(document, one_node, one.section, default) for one_node in nodes]
        found.inner[one.field] = inner
        values = [section.value for section in inner if section.complete]
    if len(values) == len(nodes):
        found.values[one.field] = tuple(values) if listed else values[0]


def _read_pairs(document: Document, node: Node, one: KeyField, found: Found[Any]) -> None:
    if isinstance(node, Nothing):
        node = Section(node.place)
    if not isinstance(node, Section):
        document.problems.add(node.place, f"wanted keys with values, got {described(node)}")
        return
    pairs = [(name, value) for name, at in node.keys.items() for value in _read_value(document, at, one.key.value)]
    if len(pairs) == len(node.keys):
        found.values[one.field] = tuple(pairs)


def _read_value(document: Document, node: Node, value: Value[Any] | None) -> Iterator[Any]:
    """Yield the value, unless it can't be read."""
    if not isinstance(node, Text) or value is None:
        document.problems.add(node.place, f"wanted a single value, got {described(node)}")
        return
    try:
        yield value.parse(node.text)
    except RequestError as error:
        document.problems.add(node.place, str(error))
        return
    if notice := value.notice(node.text):
        document.notice(node.place, notice)
