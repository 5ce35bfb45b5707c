"""A decoded message as a tree of fields, each with the bytes that it was read from. Pure.

A field that has children is made of exactly these, one after the other. So the leaves of a tree cover the message, and
each byte of it belongs to one leaf.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Field", "masked"]


class Field(NamedTuple):
    """One field of a message.

    - ``name``: as the standard writes it.
    - ``offset`` and ``length``: in bytes, from the first byte of the message, its header included. A vector's field
      begins with the bytes of its length (RFC 8446, section 3.4).
    - ``value``: an int, bytes (of a vector, without its length) or a str, as the message has it. None of a field that
      has children, and of a session ticket, which is withheld.
    - ``text``: the value in words, where the bytes alone don't say it.
    - ``error``: what is wrong here, with the offset of the byte where it shows.
    """

    name: str
    offset: int
    length: int
    value: object = None
    text: str = ""
    children: tuple[Field, ...] = ()
    error: str = ""

    @property
    def end(self) -> int:
        """The offset of the first byte after it."""
        return self.offset + self.length

    @property
    def withheld(self) -> bool:
        """Whether its bytes are a secret to whoever may read the tree: those of a session ticket."""
        return self.value is None and not self.children and self.length > 0

    def child(self, *path: str) -> Field | None:
        """The first child of this name; of several names, that child's first child, and so on. None without one."""
        found: Field | None = self
        for name in path:
            found = next((one for one in found.children if one.name == name), None) if found is not None else None
        return found

    def leaves(self) -> Iterator[Field]:
        """The fields without children, in the order of their bytes."""
        for one in self.walk():
            if not one.children:
                yield one

    def walk(self) -> Iterator[Field]:
        """This field and all below it, in the order of their bytes."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            yield one
            waiting.extend(reversed(one.children))

    def errors(self) -> Iterator[str]:
        """What is wrong, in the order of the bytes; nothing of a message that decodes as a whole."""
        for one in self.walk():
            if one.error:
                yield one.error


def masked(data: bytes, field: Field) -> bytes:
    """The bytes of a message, to be shown, with zeros in place of what its tree withholds."""
    shown = bytearray(data)
    for one in field.leaves():
        if one.withheld:
            shown[one.offset : one.end] = bytes(one.length)
    return bytes(shown)
