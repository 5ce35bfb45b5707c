"""Bytes out of hex as people have it: typed, pasted, or the dump of a tool. Pure.

Accepted are pairs of digits, with or without white space, commas or colons between them, with ``0x`` or ``\\x`` before
them; and dumps with offsets: of ``xxd``, of ``hexdump -C``, of ``tcpdump -x`` and ``-X``, of Wireshark ("copy as hex
dump"). Of a dump, the column with the text is left out, and lines without an offset, as tcpdump's summary, are skipped.
Its offsets have to follow one another, since text that looks like an offset, or a missing line, would change the bytes.
"""

from __future__ import annotations

import re

from meshtls.errors import RequestError
from meshtls.scalars import shown

__all__ = ["MAX_TEXT", "parse_hex"]

#: The most characters of a text: a frame of 65,535 bytes has about 300,000 in a dump.
MAX_TEXT = 1 << 20

#: An offset with a colon (xxd, tcpdump), and one without, which two spaces or a tab follow (hexdump -C, Wireshark).
_COLON = re.compile(r"(?:0[xX])?([0-9a-fA-F]{4,16}):(?=\s|$)")
_SPACES = re.compile(r"([0-9a-fA-F]{4,16})(?=  |\t|$)")
#: Where the column with the text begins. hexdump -C has two spaces in the middle of the bytes, too.
_TEXT_AFTER = {_COLON: re.compile(r"  |\t"), _SPACES: re.compile(r"   |  \||\t")}
_BETWEEN = re.compile(r"[\s,:]")


def parse_hex(text: str) -> bytes:
    """The bytes that the text has. Raises RequestError, with the number of the line, for anything else."""
    if len(text) > MAX_TEXT:
        raise RequestError(f"hex: wanted at most {MAX_TEXT} characters, got more")
    lines = [line.strip() for line in text.split("\n")]
    first = _SPACES.match(next(filter(None, lines), ""))
    if any(map(_COLON.match, lines)):
        return _dumped(lines, _COLON)
    # A number alone on a line is an offset only at the end of a dump.
    if first is not None and int(first[1], 16) == 0 and first.end() < len(first.string):
        return _dumped(lines, _SPACES)
    return b"".join(_pairs(line, number) for number, line in enumerate(lines, 1))


def _dumped(lines: list[str], form: re.Pattern[str]) -> bytes:
    found = bytearray()
    for number, line in enumerate(lines, 1):
        if begins := form.match(line):
            if (offset := int(begins[1], 16)) != len(found):
                raise RequestError(
                    f"hex, line {number}: wanted the offset {len(found):#06x}, got {offset:#06x}; "
                    "give one packet, from its beginning and with every line (hexdump -v)"
                )
            found += _pairs(_TEXT_AFTER[form].split(line[begins.end() :].strip(), maxsplit=1)[0], number)
    return bytes(found)


def _pairs(text: str, number: int) -> bytes:
    found = bytearray()
    for word in filter(None, _BETWEEN.split(text)):
        digits = word[2:] if word[:2] in ("0x", "0X") else word.replace("\\x", "")
        try:
            found += bytes.fromhex(digits)
        except ValueError:
            raise RequestError(f"hex, line {number}: wanted pairs of hex digits, got {shown(word)}") from None
    return bytes(found)
