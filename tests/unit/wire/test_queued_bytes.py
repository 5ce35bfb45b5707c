"""What a filter of HTTP has queued for a side is empty when there is nothing to take for it, and only then."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshtls.wire.http import Answer, Forward, HttpFilter, HttpRequest, Judge
from meshtls.wire.http1.filter import Http1Filter
from meshtls.wire.http2.filter import Http2Filter
from meshtls.wire.http2.frames import END_HEADERS, END_STREAM, PREFACE
from tests.unit.wire.http2.ends import headers, settings

WHOLE = END_HEADERS | END_STREAM
HTTP1 = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#: GET, http, / and an authority, as HPACK writes them.
HTTP2 = b"\x82\x86\x84\x41\x01h"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("made", "requests", "answer"),
    [
        (Http1Filter, (HTTP1, HTTP1), OK),
        (
            Http2Filter,
            (PREFACE + settings() + headers(1, HTTP2, WHOLE), headers(3, HTTP2, WHOLE)),
            settings() + headers(1, b"\x88", WHOLE),
        ),
    ],
    ids=["HTTP/1.1", "HTTP/2"],
)
def test_a_side_has_bytes_queued_until_they_are_taken(
    made: Callable[[Judge, Callable[[], None]], HttpFilter], requests: tuple[bytes, bytes], answer: bytes
) -> None:
    one = made(allowed, lambda: None)
    one.from_client(requests[0])
    assert one.for_app(), "the app is connected, and gets what waited for it"
    one.for_client()
    assert (bool(one.queued_for_app), bool(one.queued_for_client)) == (False, False)

    one.from_client(requests[1])
    assert (bool(one.queued_for_app), bool(one.queued_for_client)) == (True, False)
    assert one.for_app()
    assert not one.queued_for_app

    one.from_app(answer)
    assert one.queued_for_client
    assert one.for_client()
    assert not one.queued_for_client


def allowed(http: HttpRequest, answer: Answer) -> None:
    answer(Forward(http))
