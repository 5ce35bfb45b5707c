"""Header blocks: any HPACK decoder reads ours, and ours reads any HPACK."""

from __future__ import annotations

import contextlib

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.http2.frames import ProtocolError
from meshtls.wire.http2.headers import (
    NO_TABLE,
    ConnectRequest,
    HeaderDecoder,
    connect_block,
    plain_literals,
    status_block,
)
from meshtls.wire.origin import Origin, new_traceparent

AUTHORITIES = st.from_regex(r"[a-z0-9.-]{1,250}:[0-9]{1,5}", fullmatch=True).map(str.encode)


@given(AUTHORITIES)
def test_our_connect_is_read_by_another_hpack_and_by_ours(authority: bytes) -> None:
    fields = hpack.Decoder().decode(connect_block(authority), raw=True)
    assert list(fields) == [(b":method", b"CONNECT"), (b":authority", authority)]
    assert HeaderDecoder().request(connect_block(authority), 1) == ConnectRequest(b"CONNECT", authority)


@given(AUTHORITIES, st.integers(0, 4000), st.integers(0, 1000))
def test_our_connect_with_an_origin_is_read_by_another_hpack_and_by_ours(authority: bytes, much: int, far: int) -> None:
    origin = Origin(new_traceparent(), b"b" * much, b"f" * far)
    block = connect_block(authority, origin)
    wanted = [(b"baggage", origin.baggage), (b"forwarded", origin.forwarded), (b"traceparent", origin.traceparent)]
    fields = list(hpack.Decoder().decode(block, raw=True))
    assert fields[2:] == [one for one in wanted if one[1]]
    assert HeaderDecoder().request(block, 1) == ConnectRequest(b"CONNECT", authority, origin)


ONE, OTHER = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", b"00-" + b"1" * 32 + b"-00f067aa0ba902b7-01"
TRACED = connect_block(b"here:1", Origin(ONE, b"b=1", b"for=1.2.3.4"))
LITERAL = TRACED[-69:-55]
BEGINNINGS = [
    b"",
    LITERAL,
    TRACED[:-55],
    connect_block(b"here:1", Origin(ONE))[:-55],
    TRACED + LITERAL,  # a second traceparent
    connect_block(b"here:1" + LITERAL + ONE) + LITERAL,
    connect_block(b"here:1", Origin(b"", LITERAL))[:-55],
    b"\x02\x03GET\0\x07:scheme\x01s\0\x05:path\x01/" + LITERAL,
]
REQUESTS = [one + end for one in BEGINNINGS for end in (ONE, OTHER, OTHER.upper(), b"00-" + bytes(52), b"")]


@pytest.mark.parametrize("before", REQUESTS)
def test_a_request_means_the_same_whatever_was_requested_before(before: bytes) -> None:
    reader = HeaderDecoder()
    for block in REQUESTS:
        request_of(reader, before)
        assert request_of(reader, block) == request_of(HeaderDecoder(), block)


def request_of(reader: HeaderDecoder, block: bytes) -> ConnectRequest | str:
    try:
        return reader.request(block, 1)
    except ProtocolError as error:
        return str(error)


@given(st.binary(max_size=200))
def test_a_block_that_is_read_without_the_decoder_is_what_the_decoder_reads(block: bytes) -> None:
    fields = plain_literals(b"\x00\x04name" + block)
    if fields is not None:
        assert fields == list(hpack.Decoder().decode(b"\x00\x04name" + block, raw=True))


@pytest.mark.parametrize("status", [200, 400, 403, 404, 405, 503])
def test_our_answers_are_read_by_another_hpack_and_by_ours(status: int) -> None:
    assert list(hpack.Decoder().decode(status_block(status), raw=True)) == [(b":status", str(status).encode())]
    assert HeaderDecoder().status(status_block(status), 1) == status


@pytest.mark.parametrize("size", [0, 100, 4096, 65536])
def test_our_first_block_fits_any_table_that_a_peer_asks_for(size: int) -> None:
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = size
    assert list(decoder.decode(NO_TABLE + status_block(200), raw=True)) == [(b":status", b"200")]
    assert list(decoder.decode(status_block(503), raw=True)) == [(b":status", b"503")]


@pytest.mark.parametrize("huffman", [False, True])
def test_blocks_that_use_the_table_are_read_also_between_our_own(huffman: bool) -> None:
    encoder, reader = hpack.Encoder(), HeaderDecoder()
    fields = [(":method", "CONNECT"), (":authority", "app.example:443"), ("x-request-id", "abc")]
    for _ in range(3):
        assert reader.request(encoder.encode(fields, huffman=huffman), 1).authority == b"app.example:443"
        assert reader.request(connect_block(b"127.0.0.1:1"), 1).authority == b"127.0.0.1:1"


@pytest.mark.parametrize("kind", ["request", "status"])
@given(block=st.binary(max_size=200))
def test_junk_is_a_protocol_error_or_a_decoded_value(kind: str, block: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert getattr(HeaderDecoder(), kind)(block, 1)


@given(AUTHORITIES, st.integers(0, 40), st.integers(0, 255))
def test_our_form_with_a_byte_changed_means_what_hpack_says(authority: bytes, place: int, byte: int) -> None:
    block = bytearray(connect_block(authority))
    block[place % len(block)] = byte
    try:
        fields = dict(hpack.Decoder().decode(bytes(block), raw=True))
    except (hpack.HPACKError, UnicodeDecodeError):
        fields = {}
    try:
        request = HeaderDecoder().request(bytes(block), 1)
    except ProtocolError:
        return
    assert request[:2] == (fields[b":method"], fields.get(b":authority", b""))
