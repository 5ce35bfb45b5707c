"""Just enough DER to see how large the parts of a certificate are before anything decodes them (X.690, section 8.1).

A library decodes a name into an object for each of its attributes: 88 KB of them, from an unverified peer, cost 40 ms.
Here a part is skipped by its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

__all__ = ["BIT_STRING", "INTEGER", "OBJECT_IDENTIFIER", "OCTET_STRING", "SEQUENCE", "Element", "elements", "parts"]

INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER, SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x30
_MULTI_BYTE_TAG = 0x1F
_LONG_LENGTH = 0x80

#: Tag, content, and the whole with its header.
Element = tuple[int, bytes, bytes]


def elements(data: bytes) -> Iterator[Element]:
    """The consecutive elements in ``data``. Raises ValueError if one ends beyond it."""
    start, size = 0, len(data)
    while start < size:
        begin = start + 2
        if begin > size:
            raise ValueError("an element is cut short")
        tag, length = data[start], data[start + 1]
        if tag & _MULTI_BYTE_TAG == _MULTI_BYTE_TAG:
            raise ValueError("a tag of more than one byte")
        if length >= _LONG_LENGTH:
            count = length - _LONG_LENGTH
            if not 0 < count <= 4 or begin + count > size:
                raise ValueError("a length of a form that DER does not have, or longer than the data")
            length = int.from_bytes(data[begin : begin + count], "big")
            begin += count
        end = begin + length
        if end > size:
            raise ValueError("an element is longer than what it stands in")
        yield tag, data[begin:end], data[start:end]
        start = end


def parts(content: bytes, *wanted: int) -> list[Element]:
    """The first elements of a SEQUENCE's content, which must have these tags. Raises ValueError."""
    found = list(islice(elements(content), len(wanted)))
    if [tag for tag, _, _ in found] != list(wanted):
        tags = ", ".join(f"{tag:#04x}" for tag in wanted)
        raise ValueError(f"wanted elements {tags}, got {', '.join(f'{tag:#04x}' for tag, _, _ in found) or 'none'}")
    return found
