"""What the lesson's tests state holds for our frames, and what its code builds and parses ours does byte by byte."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.wire.frame import FrameError, build, checksum, parse
from meshtls.wire.frame.packet import HEADER_BYTES, Bytes
from tests.unit.wire.frame.lesson import lesson, reference


class Adapter:
    """Our functions with the names, and the results, of the lesson's class."""

    HDR_SIZE = HEADER_BYTES

    @staticmethod
    def build(pkt_type: int, payload: bytes, flags: int = 0, pkt_id: int = 0) -> bytes:
        return build(pkt_type, payload, flags, pkt_id)

    @staticmethod
    def parse(data: bytes) -> dict[str, Any]:
        return parse(data)._asdict()

    checksum = staticmethod(checksum)


# -- the behaviours that its five tests state --


def test_a_frame_that_was_built_is_parsed() -> None:
    frame = parse(build(1, b"test data", identifier=42))
    assert (frame.version, frame.type, frame.flags, frame.length, frame.id) == (1, 1, 0, 17, 42)
    assert frame == (1, 1, 0, 17, 42, b"test data")


def test_a_frame_shorter_than_its_header_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="^short header at offset 2: wanted a header of 8 bytes, got 2$"):
        parse(b"\x10\x00")
    assert parse(b"\x10\x00\x00\x08" + bytes(4)) == (1, 0, 0, 8, 0, b"")


def test_data_with_their_checksum_have_the_checksum_zero() -> None:
    data = b"\x00\x01\x00\x02"
    assert checksum(data) == 0xFFFC
    assert checksum(data + checksum(data).to_bytes(2, "big")) == 0
    assert checksum(data + (checksum(data) ^ 1).to_bytes(2, "big")) != 0


def test_an_empty_payload_has_the_length_of_the_header() -> None:
    assert parse(build(0, b"")) == (1, 0, 0, 8, 0, b"")


def test_a_payload_of_10_000_bytes_is_parsed_whole() -> None:
    assert parse(build(1, b"X" * 10_000)).payload == b"X" * 10_000


def test_the_five_tests_of_the_lesson_pass_through_an_adapter() -> None:
    names: dict[str, Any] = {"PacketBuilder": Adapter}
    exec(lesson()[1], names)  # noqa: S102  # its own tests are what is run
    tests = [name for name in names if name.startswith("test_")]
    assert len(tests) == 5
    for name in tests:
        names[name]()


# -- recorded: input, and what the lesson's code answers --

DEMO = bytes.fromhex(
    "1100 0032 0000 002a 4865 6c6c 6f20 6672 6f6d 206d 544c 5320 696e 2074 6865 206d 6573 6820 2853 5049"
    "4646 452f 5350 4952 4529"
)


def test_the_packet_of_the_lessons_demo() -> None:
    payload = b"Hello from mTLS in the mesh (SPIFFE/SPIRE)"
    assert build(1, payload, identifier=42) == DEMO
    assert parse(DEMO) == (1, 1, 0, 50, 42, payload)
    assert f"{checksum(DEMO):#06x}" == "0x66d1"


@pytest.mark.parametrize(
    ("arguments", "built"),
    [
        ((0, b""), "1000000800000000"),
        ((15, b"\xff", 255, 2**32 - 1), "1fff0009ffffffffff"),
        ((16, b"a", 1, 2), "100100090000000261"),
        ((-1, b""), "1f00000800000000"),
        ((-16, b""), "1000000800000000"),
        ((True, bytearray(b"ab")), "1100000a000000006162"),
        ((1, memoryview(b"abcd")[::2].tobytes()), "1100000a000000006163"),
    ],
)
def test_recorded_packets_are_built(arguments: Any, built: str) -> None:
    assert build(*arguments).hex() == built


def test_the_largest_payload_has_65_527_bytes() -> None:
    largest = build(1, bytes(65_527))
    assert largest[:8].hex() == "1100ffff00000000"
    assert parse(largest) == (1, 1, 0, 65_535, 0, bytes(65_527))
    with pytest.raises(struct.error):
        build(1, bytes(65_528))


