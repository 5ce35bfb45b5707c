"""A hex dump in which each field of a tree is marked: by colours on a terminal, elsewhere by a line below the bytes.

A field has a letter, which the list below the dump repeats with the field's offset, name, value and meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from string import ascii_letters

from rich.text import Text

from meshtls.cli.output import Terminal
from meshtls.printable import printable
from meshtls.wire.tls.fields import Field

__all__ = ["print_fields", "record_of", "value_text"]

_ROW = 16
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue")
_ERROR = "bold red"
#: The most characters of a value in the list.
_MOST = 48
_LEAST_TEXT = 4


def print_fields(data: bytes, tree: Field) -> None:
    """Print the dump of ``data``, and the list of the tree's fields."""
    console = Terminal(highlight=False, soft_wrap=True)
    coloured = console.is_terminal and not console.no_color
    leaves = [one for one in tree.leaves() if one.length]
    for row in range(0, len(data), _ROW):
        for line in _row(data, row, leaves, ruled=not coloured):
            console.print(line)
    for line in _list(tree, leaves):
        console.print(line)


def record_of(field: Field) -> dict[str, object]:
    """A tree for JSON; bytes are in hex."""
    value = field.value.hex() if isinstance(field.value, bytes) else field.value
    record = {"name": field.name, "offset": field.offset, "length": field.length, "value": value, "text": field.text}
    if field.error:
        record["error"] = field.error
    if field.children:
        record["fields"] = [record_of(one) for one in field.children]
    return record


def value_text(value: object) -> str:
    """The value in one line: a number, hex with its text where that is printable, or a string."""
    if not isinstance(value, bytes):
        return "" if value is None else str(value)
    size = f"{len(value)} byte{'s' * (len(value) != 1)}"
    if not value:
        return size
    text = value.decode("latin-1")
    if len(value) >= _LEAST_TEXT and text.isascii() and text.isprintable():
        return f"{size}: {_cut(repr(text))}"
    return f"{size}: {_cut(value.hex(' '))}"


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[:_MOST]}..."


def _row(data: bytes, row: int, leaves: Sequence[Field], *, ruled: bool) -> Iterator[Text]:
    shown = data[row : row + _ROW]
    line, ruler = Text(f"{row:04x}  ", "dim"), [" "] * (3 * _ROW)
    cells = [(f"{byte:02x}", "") for byte in shown]
    for place, leaf in enumerate(leaves):
        start, end = max(leaf.offset - row, 0), min(leaf.end - row, len(shown))
        style = _style(place, leaf)
        for at in range(start, end):
            cells[at] = cells[at][0], style
            ruler[3 * at : 3 * at + 3] = "---" if at + 1 < end else "-- "
        if start < end:
            ruler[3 * start] = _letter(place)
    line = Text.assemble((f"{row:04x}  ", "dim"), Text(" ").join(Text(*cell) for cell in cells))
    line.append(" " * (3 * (_ROW - len(shown)) + 2))
    for byte, (_, style) in zip(shown, cells, strict=True):
        line.append(chr(byte) if 0x20 <= byte < 0x7F else ".", style)
    yield line
    if ruled:
        yield Text(f"      {''.join(ruler)}".rstrip())


def _list(tree: Field, leaves: Sequence[Field]) -> Iterator[Text]:
    letters = {id(leaf): place for place, leaf in enumerate(leaves)}
    rows = [(field, depth) for field, depth in _nested(tree.children, 0)]
    width = max((len(field.name) + 2 * depth for field, depth in rows), default=0)
    for field, depth in rows:
        place = letters.get(id(field))
        letter, style = (" ", "bold") if place is None else (_letter(place), _style(place, field))
        value = value_text(field.value)
        if isinstance(field.value, int) and field.text:
            value = f"{field.value:#0{2 * field.length + 2}x}"
        meaning = ": ".join(filter(None, (value, field.text)))
        name = f"{'  ' * depth}{field.name}"
        line = Text.assemble((letter, style), (f"  {field.offset:04x}  ", "dim"), (name, style))
        yield line.append(f"{' ' * (width - len(name))}  {printable(meaning)}" if meaning else "")
        if field.error:
            yield Text(f"         {printable(field.error)}", _ERROR)


def _nested(fields: Iterable[Field], depth: int) -> Iterator[tuple[Field, int]]:
    for field in fields:
        yield field, depth
        yield from _nested(field.children, depth + 1)


def _letter(place: int) -> str:
    return ascii_letters[place % len(ascii_letters)]


def _style(place: int, field: Field) -> str:
    return f"{_COLOURS[place % len(_COLOURS)]}{' reverse' * bool(field.error)}"
