"""The header blocks of CONNECT and its responses (RFC 9113, sections 8.2, 8.3 and 8.5; HPACK is RFC 7541). Pure.

We send literals without indexing, so a block is the same bytes whatever was sent before it. The first block sets our
encoder's table to size 0, which fits any size that a peer asks for later. What we receive may use all of HPACK. A block
that is nothing but such literals is read without the decoder: it neither reads nor changes the decoder's table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import hpack
from hpack.hpack import encode_integer

from meshtls.wire.http2.fields import NO_TABLE
from meshtls.wire.http2.frames import ErrorCode, ProtocolError
from meshtls.wire.http2.hpack_faults import as_protocol_error
from meshtls.wire.http2.settings import MAX_HEADER_LIST
from meshtls.wire.origin import NOWHERE, Origin, is_traceparent, origin_of

__all__ = ["NO_TABLE", "ConnectRequest", "HeaderDecoder", "connect_block", "plain_literals", "status_block"]

#: ":method: CONNECT" as a literal without indexing, then the name ":authority" of another (RFC 7541, section 6.2.2).
_CONNECT = b"\x02\x07CONNECT\x01"
_STATUS_200 = b"\x88"
_INDEXED_STATUS = {200: _STATUS_200, 400: b"\x8c", 404: b"\x8d"}
_STATIC_NAMES = {1: b":authority", 2: b":method"}
#: The start of the literal with a traceparent, which has 55 bytes.
_TRACEPARENT = b"\0\x0btraceparent\x37"
_TRACEPARENT_BYTES = 55
#: A length from here on takes more than one byte; from 128 on the text is Huffman code (RFC 7541, section 5).
_SHORT = 127
_LONGEST_PLAIN_BLOCK = 1 << 12
_NAME = re.compile(rb"[\x21-\x39\x3b-\x40\x5b-\x7e]+")
_BREAK = re.compile(rb"[\0\r\n]")
_ORIGIN_FIELDS = (b"traceparent", b"baggage", b"forwarded")
_PER_CONNECTION = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
_REQUEST_FIELDS = {b":method", b":scheme", b":authority", b":path"}
_STATUS_DIGITS = 3
_Field = tuple[bytes, bytes]


class ConnectRequest(NamedTuple):
    """What a peer asks for. ``authority`` is b"" if a request other than CONNECT has none; ``origin`` is the peer's
    claim about where the request comes from.
    """

    method: bytes
    authority: bytes
    origin: Origin = NOWHERE


def connect_block(authority: bytes, origin: Origin = NOWHERE) -> bytes:
    """CONNECT to ``authority``, from ``origin``. What streams of a tunnel differ in, their ``traceparent``, is last."""
    block = _connect(authority, origin.baggage, origin.forwarded)
    return block + _literal(b"traceparent", origin.traceparent) if origin.traceparent else block


@lru_cache(maxsize=64)
def _connect(authority: bytes, baggage: bytes, forwarded: bytes) -> bytes:
    block = _CONNECT + _length(authority) + authority
    block += _literal(b"baggage", baggage) if baggage else b""
    return block + _literal(b"forwarded", forwarded) if forwarded else block


def _literal(name: bytes, value: bytes) -> bytes:
    return _name(name) + _length(value) + value


@lru_cache(maxsize=8)
def _name(name: bytes) -> bytes:
    """The start of a literal without indexing that brings its own name."""
    return b"\0" + _length(name) + name


def _length(text: bytes) -> bytes:
    return bytes((len(text),)) if len(text) < _SHORT else bytes(encode_integer(len(text), 7))


def status_block(status: int) -> bytes:
    """A response that is nothing but its status."""
    return _INDEXED_STATUS.get(status) or b"\x08\x03" + str(status).encode()


class HeaderDecoder:
    """Decodes one direction of one connection. Every block that arrives has to pass through it, for HPACK's table.

    The requests of a tunnel mostly differ in nothing but the traceparent at their end. So the beginning of the latest
    such block is remembered with what it says, and is not read again as long as it stays the same.
    """

    __slots__ = ("_decoder", "_head", "_latest")

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_HEADER_LIST)
        #: The latest block, without the value of its traceparent, and its request.
        self._head: bytes | None = None
        self._latest = ConnectRequest(b"", b"")

    def request(self, block: bytes, stream_id: int) -> ConnectRequest:
        """Raises ProtocolError: of the connection if the block is no HPACK, of the stream if it is malformed."""
        head, trace = block[:-_TRACEPARENT_BYTES], block[-_TRACEPARENT_BYTES:]
        if head == self._head and is_traceparent(trace):
            method, authority, origin = self._latest
            return ConnectRequest(method, authority, Origin(trace, origin.baggage, origin.forwarded))
        literals = plain_literals(block)
        pseudo, plain = _checked(literals or self._decoded(block), stream_id, _REQUEST_FIELDS)
        request = _request(pseudo, stream_id, origin_of(plain) if plain else NOWHERE)
        # No field has a NUL in it, so this literal is a field of its own, and the beginning is whole fields.
        if literals and head.endswith(_TRACEPARENT) and request.origin.traceparent:
            self._head, self._latest = head, request
        return request

    def status(self, block: bytes, stream_id: int) -> int:
        """Raises ProtocolError as ``request`` does."""
        if block == _STATUS_200:
            return 200
        text = _checked(self._decoded(block), stream_id, {b":status"})[0].get(b":status", b"")
        if len(text) != _STATUS_DIGITS or not text.isdigit():
            raise _malformed(stream_id, f"wanted one :status of three digits, got {text!r}")
        return int(text)

    def skip(self, block: bytes) -> None:
        """Keep the table in step with a block that is ignored. Raises ProtocolError of the connection."""
        self._decoded(block)

    def _decoded(self, block: bytes) -> Iterable[tuple[bytes, bytes]]:
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.HPACKError as error:
            raise as_protocol_error(error) from error


def _checked(fields: Iterable[_Field], stream_id: int, known: set[bytes]) -> tuple[dict[bytes, bytes], list[_Field]]:
    """The pseudo-header fields, and those of the others that say where a request comes from."""
    pseudo: dict[bytes, bytes] = {}
    origin: list[_Field] = []
    plain = False
    for name, value in fields:
        if name[:1] == b":":
            if plain or name in pseudo or name not in known:
                raise _malformed(stream_id, f"wanted each of {_words(known)} at most once and first, got {name!r}")
            pseudo[name] = value
        else:
            plain = True
            _check_field(name, value, stream_id)
            if name in _ORIGIN_FIELDS:
                origin.append((name, value))
    return pseudo, origin


def plain_literals(block: bytes) -> list[_Field] | None:
    """The fields of a block of literals without indexing, without Huffman code and with short names.

    None for any other block: that is for the decoder.
    """
    fields: list[_Field] = []
    at, end = 0, len(block)
    if end > _LONGEST_PLAIN_BLOCK:
        return None
    try:
        while at < end:
            name = _STATIC_NAMES.get(block[at])
            at += 1
            if name is None:
                if block[at - 1] or block[at] >= _SHORT:
                    return None
                at, name = at + 1 + block[at], block[at + 1 : at + 1 + block[at]]
            length = block[at]
            at += 1
            if length > _SHORT:
                return None
            if length == _SHORT:
                low, high = block[at], block[at + 1]
                if high >> 7 and low >> 7:
                    return None
                length += low & _SHORT | (high << 7 if low >> 7 else 0)
                at += 2 if low >> 7 else 1
            fields.append((name, block[at : at + length]))
            at += length
    except IndexError:
        return None
    return fields if at == end else None


def _request(fields: dict[bytes, bytes], stream_id: int, origin: Origin) -> ConnectRequest:
    connect = fields.get(b":method") == b"CONNECT"
    wanted = {b":method", b":authority"} if connect else {b":method", b":scheme", b":path"}
    optional = set() if connect else {b":authority"}
    if not wanted <= fields.keys() <= wanted | optional or not all(fields[name] for name in wanted):
        raise _malformed(stream_id, f"wanted a request with {_words(wanted)}, got {_words(fields)}")
    return ConnectRequest(fields[b":method"], fields.get(b":authority", b""), origin)


def _check_field(name: bytes, value: bytes, stream_id: int) -> None:
    if not _NAME.fullmatch(name):
        raise _malformed(stream_id, f"wanted a field name in lower case, got {name!r}")
    if _BREAK.search(value) or value != value.strip(b" \t"):
        raise _malformed(stream_id, f"wanted no line break and no space around the value of {name!r}")
    if name in _PER_CONNECTION or (name == b"te" and value != b"trailers"):
        raise _malformed(stream_id, f"wanted no field of HTTP/1.1 connections, got {name!r}")


def _malformed(stream_id: int, detail: str) -> ProtocolError:
    return ProtocolError(ErrorCode.PROTOCOL_ERROR, detail, stream_id)


def _words(names: Iterable[bytes]) -> str:
    return ", ".join(name.decode("ascii", "backslashreplace") for name in sorted(names)) or "none"
