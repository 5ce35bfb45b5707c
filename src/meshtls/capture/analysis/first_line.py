"""The first line of what was sent in clear, without what may be secret. Pure."""

from __future__ import annotations

import re

from meshtls.capture.shown_text import shown_path, shown_text
from meshtls.redaction import bare_url

__all__ = ["first_line", "start_of_answer"]

_LINE = 80
#: Bytes of an answer that is no text.
_MOST_BYTES = 8
#: How the target of a request of HTTP/1 begins (RFC 9112, section 3.2), and how an answer does (section 4).
_TARGET = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*://")
_STATUS = re.compile(rb"HTTP/\d\.\d \d{3}(?=[ \r\n]|$)", re.ASCII)


def first_line(start: bytes, *, is_http1: bool) -> str:
    """The first line to show: of a request its method and its target without user and query, also where it is cut off;
    of any other protocol, which may begin with a password, the first word.
    """
    line = start.split(b"\n", 1)[0].rstrip(b"\r").decode("utf-8", "backslashreplace")
    word, space, rest = line.partition(" ")
    if _TARGET.match(rest) or is_http1:
        target, more, version = rest.partition(" ")
        target = shown_path(target) if target.startswith("/") else bare_url(target)
        line = f"{word}{space}{target}{more}{version if version.startswith('HTTP/') else ''}"
    elif rest:
        line = f"{word} …"
    return shown_text(line[:_LINE])


def start_of_answer(start: bytes) -> str:
    """In words, what a server sent instead of TLS: the status of HTTP/1, the first word of another text, or bytes."""
    status = _STATUS.match(start)
    if status is not None:
        return f"plaintext that starts with {status[0].decode('ascii')!r}"
    if start[:1].isascii() and start[:1].decode("ascii").isprintable():
        return f"plaintext that starts with {first_line(start, is_http1=False)!r}"
    return f"bytes that are not TLS and start with {start[:_MOST_BYTES].hex(' ')}"
