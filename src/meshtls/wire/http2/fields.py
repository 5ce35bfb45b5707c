"""The header blocks of requests and responses: fields out of HPACK and into it (RFC 7541). Pure.

What we write are literals without indexing, so a block is the same bytes whatever was sent before it, and fits any
size of table that a peer asks for. What we read may use all of HPACK. The ``hpack`` library holds the table and reads
whatever is unusual (changes of the table's size, integers of more than three bytes); all else is read here, since the
library takes most of a request's time for it, and does not say whether it changed the table.

A client repeats its requests. A block that neither changes the table nor was read with another one means the same as
the last time, so the result of reading it is kept, with all that was made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Generic, TypeVar

import hpack
from hpack.hpack import encode_integer
from hpack.huffman_table import decode_huffman

from meshtls.memo import Memo
from meshtls.wire.http2.hpack_faults import BlockError, as_protocol_error

__all__ = [
    "FIELD_OVERHEAD",
    "NAME",
    "NO_TABLE",
    "BlockReader",
    "BlockWriter",
    "Field",
    "FieldDecoder",
    "MalformedError",
    "Text",
    "is_value",
]

T = TypeVar("T")
Field = tuple[bytes, bytes]
Text = Field | tuple[str, str]

#: A dynamic table size update to 0 (RFC 7541, section 6.3).
NO_TABLE = b"\x20"
#: A token in lower case (RFC 9110, section 5.1; RFC 9113, section 8.2).
NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
#: What no value has, in it or at its ends (RFC 9110, section 5.5; RFC 9113, section 8.2.1).
_CONTROLS, _ENDS = bytes((*range(9), *range(10, 32), 127)), (b" ", b"\t")
#: What each field counts beside its bytes (RFC 9113, section 6.5.2).
FIELD_OVERHEAD = 32
#: The most and the longest blocks whose meaning one connection remembers, and likewise literals.
_BLOCKS, _LONGEST_BLOCK, _LARGEST_HEAD = 64, 512, 4096
_LITERALS, _LONGEST_LITERAL = 256, 256
_HUFFMAN, _LONGEST_HUFFMAN = 1024, 64
#: Checked fields that one connection remembers.
_TEXTS = 64
#: First bytes (RFC 7541, section 6): from 0x80 a field of the table, from 0x40 a literal to be put into the table, from
#: 0x20 a change of the table's size, from 0x10 a literal that no table may hold, below that a literal alone. All bits
#: of the index set: more bytes of it follow.
_INDEXED, _INSERTED, _SIZE, _NEVER = 0x80, 0x40, 0x20, 0x10
#: The first byte of a string: seven bits of its length, of which all set mean that more bytes of it follow.
_SHORT, _HUFFMAN_CODED = 0x7F, 0x80
#: A byte of an integer that is not its last.
_MORE = 0x80
_NAMELESS: Field = (b"", b"")
_NONE: frozenset[bytes] = frozenset()
_STATIC = hpack.table.HeaderTable.STATIC_TABLE
_STATIC_FIELDS = len(_STATIC)


class MalformedError(Exception):
    """A request, response or trailer section that breaks a rule of RFC 9113, section 8: it ends its stream."""


class FieldDecoder:
    """Decodes one direction of one connection. Every block that arrives has to pass through it, for HPACK's table.

    - ``changes`` counts the blocks that changed the table, or may have.
    - ``never``: names in the last block of fields that must not enter any table (RFC 7541, section 7.1.3).
    - ``size``: bytes of the last block's fields, each counted with FIELD_OVERHEAD.
    - ``texts``: fields that were checked before: see ``checked_fields``.
    """

    __slots__ = ("_decoder", "_most", "changes", "never", "size", "texts")

    def __init__(self, most: int) -> None:
        """``most``: bytes of a block's fields, each counted with FIELD_OVERHEAD."""
        self._decoder = hpack.Decoder(max_header_list_size=most)
        self._most = most
        self.changes = 0
        self.never: frozenset[bytes] = _NONE
        self.size = 0
        self.texts: Memo[Field, tuple[str, str]] = Memo(_TEXTS)

    def allow_table(self, size: int) -> None:
        """Let the table grow to ``size`` bytes, if its limit was less (RFC 9113, SETTINGS_HEADER_TABLE_SIZE)."""
        self._decoder.max_allowed_table_size = max(size, self._decoder.max_allowed_table_size)

    @property
    def table_bytes(self) -> int:
        """The most that the table may hold now, as HPACK counts it (RFC 7541, section 4.1); 0 while it has nothing."""
        return int(self._decoder.header_table.maxsize) if self.changes else 0

    def decode(self, block: bytes) -> list[Field]:
        """Raises ProtocolError of the connection: the block is no HPACK, or its fields are too long."""
        try:
            return self._decode(block)
        except hpack.HPACKError as error:
            raise as_protocol_error(error) from error

    def _decode(self, block: bytes) -> list[Field]:
        table = self._decoder.header_table
        dynamic = table.dynamic_entries
        fields: list[Field] = []
        self.never = _NONE
        at, end, changed, left = 0, len(block), False, self._most
        try:
            while at < end:
                start = at
                first = block[at]
                at += 1
                if first >= _INDEXED:
                    index, unfinished = first & 0x7F, 0x7F
                    if not index:
                        return self._rest(block, start, fields)
                elif first >= _INSERTED:
                    index, unfinished = first & 0x3F, 0x3F
                elif first >= _SIZE:
                    return self._rest(block, start, fields)
                else:
                    index, unfinished = first & 0xF, 0xF
                if index == unfinished:
                    index, at = _continued(block, at, index)
                field = _NAMELESS
                if index:
                    field = _STATIC[index - 1] if index <= _STATIC_FIELDS else dynamic[index - _STATIC_FIELDS - 1]
                if first < _INDEXED:
                    name = field[0]
                    if not index:
                        name, at = _string(block, at)
                    value, at = _string(block, at)
                    field = name, value
                    if first >= _INSERTED:
                        table.add(name, value)
                        changed = True
                    elif first >= _NEVER:
                        self.never |= {name}
                left -= len(field[0]) + len(field[1]) + FIELD_OVERHEAD
                if left < 0:
                    raise hpack.OversizedHeaderListError(f"more than {self._most} bytes")
                fields.append(field)
        except (IndexError, _LargeIntegerError):
            return self._rest(block, start, fields)
        if changed:
            self.changes += 1
        self.size = self._most - left
        return fields

    def _rest(self, block: bytes, at: int, fields: list[Field]) -> list[Field]:
        """Leave the block from ``at`` on to the library, which continues with the same table."""
        self.changes += 1
        if fields and _SIZE <= block[at] < _INSERTED:
            raise BlockError("it changes the table's size after a field")
        try:
            rest = list(self._decoder.decode(block[at:], raw=True))
        except IndexError:
            raise BlockError("it ends early, or refers to a field that the table lacks") from None
        self.never |= {bytes(field[0]) for field in rest if not field.indexable}
        fields += [(bytes(name), bytes(value)) for name, value in rest]
        self.size = sum([len(name) + len(value) + FIELD_OVERHEAD for name, value in fields])
        if self.size > self._most:
            raise hpack.OversizedHeaderListError(f"more than {self._most} bytes")
        return fields


