"""Reading a message of TLS from its bytes, with the offsets of what is read. Pure.

``vector`` is for those who look for one thing and need to be quick. ``Reader`` makes the fields of ``fields.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple, NoReturn

from meshtls.wire.tls.fields import Field
from meshtls.wire.tls.names import name_of

__all__ = ["MOST_FIELDS", "MOST_ITEMS", "MOST_REMEMBERED", "Decode", "DecodeError", "Reader", "byte_count", "vector"]

#: Fields made of one message, and of one list in it. What is beyond stays raw.
MOST_FIELDS, MOST_ITEMS = 4096, 512
_MOST_IN_WORDS = 12
#: The last offset at which fields are remembered, the most bytes of one, and how many are.
_MOST_AGAIN, MOST_REMEMBERED, _MOST_KEPT = 4096, 124, 512
#: Makes a tuple of a class without the call of its ``__new__``: a hello has a hundred fields.
_made = tuple.__new__


class DecodeError(NamedTuple):
    """What is wrong with bytes that were received, and where: ``offset`` counts from where the decoder began."""

    offset: int
    reason: str

    @property
    def text(self) -> str:
        """Both, for people."""
        return f"byte {self.offset}: {self.reason}"


class _Malformed(Exception):  # noqa: N818  # control flow between a field and the structure that it stands in
    """The rest of a structure can't be read. ``reason`` is empty if a field has it already."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


#: Reads a structure and returns it in words, where that helps.
Decode = Callable[["Reader"], "str | None"]


def vector(data: bytes, at: int, length_bytes: int) -> tuple[int, int]:
    """Where the content of the vector at ``at`` starts and ends (RFC 8446, section 3.4).

    Raises ValueError if it ends beyond the data.
    """
    start = at + length_bytes
    end = start + int.from_bytes(data[at:start], "big")
    if len(data) < end:  # also where the length itself is cut off
        raise ValueError("a vector is longer than the message")
    return start, end