@pytest.mark.parametrize(("flags", "identifier"), [(256, 0), (-1, 0), (0, 2**32), (0, -1)])
def test_values_that_do_not_fit_into_their_fields_are_refused(flags: int, identifier: int) -> None:
    with pytest.raises(struct.error):
        build(1, b"", flags, identifier)


@pytest.mark.parametrize(
    ("data", "parsed"),
    [
        # A length that ends before the header does: no payload.
        ("0000000000000000 6161", (0, 0, 0, 0, 0, b"")),
        ("f9ff000700000001 6161", (15, 9, 255, 7, 1, b"")),
        # One byte more than the header, and bytes after it.
        ("1100000900000000 6162", (1, 1, 0, 9, 0, b"a")),
        # A length that ends after the data.
        ("1100ffff00000000 6162", (1, 1, 0, 65_535, 0, b"ab")),
        ("1100ffff00000000", (1, 1, 0, 65_535, 0, b"")),
    ],
)
def test_recorded_packets_are_parsed(data: str, parsed: tuple[object, ...]) -> None:
    assert parse(bytes.fromhex(data)) == parsed


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_payload_has_the_type_of_the_data(kind: type[bytes]) -> None:
    payload = parse(kind(build(1, b"abc"))).payload
    assert (type(payload), bytes(payload)) == (kind, b"abc")


@pytest.mark.parametrize(
    ("data", "sum_"),
    [
        (b"", 0xFFFF),
        (bytes(7), 0xFFFF),
        (b"\xff\xff", 0),
        (b"\xff", 0x00FF),
        (b"\x01", 0xFEFF),
        (b"\x00\x01\xff\xfe", 0),
        (b"\x80\x00\x80\x00", 0xFFFE),
        # RFC 1071, section 3: the example, whose sum is 0xddf2.
        (bytes.fromhex("0001f203f4f5f6f7"), 0xDDF2 ^ 0xFFFF),
    ],
)
def test_recorded_checksums(data: bytes, sum_: int) -> None:
    held = bytearray(data)
    assert [checksum(one) for one in (data, held, memoryview(data))] == [sum_] * 3
    assert held == data


# -- beside the lesson's code, on whatever comes --


def result_of(act: Any, *arguments: Any) -> Any:
    try:
        return act(*arguments)
    except (struct.error, ValueError) as error:
        return "too short" if isinstance(error, FrameError) or "Too short" in str(error) else "does not fit"


numbers = st.integers(-2, 300) | st.integers(0, 2**32) | st.integers()
payloads = st.binary(max_size=80) | st.sampled_from(
    [bytes(65_527), bytes(65_528), bytearray(b"abc"), memoryview(b"abc")]
)


@given(numbers, payloads, numbers, numbers)
def test_building_has_the_results_of_the_lessons_code(kind: int, payload: Bytes, flags: int, identifier: int) -> None:
    expected = result_of(reference().build, kind, payload, flags, identifier)
    assert result_of(build, kind, payload, flags, identifier) == expected


@given(st.binary(max_size=40), st.sampled_from([bytes, bytearray, memoryview]))
def test_parsing_has_the_results_of_the_lessons_code(data: bytes, kind: Any) -> None:
    expected = result_of(reference().parse, kind(data))
    got = result_of(lambda one: parse(one)._asdict(), kind(data))
    assert got == expected
    if isinstance(expected, dict):
        assert type(got["payload"]) is type(expected["payload"])


@given(st.binary(max_size=4000))
def test_checksums_are_those_of_the_lessons_code(data: bytes) -> None:
    assert checksum(data) == reference().checksum(data)


def test_a_sum_of_many_words_is_folded_more_than_once() -> None:
    data = b"\xff\xfe" * 200_001
    assert checksum(data) == reference().checksum(data)
