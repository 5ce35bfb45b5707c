"""The documentation of a file's declared keys as text, as Markdown and as JSON Schema. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from meshtls.config.keys import KeyField, Shape, keys_of

__all__ = ["DescribedKey", "describe", "json_schema", "markdown_table", "text_of"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_WIDTH = 100


@dataclass(frozen=True, slots=True)
class DescribedKey:
    """The description of one key.

    - ``path``: as in messages, with ``[]`` for an item of a list.
    - ``default``: empty if there is none.
    - ``changes``: what a new value needs, ``reload`` or ``restart``.
    """

    path: str
    type: str
    default: str
    required: str
    meaning: str
    changes: str
    old: tuple[str, ...]


def describe(
    kind: type[Any], prefix: str = "", base: object | None = None, live: bool = False
) -> Iterator[DescribedKey]:
    """All keys of a file, each section followed by its keys.

    ``base`` is the default of the section, and ``live`` is true in a section that is live as a whole.
    """
    for one in keys_of(kind):
        path = f"{prefix}{one.name}"
        yield DescribedKey(
            path=path,
            type=_type(one),
            default=_default(one, base),
            required="yes" if one.required else one.key.required,
            meaning=one.key.meaning,
            changes="reload" if live or one.key.live else "restart",
            old=one.key.old,
        )
        if one.section:
            below = f"{path}[]." if one.shape is Shape.SECTIONS else f"{path}."
            yield from describe(one.section, below, one.default_section(base), live or one.key.live)


def text_of(kind: type[Any]) -> str:
    """Each key with its type and default, and its meaning below it."""
    lines = []
    for one in describe(kind):
        words = [one.type]
        if one.required:
            words.append("required" if one.required == "yes" else f"required {one.required}")
        elif one.default:
            words.append(f"default: {one.default}")
        lines.append(f"{one.path}  ({'; '.join(words)})")
        told = one.meaning + (f" Former name: {', '.join(one.old)}." if one.old else "")
        told += " A reload applies a new value." if one.changes == "reload" else ""
        lines += textwrap.wrap(told, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def markdown_table(kind: type[Any]) -> str:
    """The keys as a Markdown table."""
    lines = ["| Key | Value | Default | A new value needs | Meaning |", "|---|---|---|---|---|"]
    for one in describe(kind):
        default = "**required**" if one.required == "yes" else one.default
        if one.required not in ("", "yes"):
            default = f"**required** {one.required}"
        meaning = one.meaning + (f" Former name: {', '.join(f'`{old}`' for old in one.old)}." if one.old else "")
        cells = (f"`{one.path}`", one.type, default, f"a {one.changes}", meaning)
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines)


def json_schema(kind: type[Any], title: str) -> dict[str, Any]:
    """The file's JSON Schema (draft 2020-12), without constraints between keys."""
    return {"$schema": _DIALECT, "title": title, **_object(kind)}


def _object(kind: type[Any], base: object | None = None) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required: list[str] = []
    either: list[dict[str, Any]] = []
    for one in keys_of(kind):
        properties[one.name] = _property(one, base)
        for old in one.key.old:
            properties[old] = {**_property(one, base), "deprecated": True}
        if one.required and one.key.old:
            either.append({"anyOf": [{"required": [name]} for name in (one.name, *one.key.old)]})
        elif one.required:
            required.append(one.name)
    # YAML reads a section whose keys are all commented out as null.
    nullable = not required and not either
    schema: dict[str, Any] = {"type": ["object", "null"] if nullable else "object", "properties": properties}
    schema["additionalProperties"] = False
    return schema | ({"required": required} if required else {}) | ({"allOf": either} if either else {})


def _property(one: KeyField, base: object | None) -> dict[str, Any]:
    single = (
        _object(one.section, one.default_section(base))
        if one.section
        else dict(one.key.value.json if one.key.value else {})
    )
    if one.shape is Shape.PAIRS:
        return {"description": one.key.meaning, "type": ["object", "null"], "additionalProperties": single}
    listed = one.shape in (Shape.VALUES, Shape.SECTIONS)
    schema = {"type": "array", "items": single} if listed else single
    described = {"description": one.key.meaning}
    if one.shape is Shape.VALUE and not one.required and not one.key.default:
        default = one.default(base)
        if isinstance(default, float) and schema.get("type") == "integer":
            default = int(default)
        plain = isinstance(default, bool | int | str)
        return described | schema | {"default": default if plain or not one.key.value else one.key.value.show(default)}
    return described | schema


def _type(one: KeyField) -> str:
    match one.shape:
        case Shape.SECTION:
            return "section"
        case Shape.SECTIONS:
            return "list of sections"
        case Shape.VALUES:
            return f"list: {one.key.value.name if one.key.value else ''}"
        case Shape.PAIRS:
            return f"free keys, each with: {one.key.value.name if one.key.value else ''}"
        case Shape.VALUE:
            return one.key.value.name if one.key.value else ""


def _default(one: KeyField, base: object | None) -> str:
    if one.required or one.key.default or one.section:
        return one.key.default
    default = one.default(base)
    if one.shape is Shape.PAIRS:
        return "none"
    if one.shape is Shape.VALUES:
        return ", ".join(map(one.key.value.show, default)) if one.key.value and default else "none"
    return one.key.value.show(default) if one.key.value else ""