class _LargeIntegerError(Exception):
    """Its encoding has more bytes than any that this module reads itself."""


def _continued(block: bytes, at: int, value: int) -> tuple[int, int]:
    """The integer of which ``value``, all bits set, is the first part, and where it ends (RFC 7541, section 5.1)."""
    low = block[at]
    if low < _MORE:
        return value + low, at + 1
    high = block[at + 1]
    if high < _MORE:
        return value + (low & ~_MORE) + (high << 7), at + 2
    raise _LargeIntegerError


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """The string at this place, and where it ends (RFC 7541, section 5.2). Raises IndexError if it ends early."""
    length = block[at] & _SHORT
    huffman = block[at] >= _HUFFMAN_CODED
    at += 1
    if length == _SHORT:
        length, at = _continued(block, at, length)
    text = block[at : at + length]
    if len(text) < length:
        raise IndexError
    return _unhuffed(text) if huffman else text, at + length


def _unhuffed(text: bytes) -> bytes:
    return _unhuffed_short(text) if len(text) <= _LONGEST_HUFFMAN else bytes(decode_huffman(text))


@lru_cache(_HUFFMAN)
def _unhuffed_short(text: bytes) -> bytes:
    return bytes(decode_huffman(text))


class BlockReader(Generic[T]):
    """What ``parse`` makes of each block's fields, remembered as long as the table stays as it is."""

    __slots__ = ("_changes", "_decoder", "_known", "_parse")

    def __init__(self, decoder: FieldDecoder, parse: Callable[[list[Field]], T]) -> None:
        self._decoder = decoder
        self._parse = parse
        self._known: dict[bytes, T] = {}
        self._changes = 0

    def read(self, block: bytes) -> T:
        """Raises ProtocolError of the connection, MalformedError if ``parse`` does."""
        decoder = self._decoder
        if decoder.changes == self._changes:
            known = self._known.get(block)
            if known is not None:
                return known
        before = decoder.changes
        fields = decoder.decode(block)
        found = self._parse(fields)
        if decoder.changes != self._changes or len(self._known) >= _BLOCKS:
            self._known.clear()
            self._changes = decoder.changes
        # A short block may name long fields of the table.
        if decoder.changes == before and len(block) <= _LONGEST_BLOCK and decoder.size <= _LARGEST_HEAD:
            self._known[block] = found
        return found


