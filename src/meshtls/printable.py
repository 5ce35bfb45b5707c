r"""Escapes text from outside so that it can be logged and printed. Pure.

A program's path, a certificate's name or a server's message may contain any character: a line break forges a log line,
ESC and the C1 controls control the terminal, a bidirectional override reverses text, and a lone surrogate can't be
encoded. Characters that are not printable are escaped as in a Python literal, such as ``\n`` or ``\u202e``. A backslash
is not escaped, so that escaping twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

__all__ = ["indented", "json_line", "printable", "printable_json", "printable_lines"]

#: Characters, of a million, whose escapes are cached.
_MOST_KEPT = 0x4000
#: How ``surrogateescape`` represents the bytes 0x80 to 0xff that are not UTF-8.
_BYTE_BASE, _FIRST_BYTE, _LAST_BYTE = 0xDC00, 0xDC80, 0xDCFF


def printable(value: str | bytes) -> str:
    r"""One line of printable characters. Bytes are decoded as UTF-8; invalid ones are shown such as ``\xff``."""
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isprintable():
        return text
    return text.translate(_ESCAPES)


def printable_lines(text: str) -> str:
    """As ``printable``, but keeps line feeds, for a text of our own with several lines.

    Text from outside must be escaped by ``printable`` before it is put into such a text.
    """
    return "\n".join(map(printable, text.split("\n")))


def indented(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines, indented as continuations of the line above them."""
    return tuple(f"  {line}" for line in lines)


def printable_json(document: str) -> str:
    """An equivalent JSON document (RFC 8259, section 7) on lines of printable characters."""
    if document.isascii() and "\x7f" not in document:
        return document
    parts = []
    for one in document:
        if one.isprintable() or one == "\n":
            parts.append(one)
        else:
            units = one.encode("utf-16-be", "surrogatepass")
            parts += [f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True)]
    return "".join(parts)


def json_line(value: object) -> str:
    """The value as JSON on one line of ASCII, without spaces between its parts."""
    try:
        line = msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate; an integer of more than 64 bits
        line = ""
    if line and line.isascii() and "\x7f" not in line:
        return line
    return json.dumps(value, separators=(",", ":"))  # slower; it escapes all but printable ASCII


class _Escapes(dict[int, str]):
    """The escapes by character for ``str.translate``, which is the fastest way for a long text."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character.isprintable():
            shown = character
        elif _FIRST_BYTE <= code <= _LAST_BYTE:
            shown = f"\\x{code - _BYTE_BASE:02x}"
        else:
            shown = character.encode("unicode_escape").decode("ascii")
        if len(self) < _MOST_KEPT:
            self[code] = shown
        return shown


_ESCAPES = _Escapes()
