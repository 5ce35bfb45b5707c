"""Reads a node of a document by a table of ``fields``. Collects all problems. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from meshtls.config.document import Items, Node, Nothing, Place, Plain, Problems, Section, Text, described
from meshtls.errors import RequestError
from meshtls.policy.istio.fields import Field, Shape, Support, Table, Value
from meshtls.scalars import shown

__all__ = ["Reader", "type_described"]


class Reader:
    """Adds to ``problems``, and to ``warnings`` what is accepted and not enforced."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.warnings: list[str] = []
        #: Unlike ``problems``, it counts a repeated one, too.
        self._count = 0

    def _problem(self, place: Place, message: str) -> None:
        self._count += 1
        self.problems.add(place, message)

    def read(self, node: Node, table: Table) -> Iterator[Any]:
        """Yield the object's value, or nothing if it has a problem."""
        if not isinstance(node, Section):
            self._problem(node.place, f"wanted keys with values, got {type_described(node)}")
            return
        before = self._count
        values: dict[str, Any] = {}
        for name, inner in node.keys.items():
            field = table.by_name.get(name)
            if field is None:
                self._problem(inner.place, _unknown(name, table))
                continue
            if isinstance(inner, Nothing) and field.null:
                continue
            if self._refused(inner, field):
                continue
            for value in self._field(inner, field):
                if field.attribute:
                    values[field.attribute] = value
        for field in table.fields:
            if field.required and field.name not in node.keys:
                self._problem(node.place.below(field.name), "this field is required, and it is missing")
        if self._count > before:
            return
        for rule in table.rules:
            for where, message in rule(node, values):
                place = where if isinstance(where, Place) else node.where(where) if where else node.place
                self._problem(place, message)
        if self._count == before:
            yield table.make(node.place, **values)

    def _refused(self, node: Node, field: Field) -> bool:
        if field.support is Support.REFUSED:
            self._problem(node.place, f"wanted no {field.name}, got {type_described(node)}. {field.meaning}")
        elif field.support is Support.NOT_ENFORCED and not isinstance(field.of, Value):
            self.warnings.append(f"{node.place}: accepted, not enforced. {field.meaning}")
        return field.support is Support.REFUSED

    def _field(self, node: Node, field: Field) -> Iterator[Any]:
        match field.shape:
            case Shape.ONE:
                yield from self._value(node, field.of)
            case Shape.LIST:
                yield from self._list(node, field)
            case Shape.MAP:
                yield from self._map(node, field)

    def _value(self, node: Node, of: Value | Table | None) -> Iterator[Any]:
        if isinstance(of, Table):
            yield from self.read(node, of)
        elif isinstance(of, Value):
            yield from self._single(node, of)

    def _list(self, node: Node, field: Field) -> Iterator[tuple[Any, ...]]:
        if not isinstance(node, Items):
            self._problem(node.place, f"wanted a list, got {type_described(node)}")
            return
        if field.most and len(node.items) > field.most:
            self._problem(node.place, f"wanted at most {field.most} items, got {len(node.items)}")
            return
        values = tuple(value for item in node.items for value in self._value(item, field.of))
        if len(values) == len(node.items):
            yield values

    def _map(self, node: Node, field: Field) -> Iterator[tuple[tuple[Any, Any], ...]]:
        if not isinstance(node, Section):
            self._problem(node.place, f"wanted keys with values, got {type_described(node)}")
            return
        pairs: dict[Any, Any] = {}
        for name, inner in node.keys.items():
            for key in self._parsed(inner.place, name, field.key.parse) if field.key else (name,):
                if key in pairs:
                    self._problem(node.place, f"wanted each key once, got {key} again")
                for value in self._value(inner, field.of):
                    pairs[key] = value
        if len(pairs) == len(node.keys):
            yield tuple(pairs.items())

    def _single(self, node: Node, value: Value) -> Iterator[Any]:
        if not isinstance(node, Text):
            self._problem(node.place, f"wanted {_wanted(value)}, got {type_described(node)}")
        elif node.plain is not value.plain:
            quotes = "; put it in quotes" if value.plain is Plain.TEXT and _takes(value, node.text) else ""
            self._problem(node.place, f"wanted {_wanted(value)}, got {type_described(node)}{quotes}")
        else:
            yield from self._parsed(node.place, node.text, value.parse)

    def _parsed(self, place: Place, text: str, parse: Callable[[str], Any]) -> Iterator[Any]:
        try:
            yield parse(text)
        except RequestError as error:
            self._problem(place, str(error))


def type_described(node: Node) -> str:
    """A description of a value with the type that YAML gives it, for a message."""
    if isinstance(node, Text):
        kind = {Plain.NUMBER: "the number ", Plain.FLAG: "the flag ", Plain.TEXT: ""}[node.plain]
        return f"{kind}{node.text}" if kind and len(node.text) < 20 else shown(node.text)
    return described(node)


def _takes(value: Value, text: str) -> bool:
    try:
        value.parse(text)
    except RequestError:
        return False
    return True


def _wanted(value: Value) -> str:
    return value.name.replace("`", "'")


def _unknown(name: str, table: Table) -> str:
    known = [one.name for one in table.fields if one.support is not Support.NO_EFFECT]
    head, *rest = name.split("_")
    camel = head + "".join(part[:1].upper() + part[1:] for part in rest)
    if rest and camel in known:
        return f"unknown field; write {camel}"
    return f"unknown field; wanted one of {', '.join(known)}"