class Reader:
    """Reads a message from its first byte to its last, and collects the fields that it makes.

    A structure that can't be read to its end keeps the fields before the fault, and the rest of its bytes as a field
    ``undecoded`` with the error. What stands around it is read on, where its length tells where that is.
    """

    __slots__ = ("at", "data", "end", "fields", "left", "withhold")

    def __init__(self, data: bytes) -> None:
        self.data = data
        #: The next byte, and the end of the structure that is being read.
        self.at, self.end = 0, len(data)
        self.fields: list[Field] = []
        #: How many more fields may be made.
        self.left = MOST_FIELDS
        #: What can't be decoded here may be a session ticket.
        self.withhold = False

    @property
    def more(self) -> bool:
        """Whether the structure has more bytes."""
        return self.at < self.end

    def fail(self, reason: str) -> NoReturn:
        """Say that the rest of this structure can't be read."""
        raise _Malformed(reason)

    def _need(self, name: str, size: int) -> int:
        """Where ``size`` bytes begin; they are taken."""
        start = self.at
        if self.end - start < size:
            raise _Malformed(f"wanted {byte_count(size)} of {name}, got {self.end - start}")
        self.at = start + size
        return start

    def peek(self, name: str, size: int) -> int:
        """The number of ``size`` bytes that comes next, which is not taken."""
        start = self._need(name, size)
        self.at = start
        return int.from_bytes(self.data[start : start + size], "big")

    # -- single fields --

    def number(self, name: str, size: int, names: Mapping[int, str] | None = None) -> int:
        """An unsigned integer."""
        start = self.at
        self.at = stop = start + size
        if stop > self.end:
            self.at = start
            self._need(name, size)
        value = int.from_bytes(self.data[start:stop], "big")
        text = "" if names is None else names.get(value) or name_of(names, value, 2 * size)
        self.fields.append(_made(Field, (name, start, size, value, text, (), "")))
        self.left -= 1
        return value

    def header(self, kind: int, text: str, size: int) -> None:
        """A type and a length, of two bytes each, which are known already."""
        at = self.at
        self.fields.append(_made(Field, ("type", at, 2, kind, text, (), "")))
        self.fields.append(_made(Field, ("length", at + 2, 2, size, "", (), "")))
        self.left -= 2
        self.at = at + 4

    def remembered(self, size: int, decode: Callable[[Reader], object]) -> None:
        """What ``decode`` reads here: one field of so many bytes, which is no secret and depends on nothing else.

        A program says the same in each of its hellos. So the same bytes at this offset of another message are made a
        field once.
        """
        at = self.at
        stop = at + size
        if size > MOST_REMEMBERED or stop > self.end or at >= _MOST_AGAIN or self.left <= MOST_ITEMS or self.withhold:
            decode(self)
            return
        field, made = _made_once(decode, at, self.data[at:stop])
        self.fields.append(field)
        self.left -= made
        self.at = stop

    def remembered_vector(self, length_bytes: int, decode: Callable[[Reader], object]) -> None:
        """As ``remembered``, of a vector."""
        start = self.at
        self.remembered(length_bytes + int.from_bytes(self.data[start : start + length_bytes], "big"), decode)

    def opaque(self, name: str, size: int, text: str = "") -> bytes:
        """So many bytes."""
        start = self.at
        stop = start + size
        if stop > self.end:
            self._need(name, size)
        self.at = stop
        value = self.data[start:stop]
        self.fields.append(_made(Field, (name, start, size, value, text, (), "")))
        self.left -= 1
        return value

    def rest(self, name: str, text: str = "") -> bytes:
        """All bytes that the structure still has; no field if there are none."""
        return self.opaque(name, self.end - self.at, text) if self.more else b""

    def vector(self, name: str, length_bytes: int, *, text: Callable[[bytes], str] | None = None) -> bytes:
        """A vector of bytes without structure. ``text`` says it in words."""
        start = self.at
        content = start + length_bytes
        stop = content + int.from_bytes(self.data[start:content], "big")
        if stop > self.end:
            self._content(name, length_bytes)
        self.at = stop
        value = self.data[content:stop]
        words = text(value) if text is not None else ""
        self.fields.append(_made(Field, (name, start, stop - start, value, words, (), "")))
        self.left -= 1
        return value

    def take_vector(self, name: str, length_bytes: int) -> None:
        """As ``vector``, for an item of a list that needs no words."""
        self.vector(name, length_bytes)

    def withheld(self, name: str, length_bytes: int) -> None:
        """A vector whose bytes are not shown: a session ticket. The same ticket has the same fingerprint."""
        start, content = self._content(name, length_bytes)
        self._withhold(name, start, content)

    def withheld_rest(self, name: str) -> None:
        """All bytes that the structure still has, not shown; no field if there are none."""
        if self.more:
            start, self.at = self.at, self.end
            self._withhold(name, start, start)

    def _withhold(self, name: str, start: int, content: int) -> None:
        value = self.data[content : self.at]
        text = f"{byte_count(len(value))}, withheld"
        if value:
            text += f"; SHA-256 begins with {sha256(value).hexdigest()[:16]}"
        self._add(name, start, self.at - start, None, text)

    def _content(self, name: str, length_bytes: int) -> tuple[int, int]:
        """Where a vector, and its content, start; both are taken."""
        start = self.at
        content = start + length_bytes
        length = int.from_bytes(self.data[start : min(content, self.end)], "big")
        if content > self.end:
            raise _Malformed(f"wanted {byte_count(length_bytes)} of the length of {name}, got {self.end - start}")
        if self.end - content < length:
            raise _Malformed(f"{name} has {byte_count(length)} by its length, of which {self.end - content} are here")
        self.at = content + length
        return start, content

    # -- structures --

    def structure(
        self, name: str, decode: Decode, *, size: int | None = None, secret: bool = False, error: str = ""
    ) -> str:
        """A field made of what ``decode`` reads: of ``size`` bytes, or of as many as it takes. In words."""
        start, fields, limit, withhold = self.at, self.fields, self.end, self.withhold
        self.fields, self.withhold = [], withhold or secret
        cut = ""
        if size is not None:
            cut = self._limit(name, start, size)
        around = fields, limit, withhold
        return self._close(name, start, decode, cut, takes_all=size is not None, outer=around, error=error)

    def listed(self, name: str, length_bytes: int, decode: Decode) -> str:
        """A field of a vector, made of its ``length`` and of what ``decode`` reads of the content. In words."""
        start = self.at
        if self.end - start < length_bytes:
            self._need(f"the length of {name}", length_bytes)
        self.at = start + length_bytes
        length = int.from_bytes(self.data[start : self.at], "big")
        fields, limit, withhold = self.fields, self.end, self.withhold
        self.fields = [_made(Field, ("length", start, length_bytes, length, "", (), ""))]
        cut = self._limit(name, self.at, length)
        return self._close(name, start, decode, cut, takes_all=True, outer=(fields, limit, withhold))

    def parts(self, name: str, length_bytes: int, parts: Sequence[tuple[str, int]]) -> bool:
        """A vector that is made of parts with these names and sizes. False, and nothing is read, if it is not."""
        start = self.at
        at = start + length_bytes
        length = int.from_bytes(self.data[start:at], "big")
        if length != sum([size for _, size in parts]) or at + length > self.end:
            return False
        made = [_made(Field, ("length", start, length_bytes, length, "", (), ""))]
        for part, size in parts:
            made.append(_made(Field, (part, at, size, self.data[at : at + size], "", (), "")))
            at += size
        self.fields.append(_made(Field, (name, start, at - start, None, "", tuple(made), "")))
        self.left -= len(made)
        self.at = at
        return True

    def items(self, name: str, length_bytes: int, decode: Decode) -> str:
        """A vector whose items are read by ``decode``, one a call. Each call has to take a byte. In words."""
        return self.listed(name, length_bytes, lambda reader: reader.repeat(decode))

    def repeat(self, decode: Decode) -> str:
        """Call ``decode`` for each item of this structure. What is beyond the bounds stays raw. In words."""
        words: list[str] = []
        count = 0
        while self.at < self.end:
            if count == MOST_ITEMS or self.left <= 0:
                self._too_many()
                break
            word = decode(self)
            if word:
                words.append(word)
            count += 1
        return _listing(words)

    def numbers(self, name: str, length_bytes: int, size: int, item: str, names: Mapping[int, str]) -> str:
        """A vector of numbers of this size. In words."""
        return self.listed(name, length_bytes, lambda reader: reader.all_numbers(size, item, names))

    def all_numbers(self, size: int, item: str, names: Mapping[int, str]) -> str:
        """The numbers that this structure is made of; the first of them in words."""
        start, data = self.at, self.data
        count = min((self.end - start) // size, MOST_ITEMS, max(self.left, 0))
        stop = start + count * size
        texts = []
        for at in range(start, stop, size):
            number = int.from_bytes(data[at : at + size], "big")
            text = names.get(number) or name_of(names, number, 2 * size)
            texts.append(text)
            self.fields.append(_made(Field, (item, at, size, number, text, (), "")))
        self.left -= count
        self.at = stop
        if self.end - stop >= size:
            self._too_many()
        elif stop < self.end:
            raise _Malformed(f"wanted {item}s of {byte_count(size)} each, got {self.end - start} bytes")
        return _listing(texts)

    def whole(self, name: str, decode: Decode, *, secret: bool = False) -> Field:
        """The field of all bytes, read by ``decode``. Never raises."""
        self.withhold = secret
        self._close(name, 0, decode, "", takes_all=True, outer=([], self.end, False))
        return self.fields[0]

    def body(self, name: str, size: int, decode: Decode) -> str:
        """Read the ``size`` bytes that follow a header, as fields beside those of the header."""
        limit, here = self.end, self.end - self.at
        cut = f"{name} has {byte_count(size)} by its length, of which {here} are here" if here < size else ""
        self.end = min(limit, self.at + size)
        try:
            text = decode(self) or ""
            if cut or self.at < self.end:
                self.fail(cut or f"{byte_count(self.end - self.at)} after the end of {name}")
        except _Malformed as error:
            raise _Malformed(error.reason and (cut or error.reason)) from None
        finally:
            self.end = limit
        return text

    def _limit(self, name: str, start: int, size: int) -> str:
        """End the structure that begins at ``start`` after ``size`` bytes; what is wrong if it has fewer."""
        here = self.end - start
        if here < size:
            return f"{name} has {byte_count(size)} by its length, of which {here} are here"
        self.end = start + size
        return ""

    def _close(
        self,
        name: str,
        start: int,
        decode: Decode,
        cut: str,
        *,
        takes_all: bool,
        outer: tuple[list[Field], int, bool],
        error: str = "",
    ) -> str:
        """Read the structure that was begun, add its field to those around it, and go on with these."""
        text, wrong, stop = "", cut, bool(cut)
        try:
            text = decode(self) or ""
        except _Malformed as fault:
            wrong = fault.reason and (cut or fault.reason)
            stop = stop or not takes_all
        if not wrong and takes_all and self.at < self.end:
            wrong = f"{byte_count(self.end - self.at)} after the end of {name}"
        if wrong:
            self._undecoded(wrong)
        made = self.fields
        self.fields, self.end, self.withhold = outer
        self.fields.append(_made(Field, (name, start, self.at - start, None, text, tuple(made), error)))
        self.left -= 1
        if stop:
            raise _Malformed("")
        return text

    def _undecoded(self, reason: str) -> None:
        start, self.at = self.at, self.end
        value = None if self.withhold else self.data[start : self.end]
        self._add("undecoded", start, self.end - start, value, error=DecodeError(start, reason).text)

    def _too_many(self) -> None:
        start, self.at = self.at, self.end
        value = None if self.withhold else self.data[start : self.end]
        self._add("more", start, self.end - start, value, f"{byte_count(self.end - start)}, too many to decode")

    def _add(self, name: str, start: int, size: int, value: bytes | None, text: str = "", error: str = "") -> None:
        self.fields.append(_made(Field, (name, start, size, value, text, (), error)))
        self.left -= 1


@lru_cache(maxsize=_MOST_KEPT)
def _made_once(decode: Callable[[Reader], object], at: int, data: bytes) -> tuple[Field, int]:
    """The field of these bytes at this offset, and of how many fields it is made."""
    reader = Reader(bytes(at) + data)
    reader.at = at
    decode(reader)
    return reader.fields[0], MOST_FIELDS - reader.left


def _listing(words: list[str]) -> str:
    more = len(words) - _MOST_IN_WORDS
    return ", ".join(words[:_MOST_IN_WORDS]) + (f" and {more} more" if more > 0 else "")


def byte_count(count: int) -> str:
    """A number of bytes in words."""
    return "1 byte" if count == 1 else f"{count} bytes"
