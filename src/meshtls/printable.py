r"""Text from outside as text that may be logged and printed. Pure.

A program's path, a certificate's name or a server's message may hold any character: a line break forges a line of the
log, ESC and the C1 controls rule the terminal, a bidirectional override turns the text around, and a lone surrogate
can't be encoded at all. Whatever is not printable is shown as Python writes it in a literal, such as ``\n`` or
``\u202e``. A backslash stays as it is, so that text that has been through here may come through here again.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["indented", "printable", "printable_json", "printable_lines"]

#: Of a million characters.
_MOST_KEPT = 0x4000
#: How ``surrogateescape`` keeps the bytes 0x80 to 0xff that are no UTF-8.
_BYTE_BASE, _FIRST_BYTE, _LAST_BYTE = 0xDC00, 0xDC80, 0xDCFF


def printable(value: str | bytes) -> str:
    r"""One line of printable characters; bytes are read as UTF-8, and those that are none shown such as ``\xff``."""
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isprintable():
        return text
    return text.translate(_ESCAPES)


def printable_lines(text: str) -> str:
    """The same for a text of our own that has several lines: the line feeds stay. What is put into such a text has to
    go through ``printable`` first.
    """
    return "\n".join(map(printable, text.split("\n")))


def indented(lines: Iterable[str]) -> tuple[str, ...]:
    """The lines as those that belong to the one above them."""
    return tuple(f"  {line}" for line in lines)


def printable_json(document: str) -> str:
    """A JSON document that means the same (RFC 8259, section 7), on lines of printable characters."""
    if document.isascii() and "\x7f" not in document:
        return document
    return "".join(one if one.isprintable() or one == "\n" else _escaped_in_json(one) for one in document)


class _Escapes(dict[int, str]):
    """Each character as it is shown, for ``str.translate``, which takes a long text of a stranger's fastest."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        shown = character if character.isprintable() else _escaped(character)
        if len(self) < _MOST_KEPT:
            self[code] = shown
        return shown


_ESCAPES = _Escapes()


def _escaped(character: str) -> str:
    if _FIRST_BYTE <= ord(character) <= _LAST_BYTE:
        return f"\\x{ord(character) - _BYTE_BASE:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _escaped_in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