def is_value(value: bytes) -> bool:
    """Whether a field may have this value. In a time that a long value does not make worth sending."""
    return (
        len(value.translate(None, _CONTROLS)) == len(value)
        and not value.startswith(_ENDS)
        and not value.endswith(_ENDS)
    )


class BlockWriter:
    """Writes fields as literals without indexing, and remembers those that a connection repeats."""

    __slots__ = ("_known", "_pseudo")

    def __init__(self) -> None:
        self._known: dict[Text, bytes] = {}
        self._pseudo: dict[Text, bytes] = {}

    def block(self, pseudo: Iterable[Text], fields: Iterable[Text], never: Collection[bytes] = ()) -> bytes:
        """Fields whose names are in ``never`` keep their mark. Raises ValueError if a field can't be in a request."""
        known, begun = self._known, self._pseudo
        block = b"".join([begun.get(field) or self._remember(begun, field) for field in pseudo])
        if never:
            return block + b"".join([self._marked(field, never) for field in fields])
        return block + b"".join([known.get(field) or self._checked(field) for field in fields])

    def _checked(self, field: Text) -> bytes:
        name, value = _raw(field)
        if not NAME.fullmatch(name) or not is_value(value):
            raise ValueError(f"wanted a field that can be in a request, got {field!r}")
        return self._keep(self._known, field, name, value)

    def _marked(self, field: Text, never: Collection[bytes]) -> bytes:
        literal = self._checked(field)
        return b"\x10" + literal[1:] if _raw(field)[0] in never else literal

    def _remember(self, known: dict[Text, bytes], field: Text) -> bytes:
        return self._keep(known, field, *_raw(field))

    def _keep(self, known: dict[Text, bytes], field: Text, name: bytes, value: bytes) -> bytes:
        literal = b"\0" + _length(name) + name + _length(value) + value
        if len(literal) <= _LONGEST_LITERAL:
            if len(known) >= _LITERALS:
                known.clear()
            known[field] = literal
        return literal


def _raw(field: Text) -> Field:
    """Raises UnicodeEncodeError, a ValueError, if a text is not Latin-1."""
    name, value = field
    return (
        name if isinstance(name, bytes) else name.encode("latin-1"),
        value if isinstance(value, bytes) else value.encode("latin-1"),
    )


def _length(text: bytes) -> bytes:
    return bytes((len(text),)) if len(text) < _SHORT else bytes(encode_integer(len(text), 7))
