"""Fields out of HPACK and into it: the same as the library's, whatever was remembered."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.http2.fields import BlockReader, BlockWriter, Field, FieldDecoder, MalformedError
from meshtls.wire.http2.frames import ErrorCode, ProtocolError
from meshtls.wire.http2.requests import checked_fields

NAMES = st.sampled_from(["x", "content-type", "content-length", ":path", "cookie", "set-cookie", "x-" + "n" * 200])
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200) | st.sampled_from(["a", "b"])


@given(st.lists(st.tuples(st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=6), st.booleans()), max_size=8))
def test_blocks_of_any_encoder_read_as_the_library_reads_them(
    lists: list[tuple[list[tuple[str, str, bool]], bool]],
) -> None:
    encoder, ours, library = hpack.Encoder(), FieldDecoder(1 << 16), hpack.Decoder()
    for fields, huffman in lists:
        block = encoder.encode(fields, huffman=huffman)
        wanted = list(library.decode(block, raw=True))
        assert ours.decode(block) == [tuple(field) for field in wanted]
        assert ours.never == {bytes(field[0]) for field in wanted if not field.indexable}


def test_a_field_far_back_in_the_table_is_read_as_the_library_reads_it() -> None:
    fields = [(f"x-{number}", str(number)) for number in range(90)]
    encoder, ours = hpack.Encoder(), FieldDecoder(1 << 16)
    ours.decode(encoder.encode(fields))
    block = encoder.encode(fields)
    assert block[0] == 0xFF, "the first of them has an index of more than one byte"
    assert ours.decode(block) == [(name.encode(), value.encode()) for name, value in fields]


@pytest.mark.parametrize(
    ("block", "fields"),
    [
        pytest.param(b"\x0f\x0d\x0212", [(b"content-length", b"12")], id="an index of two bytes, as of nghttp2"),
        pytest.param(b"\x1f\x08\x01t", [(b"authorization", b"t")], id="the same, in no table"),
        pytest.param(b"\x00\x01x\x7f\x49" + b"v" * 200, [(b"x", b"v" * 200)], id="a long value"),
        pytest.param(b"\x00\x7f\x01" + b"n" * 128 + b"\x01v", [(b"n" * 128, b"v")], id="a long name"),
        pytest.param(b"\x0f\x81\x80\x00\x01a", None, id="an integer of four bytes, left to the library"),
    ],
)
def test_a_block_that_leaves_the_table_alone_is_remembered(block: bytes, fields: list[Field] | None) -> None:
    reads: list[list[Field]] = []

    def parse(fields: list[Field]) -> int:
        reads.append(fields)
        return len(reads)

    reader = BlockReader(FieldDecoder(1 << 12), parse)
    found = [reader.read(block), reader.read(block)]
    assert found == ([1, 1] if fields else [1, 2])
    assert reads[0] == (fields or [(b"accept-encoding", b"a")])


@pytest.mark.parametrize("sizes", [[0], [100], [100, 0], [4096]])
def test_a_change_of_the_tables_size_is_followed(sizes: list[int]) -> None:
    encoder, ours = hpack.Encoder(), FieldDecoder(1 << 16)
    fields = [("x-a", "1" * 50), ("x-b", "2" * 50)]
    for size in [4096, *sizes, 4096]:
        encoder.header_table_size = size
        for _ in range(3):
            got = ours.decode(encoder.encode(fields))
            assert got == [(name.encode(), value.encode()) for name, value in fields]


def test_a_block_means_something_else_once_the_table_changed() -> None:
    reads: list[list[Field]] = []

    def parse(fields: list[Field]) -> int:
        reads.append(fields)
        return len(reads)

    reader = BlockReader(FieldDecoder(1 << 12), parse)
    assert reader.read(b"\x40\1x\1a") == 1
    assert [reader.read(b"\xbe"), reader.read(b"\xbe")] == [2, 2]
    reader.read(b"\x40\1x\1b")
    assert reader.read(b"\xbe") == 4
    assert reads == [[(b"x", b"a")], [(b"x", b"a")], [(b"x", b"b")], [(b"x", b"b")]]


def test_another_reader_of_the_same_table_changes_it_too() -> None:
    decoder = FieldDecoder(1 << 12)
    one, other = (BlockReader(decoder, list) for _ in range(2))
    one.read(b"\x40\1x\1a")
    assert one.read(b"\xbe") == [(b"x", b"a")]
    other.read(b"\x40\1x\1b")
    assert one.read(b"\xbe") == [(b"x", b"b")]


def test_a_malformed_block_is_malformed_each_time_and_keeps_the_table_in_step() -> None:
    def parse(fields: list[Field]) -> list[Field]:
        if fields[0][1] == b"bad":
            raise MalformedError("bad")
        return fields

    reader = BlockReader(FieldDecoder(1 << 12), parse)
    reader.read(b"\x40\1x\1a")
    for block in (b"\x40\1x\3bad", b"\xbe", b"\xbe"):
        with pytest.raises(MalformedError):
            reader.read(block)
    assert reader.read(b"\xbf") == [(b"x", b"a")]


def test_remembered_blocks_are_bounded() -> None:
    reader = BlockReader(FieldDecoder(1 << 12), list)
    writer = BlockWriter()
    for number in range(5000):
        reader.read(b"\0\4" + number.to_bytes(4) + b"\1a")
        writer.block([(":path", f"/{number}")], [("x", str(number)), ("y", "v" * 300)])
    assert len(reader._known) <= 64
    assert max(len(writer._known), len(writer._pseudo)) <= 256


@pytest.mark.parametrize(("fields", "fits"), [(4, True), (5, False)])
def test_a_list_may_be_as_long_as_the_limit(fields: int, fits: bool) -> None:
    for block in (b"\0\1x\3abc" * fields, b"\x0f\x2e\3abc" + b"\0\1x\3abc" * (fields - 1)):
        decoder = FieldDecoder(4 * 36 if block[0] == 0 else 3 * 36 + len(b"www-authenticate") + 3 + 32)
        if fits:
            assert len(decoder.decode(block)) == fields
        else:
            with pytest.raises(ProtocolError) as raised:
                decoder.decode(block)
            assert raised.value.code is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "field", [("x", "a\nb"), ("X", "a"), (":path", "/"), ("x y", "a"), ("x", "\u20ac"), ("x", " a")]
)
def test_a_field_that_cannot_be_in_a_request_is_not_written(field: tuple[str, str]) -> None:
    writer = BlockWriter()
    for _ in range(2):
        with pytest.raises(ValueError, match="in a request|encode"):
            writer.block([(":path", "/")], [field])


def test_a_written_block_is_read_by_the_library() -> None:
    fields = [("x", ""), ("y", "v" * 126), ("z", "v" * 127), ("w" * 300, "\xe9" * 1000)]
    block = BlockWriter().block([(":status", "200")], fields, {b"y"})
    got = list(hpack.Decoder().decode(block, raw=True))
    assert [(name.decode(), value.decode("latin-1")) for name, value in got] == [(":status", "200"), *fields]
    assert [bytes(field[0]) for field in got if not field.indexable] == [b"y"]


def test_a_connection_remembers_checked_fields_within_bounds_and_none_that_it_refused() -> None:
    decoder = FieldDecoder(1 << 16)
    for _ in range(2):
        assert checked_fields([(b"te", b"trailers"), (b"x", b"1")], decoder.texts) == [("te", "trailers"), ("x", "1")]
        for odd in [(b"te", b"gzip"), (b"x", b"1\n"), (b"X", b"1"), (b"connection", b"x")]:
            with pytest.raises(MalformedError):
                checked_fields([odd], decoder.texts)
    for number in range(500):
        checked_fields([(b"x", b"%d" % number), (b"y", b"%d" % number + b"v" * 256)], decoder.texts)
    assert 0 < len(decoder.texts) <= 64
    assert {name for name, _ in decoder.texts.values()} <= {"te", "x"}


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.booleans())
def test_the_size_of_a_block_is_that_of_its_fields(fields: list[tuple[str, str]], indexed: bool) -> None:
    decoder, encoder = FieldDecoder(1 << 16), hpack.Encoder()
    for _ in range(1 + indexed):
        decoder.decode(encoder.encode(fields))
        assert decoder.size == sum(len(name) + len(value) + 32 for name, value in fields)
