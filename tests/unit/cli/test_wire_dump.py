"""The hex dump of a message with many bytes or many fields."""

from __future__ import annotations

import cProfile
import pstats

import pytest

from meshtls.cli.wire_dump import print_fields
from meshtls.wire.tls.fields import Field


def tree(leaves: int, size: int) -> tuple[bytes, Field]:
    """So many fields of ``size`` bytes each."""
    fields = tuple(Field(f"f{at}", at * size, size, bytes(size)) for at in range(leaves))
    return bytes(leaves * size), Field("message", 0, leaves * size, children=fields)


def test_each_row_has_its_bytes_and_below_them_the_letters_of_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    fields = (
        Field("type", 0, 1, 1, "one"),
        Field("empty", 1, 0, b""),
        Field("name", 1, 17, b"a name, and more\0"),
        Field("rest", 18, 2, b"\x7f\xff", error="byte 18: wanted 3 bytes"),
    )
    print_fields(b"\x01a name, and more\0\x7f\xff", Field("message", 0, 20, children=fields))
    assert capsys.readouterr().out == (
        "0000  01 61 20 6e 61 6d 65 2c 20 61 6e 64 20 6d 6f 72  .a name, and mor\n"
        "      a- b-------------------------------------------\n"
        "0010  65 00 7f ff                                      e...\n"
        "      b---- c----\n"
        "a  0000  type   0x01: one\n"
        "   0001  empty  0 bytes\n"
        "b  0001  name   17 bytes: 61 20 6e 61 6d 65 2c 20 61 6e 64 20 6d 6f 72 65 ...\n"
        "c  0012  rest   2 bytes: 7f ff\n"
        "         byte 18: wanted 3 bytes\n"
    )


def test_a_message_without_bytes_has_no_dump(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields(b"", Field("message", 0, 0))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("size", [1, 64])
def test_a_dump_takes_work_in_proportion_to_its_bytes_and_fields(size: int) -> None:
    few, many = (calls(*tree(leaves, size)) for leaves in (500, 2000))
    assert many < 5 * few


def test_a_row_of_a_long_field_takes_a_few_calls_and_not_those_of_a_line_with_colours() -> None:
    rows = 1000
    assert calls(*tree(1, 16 * rows)) < 40 * rows


def calls(data: bytes, fields: Field) -> int:
    """Of functions, while this is printed."""
    with cProfile.Profile() as profile:
        print_fields(data, fields)
    return sum(calls for _, calls, *_ in pstats.Stats(profile).stats.values())  # type: ignore[attr-defined]
