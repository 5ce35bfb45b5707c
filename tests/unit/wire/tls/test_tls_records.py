"""Records cut from one direction's bytes, however these are cut, and messages put together from records."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.side import Side
from meshtls.wire.tls.assembling import MAX_MESSAGE, MessageAssembler
from meshtls.wire.tls.names import ContentType
from meshtls.wire.tls.reading import DecodeError
from meshtls.wire.tls.records import MAX_PAYLOAD, SSL_2_0_HELLO, Record, RecordReader

HANDSHAKE, DATA = ContentType.HANDSHAKE, ContentType.APPLICATION_DATA


def record(kind: int, payload: bytes, version: int = 0x0303) -> bytes:
    return bytes((kind, *version.to_bytes(2, "big"), *len(payload).to_bytes(2, "big"))) + payload


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind, *len(body).to_bytes(3, "big"))) + body


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


def read(parts: list[bytes], side: Side = Side.CLIENT, **options: bool) -> tuple[list[Record], DecodeError | None]:
    reader = RecordReader(side, **options)
    found = [one for part in parts for one in reader.feed(part)]
    assert reader.offset == sum(map(len, parts))
    return found, reader.error


#: An SSL 2.0 ClientHello that offers TLS 1.0, as old clients sent it (RFC 5246, appendix E.2).
SSL_2_0 = bytes.fromhex("802e0103010015000000100100800300800700c006004002008004008000002f") + bytes(range(16))

kinds = st.sampled_from([20, 21, 22, 23, 24])
streams = st.lists(
    st.builds(record, kinds, st.binary(max_size=40), st.sampled_from([0x0300, 0x0301, 0x0303])), max_size=6
)
sizes = st.lists(st.integers(0, 12), max_size=12)


def test_a_record_has_its_offset_and_its_parts() -> None:
    data = record(HANDSHAKE, b"hello", 0x0301) + record(DATA, b"")
    assert read([data]) == ([Record(0, 22, 0x0301, 5, b"hello"), Record(10, 23, 0x0303, 0, b"")], None)


@given(streams, sizes, st.booleans(), st.sampled_from(Side))
def test_any_cut_gives_the_same_records(parts: list[bytes], cuts: list[int], keep: bool, side: Side) -> None:
    data = b"".join(parts)
    found, error = read(pieces(data, cuts), side, keep_application_data=keep)
    assert error is None
    assert (found, error) == read([data], side, keep_application_data=keep)
    assert len(found) == len(parts)
    assert [one.offset for one in found] == [sum(map(len, parts[:place])) for place in range(len(parts))]
    for one, part in zip(found, parts, strict=True):
        assert one.payload == (part[5:] if keep or one.content_type != DATA else b"")
        assert one.length == len(part) - 5


@given(streams, st.binary(max_size=30), sizes, st.booleans(), st.sampled_from(Side))
def test_any_cut_of_any_bytes_gives_the_same_records_and_error(
    parts: list[bytes], junk: bytes, cuts: list[int], keep: bool, side: Side
) -> None:
    data = b"".join(parts) + junk
    assert read(pieces(data, cuts), side, keep_application_data=keep) == read([data], side, keep_application_data=keep)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"G", "byte 0: wanted a content type from 20 to 24, got 71"),
        (b"\x16\x02", "byte 1: wanted a version with the major number 3, got 2"),
        (b"\x16\x03\x03\x48\x01", "byte 3: wanted a record of at most 18432 bytes, got 18433"),
        (b"\x19\x03\x03\x00\x01", "byte 0: wanted a content type from 20 to 24, got 25"),
        (b"\x80\x2e\x04", "byte 0: wanted a content type from 20 to 24, got 128"),
        (record(21, b"\1\0") + b"\x80\x2e\x01", "byte 7: wanted a content type from 20 to 24, got 128"),
    ],
)
def test_bytes_that_are_no_record_end_the_direction_with_offset_and_reason(data: bytes, error: str) -> None:
    reader = RecordReader(Side.CLIENT)
    before = reader.feed(data)
    assert reader.error is not None
    assert reader.error.text == error
    assert len(before) == (data[0] == 21)
    assert reader.feed(record(HANDSHAKE, b"late")) == []
    assert reader.error.text == error


def test_the_longest_record_is_read() -> None:
    assert read([record(DATA, bytes(MAX_PAYLOAD))]) == ([Record(0, 23, 0x0303, MAX_PAYLOAD, bytes(MAX_PAYLOAD))], None)


@given(sizes)
def test_an_ssl_2_0_hello_is_read_as_the_first_record_of_a_client(cuts: list[int]) -> None:
    data = SSL_2_0 + record(HANDSHAKE, b"next")
    found, error = read(pieces(data, cuts))
    assert error is None
    assert found == [Record(0, SSL_2_0_HELLO, 2, 46, SSL_2_0[2:]), Record(48, 22, 0x0303, 4, b"next")]
    assert read(pieces(data, cuts), Side.SERVER)[1] == (0, "wanted a content type from 20 to 24, got 128")


def test_a_record_whose_bytes_were_partly_lost_is_counted() -> None:
    reader = RecordReader(Side.SERVER)
    data = record(DATA, bytes(100))
    assert reader.feed(data[:30]) == []
    assert reader.lost(50) == []
    assert reader.feed(data[80:] + record(DATA, b"x")) == [
        Record(0, 23, 0x0303, 100, b"", 50),
        Record(105, 23, 0x0303, 1, b"x"),
    ]
    assert reader.pending == 0


@pytest.mark.parametrize("keep", [True, False])
def test_a_loss_up_to_the_end_of_a_record_ends_it(keep: bool) -> None:
    reader = RecordReader(Side.SERVER, keep_application_data=keep)
    assert reader.feed(record(DATA, bytes(100))[:30]) == []
    assert reader.pending == 30
    assert reader.lost(75) == [Record(0, 23, 0x0303, 100, b"", 75)]
    assert reader.feed(record(DATA, b"")) == [Record(105, 23, 0x0303, 0, b"")]


@pytest.mark.parametrize("start", [0, 3, 30])
def test_a_loss_beyond_the_end_of_a_record_ends_the_direction(start: int) -> None:
    reader = RecordReader(Side.SERVER)
    reader.feed(record(DATA, bytes(100))[:start])
    assert reader.lost(106) == []
    error = (start, "106 bytes lost here: where the next record begins is not known")
    assert reader.error == error
    assert reader.pending == 0
    assert reader.feed(record(DATA, b"")) == []
    assert reader.lost(7) == []
    assert reader.error == error


def test_a_loss_right_after_a_header_is_within_the_record() -> None:
    reader = RecordReader(Side.SERVER)
    data = record(DATA, bytes(100))
    assert reader.feed(data[:5]) == []
    assert reader.lost(0) == []
    assert reader.lost(10) == []
    assert reader.feed(data[15:]) == [Record(0, 23, 0x0303, 100, b"", 10)]


def test_a_loss_within_a_hello_of_ssl_2_0_ends_the_direction() -> None:
    reader = RecordReader(Side.CLIENT)
    reader.feed(SSL_2_0[:20])
    assert reader.lost(1) == []
    assert reader.error == (20, "1 byte lost here: where the next record begins is not known")


def test_a_loss_of_nothing_changes_nothing() -> None:
    reader = RecordReader(Side.CLIENT)
    assert reader.lost(0) == []
    assert reader.feed(record(DATA, b"x")) == [Record(0, 23, 0x0303, 1, b"x")]


def test_a_reader_holds_one_record_at_most() -> None:
    reader = RecordReader(Side.CLIENT)
    for _ in range(40):
        reader.feed(record(DATA, bytes(MAX_PAYLOAD))[:-1])
        assert reader.pending == MAX_PAYLOAD + 4
        assert len(reader.feed(b"\0")) == 1


# -- messages --


@given(st.lists(st.builds(message, st.integers(0, 255), st.binary(max_size=30)), max_size=6), sizes)
def test_any_cut_gives_the_same_messages(messages: list[bytes], cuts: list[int]) -> None:
    assembler = MessageAssembler()
    parts = pieces(b"".join(messages), cuts)
    assert [one for part in parts for one in assembler.feed(part)] == messages
    assert assembler.pending == b""
    assert assembler.error is None


def test_the_beginning_of_a_message_is_pending() -> None:
    assembler = MessageAssembler()
    assert assembler.feed(message(20, b"done") + message(24, b"x")[:3]) == [message(20, b"done")]
    assert assembler.pending == b"\x18\0\0"


def test_the_longest_message_is_read_and_a_longer_one_is_refused_by_its_header() -> None:
    whole = message(11, bytes(MAX_MESSAGE - 4))
    assembler = MessageAssembler()
    assert assembler.feed(whole) == [whole]
    assert assembler.feed(b"\x0b" + (MAX_MESSAGE - 3).to_bytes(3, "big")) == []
    assert assembler.error == (MAX_MESSAGE + 1, "wanted a message of at most 1048576 bytes, got one of 1048577")
    assert assembler.feed(message(20, b"")) == []
    assert assembler.pending == b""


@given(st.binary(max_size=200), sizes)
def test_any_bytes_are_put_together_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    whole, cut = MessageAssembler(), MessageAssembler()
    expected = whole.feed(data)
    assert [one for part in pieces(data, cuts) for one in cut.feed(part)] == expected
    assert (cut.error, cut.pending) == (whole.error, whole.pending)


def test_the_records_of_an_openssl_handshake_are_read() -> None:
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="web.test")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    data = outgoing.read()
    (hello,), error = read([data])
    assert error is None
    assert hello == Record(0, HANDSHAKE, 0x0301, len(data) - 5, data[5:])
    assert MessageAssembler().feed(hello.payload) == [data[5:]]
