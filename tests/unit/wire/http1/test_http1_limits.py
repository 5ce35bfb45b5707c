"""The limits of what a client may send, each with its twin one byte or field below."""

from __future__ import annotations

import pytest

from meshtls.wire.http import HttpLimits
from meshtls.wire.http1.fields import Field, MessageError, check_partial, read_field
from tests.unit.wire.http1.ends import App, Around, bytewise, get

LIMITS = HttpLimits(
    header_bytes=300, header_count=3, uri_length=100, extension_bytes=10, trailer_bytes=60, dropped_bytes=100
)
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def _of_size(size: int) -> bytes:
    short = get("/", "X: ")
    return get("/", "X: " + "x" * (size - len(short)))


#: What passes, what is refused, and with which status.
LIMITED = {
    "target": (get("/" + "a" * 99), get("/" + "a" * 100), 414),
    "target without an end": (get("/" + "a" * 99), b"GET /" + b"a" * 200, 414),
    "target of a method without an end": (get("/"), b"A" * 200, 414),
    "head": (_of_size(300), _of_size(301), 431),
    "head without an end": (_of_size(300), get("/", "X: " + "x" * 400)[:310], 431),
    "fields": (get("/", "A: 1", "B: 2"), get("/", "A: 1", "B: 2", "C: 3"), 431),
    "a name": (get("/", "a" * 256 + ":"), get("/", "a" * 257 + ":"), 431),
    "options of Connection": (
        get("/", f"Connection: {','.join('a' * 32)}"),
        get("/", f"Connection: {','.join('a' * 33)}"),
        431,
    ),
    "extensions": (
        CHUNKED + b"1;abcd\r\nx\r\n0;abcd\r\n\r\n",
        CHUNKED + b"1;abcd\r\nx\r\n0;abcde\r\n\r\n",
        400,
    ),
    "an extension without an end": (CHUNKED + b"0\r\n\r\n", CHUNKED + b"1;" + b"x" * 30, 400),
    "trailers": (
        CHUNKED + b"0\r\nX: " + b"x" * 53 + b"\r\n\r\n",
        CHUNKED + b"0\r\nX: " + b"x" * 54 + b"\r\n\r\n",
        431,
    ),
    "trailers without an end": (CHUNKED + b"0\r\n\r\n", CHUNKED + b"0\r\nX: " + b"x" * 90, 431),
    "trailer fields": (
        CHUNKED + b"0\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n",
        CHUNKED + b"0\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n",
        431,
    ),
    "a bad byte before the limit": (get("/"), b"GET /a\x01" + b"a" * 200, 400),
    "a bad byte after the limit": (get("/"), b"GET /" + b"a" * 200 + b"\x01", 414),
    "a bad byte after a bad field": (get("/"), get("/", "X" * 257 + ": 1", "Y: \x01"), 400),
}


@pytest.mark.parametrize("cut", [lambda data: [data], bytewise], ids=["whole", "bytewise"])
@pytest.mark.parametrize("name", LIMITED)
def test_a_limit_refuses_what_is_beyond_it(name: str, cut: object) -> None:
    passes, refused, status = LIMITED[name]
    assert Around(app=App(), limits=LIMITS).client(*cut(passes)).statuses == [200]  # type: ignore[operator]
    around = Around(app=App(), limits=LIMITS).client(*cut(refused))  # type: ignore[operator]
    assert around.statuses == [status]
    assert around.finished == (True, True)
    assert around.app is not None
    assert around.app.seen == []


def test_a_limit_that_is_far_away_does_not_change_which_violation_counts() -> None:
    sent = get("/", "X" * 257 + ": 1", "Y: \x01")
    assert Around().client(sent).statuses == Around().client(*bytewise(sent)).statuses == [400]


