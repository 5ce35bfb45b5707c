"""Just enough DER to see how large the parts of a certificate are before anything decodes them (X.690, section 8.1).

A library decodes a name into an object for each of its attributes: 88 KB of them cost 40 ms, and the peer that sent
them is a stranger. Here a part is skipped by its length.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["BIT_STRING", "INTEGER", "OBJECT_IDENTIFIER", "OCTET_STRING", "SEQUENCE", "Element", "elements", "parts"]

INTEGER, BIT_STRING, OCTET_STRING, OBJECT_IDENTIFIER, SEQUENCE = 0x02, 0x03, 0x04, 0x06, 0x30
_MULTI_BYTE_TAG = 0x1F
_LONG_LENGTH = 0x80

#: Tag, content, and the whole with its header.
Element = tuple[int, bytes, bytes]


def elements(data: bytes) -> Iterator[Element]:
    """The elements that stand one after the other in ``data``. Raises ValueError where one ends beyond it."""
    start = 0
    while start < len(data):
        begin, end = _bounds(data, start)
        yield data[start], data[begin:end], data[start:end]
        start = end


def parts(content: bytes, *wanted: int) -> list[Element]:
    """The first elements of a SEQUENCE's content, which have to have these tags. Raises ValueError."""
    found: list[Element] = []
    inside = elements(content)
    for tag in wanted:
        element = next(inside, None)
        if element is None or element[0] != tag:
            raise ValueError(
                f"wanted an element with tag {tag:#04x}, got {f'{element[0]:#04x}' if element else 'none'}"
            )
        found.append(element)
    return found


def _bounds(data: bytes, start: int) -> tuple[int, int]:
    """Where the content of the element at ``start`` begins and ends."""
    if start + 2 > len(data):
        raise ValueError("an element is cut short")
    if data[start] & _MULTI_BYTE_TAG == _MULTI_BYTE_TAG:
        raise ValueError("a tag of more than one byte")
    begin, length = start + 2, data[start + 1]
    if length >= _LONG_LENGTH:
        count = length - _LONG_LENGTH
        begin += count
        if not 0 < count <= 4 or begin > len(data):
            raise ValueError("a length of a form that DER does not have, or longer than the data")
        length = int.from_bytes(data[start + 2 : begin], "big")
    if begin + length > len(data):
        raise ValueError("an element is longer than what it stands in")
    return begin, begin + length
