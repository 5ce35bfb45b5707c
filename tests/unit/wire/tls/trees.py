"""What holds for the tree of fields of any message."""

from __future__ import annotations

from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.reading import MOST_FIELDS

__all__ = ["checked", "vector"]

#: Fields of the structures around the lists, whose number does not grow with the message.
_SLACK = 200


def vector(data: bytes, length_bytes: int) -> bytes:
    """A vector of bytes (RFC 8446, section 3.4)."""
    return len(data).to_bytes(length_bytes, "big") + data


def checked(tree: Field, data: bytes) -> Field:
    """The same tree, which has each byte of ``data`` in one leaf, and values that are those bytes."""
    assert (tree.offset, tree.length) == (0, len(data))
    fields = list(tree.walk())
    assert len(fields) < MOST_FIELDS + _SLACK
    for one in fields:
        if one.children:
            at = one.offset
            for child in one.children:
                assert child.offset == at, (one, child)
                at = child.end
            assert at == one.end
            assert one.value is None
        elif isinstance(one.value, bytes):
            assert data[one.offset : one.end].endswith(one.value)
        elif isinstance(one.value, int):
            assert data[one.offset : one.end] == one.value.to_bytes(one.length, "big")
        else:
            assert one.value is None
    assert b"".join(data[one.offset : one.end] for one in tree.leaves()) == data
    return tree
