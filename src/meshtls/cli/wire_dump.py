"""A hex dump in which each field of a tree is marked: by colours on a terminal, elsewhere by a line below the bytes.

A field has a letter, which the list below the dump repeats with the field's offset, name, value and meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from string import ascii_letters

from rich.text import Text

from meshtls.cli.output import Terminal, tell
from meshtls.printable import printable
from meshtls.wire.tls.fields import Field

__all__ = ["print_fields", "record_of", "value_text"]

_ROW = 16
_CHARACTERS = bytes(byte if 0x20 <= byte < 0x7F else ord(".") for byte in range(256))
_COLOURS = ("cyan", "green", "yellow", "magenta", "blue")
_ERROR = "bold red"
#: The most characters of a value in the list.
_MOST = 48
_LEAST_TEXT = 4


def print_fields(data: bytes, tree: Field) -> None:
    """Print the dump of ``data``, and the list of the tree's fields."""
    console = Terminal(highlight=False, soft_wrap=True)
    leaves = [one for one in tree.leaves() if one.length]
    in_rows = _by_row(leaves)
    rows = ((row, data[row : row + _ROW], in_rows.get(row, ())) for row in range(0, len(data), _ROW))
    if console.is_terminal and not console.no_color:
        for row, shown, marked in rows:
            console.print(_coloured(row, shown, marked))
        for line in _list(tree, leaves):
            console.print(line)
        return
    # rich takes a tenth of a millisecond for a line, and a chain of certificates may have thousands of them.
    lines = [line for row, shown, marked in rows for line in _ruled(row, shown, marked)]
    lines += [line.plain for line in _list(tree, leaves)]
    if lines:
        tell(*lines)


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


def _by_row(leaves: Sequence[Field]) -> dict[int, list[tuple[int, Field]]]:
    """The leaves that have bytes in a row, with their places, by the offset at which the row begins."""
    found: dict[int, list[tuple[int, Field]]] = {}
    for place, leaf in enumerate(leaves):
        for row in range(leaf.offset - leaf.offset % _ROW, leaf.end, _ROW):
            found.setdefault(row, []).append((place, leaf))
    return found


def _coloured(row: int, shown: bytes, leaves: Sequence[tuple[int, Field]]) -> Text:
    """The bytes from offset ``row`` on, each in the colour of its field."""
    styles = [""] * len(shown)
    for place, leaf in leaves:
        start, end = _within(row, shown, leaf)
        styles[start:end] = [_style(place, leaf)] * (end - start)
    line = Text.assemble((f"{row:04x}  ", "dim"))
    for at, style in enumerate(styles):
        line.append(" " if at else "").append(f"{shown[at]:02x}", style)
    line.append(" " * (3 * (_ROW - len(shown)) + 2))
    for character, style in zip(_characters(shown), styles, strict=True):
        line.append(character, style)
    return line


def _ruled(row: int, shown: bytes, leaves: Sequence[tuple[int, Field]]) -> Iterator[str]:
    """The bytes from offset ``row`` on, and below them a line with the letters of the fields that begin there."""
    ruler = [" "] * (3 * _ROW)
    for place, leaf in leaves:
        start, end = _within(row, shown, leaf)
        if start < end:
            ruler[3 * start : 3 * end - 1] = _letter(place) + "-" * (3 * (end - start) - 2)
    yield f"{row:04x}  {shown.hex(' '):<{3 * _ROW - 1}}  {_characters(shown)}"
    yield f"      {''.join(ruler)}".rstrip()


def _within(row: int, shown: bytes, leaf: Field) -> tuple[int, int]:
    """Where in a row the bytes of a leaf begin and end."""
    return max(leaf.offset - row, 0), min(leaf.end - row, len(shown))


def _characters(shown: bytes) -> str:
    return shown.translate(_CHARACTERS).decode("ascii")


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
