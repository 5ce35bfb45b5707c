"""Which version of HTTP a connection speaks, by its first bytes. Pure."""

from __future__ import annotations

import re
from enum import Enum

from meshtls.wire.http2.frames import PREFACE

__all__ = ["MAX_START", "HttpStart", "http_start_of"]

#: Bytes after which there is an answer.
MAX_START = 1 << 13
#: Where lenient servers part a line into words: Python's http.server does so wherever ``str.split`` does.
_SPACES = b" \t\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0"
#: Up to a version; llhttp takes the other two for HTTP's. A space of the odd kind after the first word counts only with
#: a visible character after it: LDAP begins with such a byte and a small number.
_HTTP1 = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
    rb"(?:[ \t]|[\r\x0b\x0c\x1c-\x1f\x85\xa0][ \t\r\x0b\x0c\x1c-\x1f\x85\xa0]*[\x21-\x7e\x80-\x84\x86-\x9f\xa1-\xff])"
    rb"[^\n]*[ \t\r\x0b\x0c\x1c-\x1f\x85\xa0](?:HTTP|RTSP|ICE)/",
    re.IGNORECASE,
)
#: A request without a version: with any target if the method is well known, else with one that says what it is. NATS
#: begins with CONNECT and an object; in small letters it may be memcached's get, which servers do not take for GET.
_HTTP09 = re.compile(
    rb"(?:(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE)"
    rb"[ \t\r\x0b\x0c\x1c-\x1f\x85\xa0]+[\x21-\x7e\x80-\x84\x86-\x9f\xa1-\xff]"
    rb"|CONNECT[ \t\r\x0b\x0c\x1c-\x1f\x85\xa0]+[0-9A-Za-z.\[]"
    rb"|[!#$%&'*+.^_`|~0-9A-Z-]+[ \t\r\x0b\x0c\x1c-\x1f\x85\xa0]+(?:[/*]|[A-Za-z][A-Za-z0-9+.-]*://))[^\r\n]*[\r\n]"
)
#: A line that can still become one of these.
_UNFINISHED = re.compile(
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:[ \t][^\n]*|[\r\x0b\x0c\x1c-\x1f\x85\xa0][ \t\r\x0b\x0c\x1c-\x1f\x85\xa0]*"
    rb"(?:[\x21-\x7e\x80-\x84\x86-\x9f\xa1-\xff][^\n]*)?)?)?"
)


class HttpStart(Enum):
    """UNDECIDED: more bytes are needed. HTTP2: with prior knowledge (RFC 9113, section 3.3)."""

    UNDECIDED = "undecided"
    HTTP1 = "HTTP/1"
    HTTP2 = "HTTP/2"
    OTHER = "other"


def http_start_of(data: bytes, *, ended: bool = False) -> HttpStart:
    """What these first bytes begin. More of them never change an answer other than UNDECIDED.

    ``ended``: no more come. That ends a line, too: a request without a version is one then.

    Malformed requests that a lenient server could read count as HTTP1: the filter refuses them then. So do MAX_START
    bytes of an unfinished line, or of empty lines: the app must not get unread what it may read as a request. Until
    then the answer may stay UNDECIDED, so the caller sets a deadline.
    """
    if PREFACE.startswith(data[: len(PREFACE)]) and not (ended and len(data) < len(PREFACE)):
        return HttpStart.HTTP2 if len(data) >= len(PREFACE) else HttpStart.UNDECIDED
    line = data[:MAX_START].lstrip(_SPACES + b"\n")
    if _HTTP1.match(line) or _HTTP09.match(line + b"\n" if ended else line):
        return HttpStart.HTTP1
    if not _UNFINISHED.fullmatch(line):
        return HttpStart.OTHER
    return HttpStart.UNDECIDED if len(data) < MAX_START else HttpStart.HTTP1
