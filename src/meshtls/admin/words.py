"""Records for people: names and values in lines, and lists of records as tables. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from meshtls.printable import printable

__all__ = ["in_words"]

_WIDEST = 24


def in_words(record: Mapping[str, object], *, tables: bool = True) -> str:
    """The record as lines; every text of it is escaped. ``tables``: a list of records is a table, if it can be."""
    return "\n".join(_lines(record, "", tables=tables))


def _lines(record: Mapping[str, Any], indent: str, *, tables: bool) -> Iterator[str]:
    for name, value in record.items():
        label = printable(str(name))
        label = label.replace("_", " ") if label.isidentifier() else label  # and not in the name of a logger
        if isinstance(value, Mapping) and value:
            yield f"{indent}{label}:"
            yield from _lines(value, indent + "  ", tables=tables)
        elif isinstance(value, Sequence) and not isinstance(value, str) and value:
            if all(isinstance(one, Mapping) for one in value):
                yield f"{indent}{label}:"
                cells = (cell for one in value for cell in one.values())
                as_table = tables and not any(isinstance(cell, Mapping | list | tuple) for cell in cells)
                yield from _table(value, indent + "  ") if as_table else _blocks(value, indent + "  ", tables=tables)
            else:
                yield f"{indent}{label + ':':<{_WIDEST}} {', '.join(map(_text, value))}"
        else:
            yield f"{indent}{label + ':':<{_WIDEST}} {_text(value)}".rstrip()


def _blocks(records: Sequence[Mapping[str, Any]], indent: str, *, tables: bool) -> Iterator[str]:
    for place, one in enumerate(records):
        if place:
            yield ""
        yield from _lines(one, indent, tables=tables)


def _table(records: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    names = list(dict.fromkeys(name for one in records for name in one))
    names = [name for name in names if any(_text(one.get(name)) not in ("", "-") for one in records)]
    rows = [[name.replace("_", " ") for name in names], *([_text(one.get(name)) for name in names] for one in records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield (indent + "  ".join(cells)).rstrip()


def _text(value: object) -> str:
    if value is None or value in ((), [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return printable(str(value))
