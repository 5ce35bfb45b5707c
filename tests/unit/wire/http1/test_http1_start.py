"""HTTP/1, HTTP/2 or something else, by the first bytes."""

from __future__ import annotations

import pytest

from meshtls.wire.http1.start import MAX_START, HttpStart, http_start_of

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: The first bytes, and how many of them decide.
DECIDED = {
    "HTTP/1.1": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", len(b"GET / HTTP/"), HttpStart.HTTP1),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\n", len(b"CONNECT a:1 HTTP/"), HttpStart.HTTP1),
    "empty lines in front": (b"\r\n\r\nGET / HTTP/1.1\r\n", len(b"\r\n\r\nGET / HTTP/"), HttpStart.HTTP1),
    "a method in small letters": (b"get / http/1.1\r\n", len(b"get / http/"), HttpStart.HTTP1),
    "no version": (b"GET /\r\n", len(b"GET /\r"), HttpStart.HTTP1),
    "no version, another method": (b"PROPFIND /x\r\n", len(b"PROPFIND /x\r"), HttpStart.HTTP1),
    "no version, an absolute target": (b"GET http://a/x\r\n", len(b"GET http://a/x\r"), HttpStart.HTTP1),
    "no version, another scheme": (b"LOCK ftp://a/x\n", len(b"LOCK ftp://a/x\n"), HttpStart.HTTP1),
    "no version, a relative target": (b"GET x\r\n", len(b"GET x\r"), HttpStart.HTTP1),
    "no version, no path": (b"PROPFIND *\r\n", len(b"PROPFIND *\r"), HttpStart.HTTP1),
    "no version, CONNECT": (b"CONNECT a:1\r\n", len(b"CONNECT a:1\r"), HttpStart.HTTP1),
    "HTTP/2": (PREFACE + b"\0\0\0\4", len(PREFACE), HttpStart.HTTP2),
    "PRI of another version": (b"PRI * HTTP/3.0\r\n", len(b"PRI * HTTP/3"), HttpStart.HTTP1),
    "TLS": (b"\x16\x03\x01", 1, HttpStart.OTHER),
    "SSH": (b"SSH-2.0-OpenSSH\r\n", len(b"SSH-2.0-OpenSSH\r\n"), HttpStart.OTHER),
    "SMTP": (b"EHLO a.example\r\n", len(b"EHLO a.example\r\n"), HttpStart.OTHER),
    "Redis": (b"*1\r\n$4\r\nPING\r\n", len(b"*1\r\n"), HttpStart.OTHER),
    "memcached": (b"get /key\r\n", len(b"get /key\r\n"), HttpStart.OTHER),
    "NATS": (b'CONNECT {"verbose":false}\r\n', len(b'CONNECT {"verbose":false}\r\n'), HttpStart.OTHER),
    "an anonymous bind of LDAP": (b"0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\0\x80\0", 3, HttpStart.OTHER),
    "PostgreSQL": (b"\0\0\0\x08\x04\xd2\x16\x2f", 1, HttpStart.OTHER),
}


@pytest.mark.parametrize("name", DECIDED)
def test_the_first_bytes_decide_as_soon_as_they_can(name: str) -> None:
    data, length, start = DECIDED[name]
    answers = [http_start_of(data[:end]) for end in range(len(data) + 1)]
    assert answers == [HttpStart.UNDECIDED] * length + [start] * (len(data) + 1 - length)


@pytest.mark.parametrize("space", [bytes([one]) for one in range(256) if chr(one).isspace() and one != 0x0A])
def test_every_space_at_which_python_parts_words_parts_those_of_a_request(space: bytes) -> None:
    for line in (b"GET %b/%bHTTP/1.1\n", b"GET%b/ %bHTTP/1.1\n", b"%b GET /%bHTTP/1.1\n"):
        assert http_start_of(line % (space, space)) is HttpStart.HTTP1
    answers = {http_start_of((b"GET%b/%bHTTP/1.1\n" % (space, space))[:end]) for end in range(17)}
    assert answers == {HttpStart.UNDECIDED, HttpStart.HTTP1}


@pytest.mark.parametrize(
    "data",
    [
        b"A" * MAX_START,
        b"GET /?" + b"a" * MAX_START + b" HTTP/1.1\r\n",
        b"\r\n" * MAX_START + b"GET / HTTP/1.1\r\n",
        b"\x0b\x0c" * MAX_START + b"GET / HTTP/1.1\r\n",
        b" " * (MAX_START - 5) + b"GET / HTTP/1.1\r\n",
    ],
    ids=["a word", "a long target", "empty lines", "spaces", "a request at the bound"],
)
def test_bytes_that_may_become_a_request_are_read_as_one_after_a_bound(data: bytes) -> None:
    assert http_start_of(data[: MAX_START - 1]) is HttpStart.UNDECIDED
    assert http_start_of(data[:MAX_START]) is HttpStart.HTTP1
    assert http_start_of(data) is HttpStart.HTTP1


def test_a_long_line_of_another_protocol_stays_one() -> None:
    assert http_start_of(b'{"a": "' + b"a" * MAX_START) is HttpStart.OTHER


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (b"GET /x", HttpStart.HTTP1),
        (b"GET /x HTTP", HttpStart.HTTP1),
        (b"PROPFIND /x", HttpStart.HTTP1),
        (PREFACE[:-12], HttpStart.HTTP1),
        (b"GET", HttpStart.UNDECIDED),
        (b"get /key", HttpStart.UNDECIDED),
        (b"", HttpStart.UNDECIDED),
        (PREFACE, HttpStart.HTTP2),
        (b"EHLO a.example", HttpStart.UNDECIDED),
        (b"SSH-2.0-OpenSSH\r\n", HttpStart.OTHER),
    ],
)
def test_the_end_of_the_connection_ends_a_line(data: bytes, start: HttpStart) -> None:
    assert http_start_of(data, ended=True) is start
