"""The lines of a head or a trailer section, read strictly (RFC 9110, section 5; RFC 9112, sections 2.2 and 5). Pure.

A line ends with CRLF and nothing else, and has no control byte but the tab. There is no obsolete line folding and no
space before a colon.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache

from meshtls.wire.http_rules import NOT_JUDGED, is_token, may_be_trailer

__all__ = ["END", "Field", "FieldKind", "MessageError", "check_partial", "named", "read_field", "trailers_of"]

#: What ends a head.
END = b"\r\n\r\n"
_LONGEST_NAME = 256
_NOT_IN_LINES = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
_NOT_IN_VALUES = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")
_ODD_LINE = "wanted lines that end with CRLF and have no control bytes, got others"
#: Lines of one connection that are remembered, and the longest of them.
_REMEMBERED, _LONGEST_REMEMBERED = 32, 256
#: A field's FieldKind, and its name in lower case with its value.
Field = tuple[int, tuple[str, str]]


class MessageError(Exception):
    """A message that breaks a rule. The text says what was wanted and what came; ``status`` is for the answer."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


class FieldKind(IntEnum):
    """What a field is to us.

    - PLAIN: nothing; it is passed on.
    - UNDERSCORE: PLAIN, with an underscore in its name.
    - HOP: it is only for this connection (RFC 9110, section 7.6.1).
    - The others have fields of the same names.
    """

    PLAIN = 0
    UNDERSCORE = 1
    HOP = 2
    HOST = 3
    CONTENT_LENGTH = 4
    TRANSFER_ENCODING = 5
    CONNECTION = 6
    UPGRADE = 7
    EXPECT = 8


_KINDS = {
    **dict.fromkeys(NOT_JUDGED, FieldKind.HOP),
    "host": FieldKind.HOST,
    "content-length": FieldKind.CONTENT_LENGTH,
    "transfer-encoding": FieldKind.TRANSFER_ENCODING,
    "connection": FieldKind.CONNECTION,
    "upgrade": FieldKind.UPGRADE,
    "expect": FieldKind.EXPECT,
}


@lru_cache(maxsize=1024)
def named(name: str) -> tuple[str, int]:
    """A field's name in lower case, and its FieldKind. Raises MessageError."""
    if not is_token(name):
        if name[:1] in ("", " ", "\t"):
            raise MessageError("wanted a field's name first in each line, got an empty name or a folded line")
        raise MessageError(f"wanted a field's name and a colon right after it, got {_short(name)}")
    if len(name) > _LONGEST_NAME:
        raise MessageError(f"wanted names of at most {_LONGEST_NAME} characters, got {_short(name)}", 431)
    lower = name.lower()
    kind = _KINDS.get(lower, FieldKind.PLAIN)
    if "_" in lower:
        if lower.replace("_", "-") in _KINDS:
            raise MessageError(f"wanted no name that can be taken for another's, got {_short(name)}")
        kind = FieldKind.UNDERSCORE
    return lower, int(kind)


def read_field(line: str, seen: dict[str, Field]) -> Field:
    """The field of a line that is not in ``seen``, where it is remembered: a connection's heads are much alike.

    Raises MessageError.
    """
    name, colon, value = line.partition(":")
    lower, kind = named(name)
    if not colon:
        raise MessageError(f"wanted a field's name and a colon, got {_short(line)}")
    value = value.strip(" \t")
    if not (value.isascii() and value.isprintable()) and _NOT_IN_VALUES.search(value):
        raise MessageError(_ODD_LINE)
    field = kind, (lower, value)
    if len(line) <= _LONGEST_REMEMBERED:
        if len(seen) >= _REMEMBERED:
            seen.clear()
        seen[line] = field
    return field


def check_partial(section: bytes | bytearray, most: int, *, first_line: int | None = None, start: int = 0) -> None:
    """Check the beginning of a section whose END may not be there yet.

    Of several violations the first one counts, so that the result does not depend on where the bytes were cut.
    ``first_line`` is the most that the first line may have. What is before ``start`` was checked before. Raises
    MessageError: 431 if there are more than ``most`` bytes, 414 for the first line.
    """
    odd = _NOT_IN_LINES.search(section, max(start - 1, 0))
    wrong = len(section) if odd is None else odd.start()
    if first_line is not None and len(section) > first_line and first_line < wrong:
        end = section.find(b"\r\n", 0, first_line + 2)
        if end < 0:
            raise MessageError(f"wanted a request line of at most {first_line} bytes, got a longer one", 414)
    if most < wrong:
        raise MessageError(f"wanted at most {most} bytes of fields, got more", 431)
    if odd is not None:
        raise MessageError(_ODD_LINE)


def trailers_of(lines: list[str], head: frozenset[str], *, underscores: bool, most: int) -> list[tuple[str, str]]:
    """The fields of a trailer section that may be passed on. Those that could replace what the head said are dropped:
    also any whose name is in ``head``. Raises MessageError.
    """
    passed: list[tuple[str, str]] = []
    if len(lines) > most:
        raise MessageError(f"wanted at most {most} fields, got {len(lines)}", 431)
    for line in lines:
        kind, (lower, value) = read_field(line, {})
        if kind == FieldKind.UNDERSCORE and not underscores:
            raise MessageError(f"wanted no underscore in a field's name, got {_short(lower)}")
        if may_be_trailer(lower) and lower not in head:
            passed.append((lower, value))
    return passed


def _short(text: str) -> str:
    return ascii(text if len(text) <= 40 else f"{text[:40]}...")
