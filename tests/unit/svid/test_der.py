"""The elements of DER are found by their lengths, or refused."""

from __future__ import annotations

import pytest

from meshtls.svid.der import INTEGER, OCTET_STRING, elements, parts

_FORM = "a length of a form that DER does not have, or longer than the data"
_CUT = "an element is longer than what it stands in"


@pytest.mark.parametrize("size", [0, 1, 127])
def test_a_short_length_is_one_byte(size: int) -> None:
    element = bytes([OCTET_STRING, size]) + bytes(size)
    assert list(elements(element * 2)) == [(OCTET_STRING, bytes(size), element)] * 2


@pytest.mark.parametrize("size", [128, 255, 256, 70_000])
@pytest.mark.parametrize("count", [3, 4])
def test_a_long_length_has_up_to_four_bytes(size: int, count: int) -> None:
    element = bytes([OCTET_STRING, 0x80 + count]) + size.to_bytes(count) + bytes(size)
    assert list(elements(element * 2)) == [(OCTET_STRING, bytes(size), element)] * 2


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x04", "an element is cut short"),
        (b"\x04\x01a\x04", "an element is cut short"),
        (b"\x1f\x01a", "a tag of more than one byte"),
        (b"\xff\x01a", "a tag of more than one byte"),
        (b"\x30\x80" + bytes(200), _FORM),
        (b"\x04\x85\x00\x00\x00\x00\x01a", _FORM),
        (b"\x04\x82\x01", _FORM),
        (b"\x04\x81\x80", _CUT),
        (b"\x04\x02a", _CUT),
        (b"\x04\x81\x80" + bytes(127), _CUT),
    ],
)
def test_an_element_that_is_cut_off_or_of_another_form_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        list(elements(data))


def test_the_first_elements_of_a_content_have_the_tags_that_are_wanted() -> None:
    content = b"\x02\x01\x07\x04\x00\x04\x01a"
    assert parts(content, INTEGER, OCTET_STRING) == [
        (INTEGER, b"\x07", b"\x02\x01\x07"),
        (OCTET_STRING, b"", b"\x04\x00"),
    ]
    with pytest.raises(ValueError, match=r"^wanted elements 0x04, 0x02, got 0x02, 0x04$"):
        parts(content, OCTET_STRING, INTEGER)
    with pytest.raises(ValueError, match=r"^wanted elements 0x02, got none$"):
        parts(b"", INTEGER)
