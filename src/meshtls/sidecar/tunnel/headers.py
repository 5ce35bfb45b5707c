"""The header blocks of CONNECT and of its answers (RFC 9113, sections 8.2, 8.3 and 8.5; HPACK is RFC 7541). Pure.

What we send are literals that enter no table, so a block is the same bytes whatever was sent before it, and can be
built once. Our encoder's table is put to size 0 at the start of the first block: that holds for any size a peer asks
for later. What we receive may use the whole of HPACK; only a block of just our own form is read without the decoder,
which is sound because such a block neither reads nor changes its table.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import hpack
from hpack.hpack import encode_integer

from meshtls.sidecar.tunnel.frames import ErrorCode, ProtocolError
from meshtls.sidecar.tunnel.settings import MAX_HEADER_LIST

__all__ = ["NO_TABLE", "HeaderReader", "Request", "connect_block", "status_block"]

#: A dynamic table size update to 0 (RFC 7541, section 6.3).
NO_TABLE = b"\x20"
#: ":method: CONNECT" as a literal without indexing, then the name ":authority" of another (RFC 7541, section 6.2.2).
_CONNECT = b"\x02\x07CONNECT\x01"
_STATUS_200 = b"\x88"
_INDEXED_STATUS = {200: _STATUS_200, 400: b"\x8c", 404: b"\x8d"}
_LENGTH_AT = len(_CONNECT)
_SHORT = 127  # from here on a length takes more than one byte (RFC 7541, section 5.1)
_PER_CONNECTION = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}
_REQUEST_FIELDS = {b":method", b":scheme", b":authority", b":path"}
_STATUS_DIGITS = 3


class Request(NamedTuple):
    """What a peer asks for; ``authority`` is b"" where a request other than CONNECT names none."""

    method: bytes
    authority: bytes


@lru_cache(maxsize=64)
def connect_block(authority: bytes) -> bytes:
    """CONNECT to ``authority``."""
    return _CONNECT + bytes(encode_integer(len(authority), 7)) + authority


def status_block(status: int) -> bytes:
    """An answer that is nothing but its status."""
    return _INDEXED_STATUS.get(status) or b"\x08\x03" + str(status).encode()


class HeaderReader:
    """Decodes one direction of one connection. Every block that comes has to go through it, also one of no interest."""

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=MAX_HEADER_LIST)

    def request(self, block: bytes, stream_id: int) -> Request:
        """Raises ProtocolError: of the connection where it is no HPACK, of the stream where it is malformed."""
        if block.startswith(_CONNECT) and _LENGTH_AT + 1 < len(block) == _LENGTH_AT + 1 + block[_LENGTH_AT] < _SHORT:
            return Request(b"CONNECT", block[_LENGTH_AT + 1 :])
        return _request(self._fields(block, stream_id, _REQUEST_FIELDS), stream_id)

    def status(self, block: bytes, stream_id: int) -> int:
        """Raises ProtocolError as ``request`` does."""
        if block == _STATUS_200:
            return 200
        text = self._fields(block, stream_id, {b":status"}).get(b":status", b"")
        if len(text) != _STATUS_DIGITS or not text.isdigit():
            raise _malformed(stream_id, f"wanted one :status of three digits, got {text!r}")
        return int(text)

    def skip(self, block: bytes) -> None:
        """Keep the table in step with a block that is not wanted. Raises ProtocolError of the connection."""
        self._decoded(block)

    def _fields(self, block: bytes, stream_id: int, known: set[bytes]) -> dict[bytes, bytes]:
        """The pseudo-header fields, once all fields are checked."""
        pseudo: dict[bytes, bytes] = {}
        plain = False
        for name, value in self._decoded(block):
            if name[:1] == b":":
                if plain or name in pseudo or name not in known:
                    raise _malformed(stream_id, f"wanted each of {_words(known)} at most once and first, got {name!r}")
                pseudo[name] = value
            else:
                plain = True
                _check_field(name, value, stream_id)
        return pseudo

    def _decoded(self, block: bytes) -> Iterable[tuple[bytes, bytes]]:
        try:
            return [(bytes(name), bytes(value)) for name, value in self._decoder.decode(block, raw=True)]
        except hpack.OversizedHeaderListError as error:
            raise ProtocolError(ErrorCode.ENHANCE_YOUR_CALM, f"the peer's header list is too long: {error}") from error
        except hpack.HPACKError as error:
            raise ProtocolError(ErrorCode.COMPRESSION_ERROR, f"the peer's header block is no HPACK: {error}") from error


def _request(fields: dict[bytes, bytes], stream_id: int) -> Request:
    connect = fields.get(b":method") == b"CONNECT"
    wanted = {b":method", b":authority"} if connect else {b":method", b":scheme", b":path"}
    optional = set() if connect else {b":authority"}
    if not wanted <= fields.keys() <= wanted | optional or not all(fields[name] for name in wanted):
        raise _malformed(stream_id, f"wanted a request with {_words(wanted)}, got {_words(fields)}")
    return Request(fields[b":method"], fields.get(b":authority", b""))


def _check_field(name: bytes, value: bytes, stream_id: int) -> None:
    if not name or name != name.lower() or any(byte <= 0x20 or byte >= 0x7F or byte == 0x3A for byte in name):
        raise _malformed(stream_id, f"wanted a field name in lower case, got {name!r}")
    if any(byte in value for byte in b"\0\r\n") or value != value.strip(b" \t"):
        raise _malformed(stream_id, f"wanted no line break and no space around the value of {name!r}")
    if name in _PER_CONNECTION or (name == b"te" and value != b"trailers"):
        raise _malformed(stream_id, f"wanted no field of HTTP/1.1 connections, got {name!r}")


def _malformed(stream_id: int, detail: str) -> ProtocolError:
    return ProtocolError(ErrorCode.PROTOCOL_ERROR, detail, stream_id)


def _words(names: Iterable[bytes]) -> str:
    return ", ".join(name.decode("ascii", "backslashreplace") for name in sorted(names)) or "none"