UNFINISHED = {
    "a size that is none": (b"5", b"5x"),
    "a size that is too long": (b"0" * 15, b"0" * 16),
    "a blank": (b"5;", b"5 "),
    "an extension": (b"5;" + b"a" * 9, b"5;" + b"a" * 25),
    "a control byte in an extension": (b"5;a", b"5;\x01"),
    "CR before another byte": (b"5\r", b"5\rx"),
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_a_chunk_s_size_is_refused_before_its_line_ends(name: str) -> None:
    passes, refused = UNFINISHED[name]
    assert Around(limits=LIMITS).client(CHUNKED + passes).statuses == []
    assert Around(limits=LIMITS).client(CHUNKED + refused).statuses == [400]
    assert Around(limits=LIMITS).client(CHUNKED, *bytewise(refused)).statuses == [400]


def test_an_extension_without_an_end_has_the_bytes_that_are_left() -> None:
    most = b"1;" + b"a" * 24  # a size may have 15 digits, and the extensions 10 bytes
    assert Around(limits=LIMITS).client(CHUNKED + most).statuses == []
    assert Around(limits=LIMITS).client(CHUNKED + most + b"a").statuses == [400]


def test_the_line_feed_of_a_chunk_s_size_may_come_with_what_follows() -> None:
    around = Around(app=App()).client(CHUNKED + b"5\r", b"\nhello\r\n0\r\n\r\n")
    assert around.app is not None
    assert [one.body for one in around.app.seen] == [b"hello"]


@pytest.mark.parametrize(
    ("section", "status"),
    [
        (b"x" * 10, None),
        (b"x" * 11, 414),
        (b"x" * 10 + b"\x01", 400),
        (b"x" * 10 + b"\r\ny", None),
        (b"x" * 11 + b"\r\n", 414),
        (b"\r\n" + b"x" * 20, None),
        (b"x\r\n" + b"y" * 27, None),
        (b"x\r\n" + b"y" * 28, 431),
        (b"x\r\n" + b"y" * 27 + b"\x01", 400),
    ],
)
def test_the_first_violation_of_a_section_counts(section: bytes, status: int | None) -> None:
    """At most 30 bytes, of which the first line has at most 10."""
    try:
        check_partial(section, 30, first_line=10)
        found = None
    except MessageError as error:
        found = error.status
    assert found == status


def test_short_lines_are_remembered_until_there_are_many() -> None:
    seen: dict[str, Field] = {}
    for number in range(32):
        line = f"X-{number}: {number}"
        assert read_field(line, seen) is seen[line]
    assert len(seen) == 32
    read_field("X: 1", seen)
    assert list(seen) == ["X: 1"]
    for size in (256, 257):
        read_field("Y: ".ljust(size, "y"), seen)
    assert [len(line) for line in seen] == [4, 256]


MESSAGES = {
    " X: 1": "wanted a field's name first in each line, got an empty name or a folded line",
    "\tX: 1": "wanted a field's name first in each line, got an empty name or a folded line",
    ": 1": "wanted a field's name first in each line, got an empty name or a folded line",
    "X : 1": "wanted a field's name and a colon right after it, got 'X '",
    "X": "wanted a field's name and a colon, got 'X'",
    "(" * 40 + ": 1": f"wanted a field's name and a colon right after it, got '{'(' * 40}'",
    "(" * 41 + ": 1": f"wanted a field's name and a colon right after it, got '{'(' * 40}...'",
    "\xe9: 1": "wanted a field's name and a colon right after it, got '\\xe9'",
    "Content_Length: 1": "wanted no name that can be taken for another's, got 'Content_Length'",
}


@pytest.mark.parametrize("line", MESSAGES)
def test_a_field_is_refused_with_what_was_wanted_and_what_came(line: str) -> None:
    with pytest.raises(MessageError) as caught:
        read_field(line, {})
    assert str(caught.value) == MESSAGES[line]


def test_names_with_underscores_pass_if_they_may() -> None:
    sent = get("/", "X_User: 1")
    assert Around().client(sent).statuses == [400]
    around = Around(limits=HttpLimits(underscore_names=True)).client(sent)
    assert around.judged[0].headers == (("x_user", "1"),)
    hidden = get("/", "Content_Length: 1")
    assert Around(limits=HttpLimits(underscore_names=True)).client(hidden).statuses == [400]


def test_a_client_cannot_have_more_than_a_few_fields_remembered() -> None:
    around = Around(app=App())
    for number in range(100):
        around.client(get("/", f"X-{number}: {number}"))
    assert around.statuses == [200] * 100
    assert len(around.filter._client_fields) <= 32
