"""A chunked body, read strictly (RFC 9112, section 7.1). Pure."""

from __future__ import annotations

import re

from meshtls.wire.http1.fields import END, MessageError, check_partial

__all__ = ["ChunkedBody"]

#: A size of at most 2**60, and extensions without control bytes. No blank is allowed before the semicolon.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?")
_LONGEST_SIZE = 15
_MALFORMED = "wanted a chunk's size in hex digits and CRLF, got something else"


class ChunkedBody:
    """Decodes a chunked body. ``feed`` what arrives until it is ``done``. ``trailers`` are the lines of the trailer
    section.

    ``extension_bytes`` bounds the extensions of all chunks together, ``trailer_bytes`` the trailer section.
    """

    __slots__ = ("_extension_left", "_line", "_remaining", "_trailer_bytes", "_trailing", "done", "trailers")

    def __init__(self, extension_bytes: int, trailer_bytes: int) -> None:
        self.done = False
        self.trailers: list[str] = []
        self._extension_left = extension_bytes
        self._trailer_bytes = trailer_bytes
        #: Bytes of the current chunk that are missing, its CRLF not counted; -2 and -1: bytes of that CRLF; None: its
        #: size.
        self._remaining: int | None = None
        #: In the trailer section.
        self._trailing = False
        #: Of an unfinished line, or of the trailer section.
        self._line = bytearray()

    def feed(self, data: bytes, at: int, pieces: list[bytes] | None) -> int:
        """Read from ``at``, and append the content to ``pieces``, if it is wanted. Returns where the body ends, or
        else the end of ``data``. Raises MessageError.
        """
        end = len(data)
        while at < end:
            remaining = self._remaining
            if self._trailing:
                return self._feed_trailers(data, at)
            if remaining is None:
                at = self._feed_size(data, at)
            elif remaining > 0:
                start, at = at, min(at + remaining, end)
                if pieces is not None:
                    pieces.append(data[start:at])
                self._remaining = remaining - (at - start) or -2
            else:
                at = self._feed_break(data, at, remaining)
        return at

    def _feed_break(self, data: bytes, at: int, remaining: int) -> int:
        wanted = b"\r\n"[remaining:]
        got = data[at : at - remaining]
        if not wanted.startswith(got):
            raise MessageError("wanted CRLF after a chunk's data, got something else")
        self._remaining = remaining + len(got) or None
        return at + len(got)

    def _feed_size(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        line = data[at : end + 1] if end >= 0 else data[at:]
        if self._line:
            self._line += line
            line = bytes(self._line)
        if end < 0:
            self._check_unfinished(line)
            self._line[:] = line
            return len(data)
        self._line.clear()
        found = _SIZE.fullmatch(line, 0, len(line) - 2) if line.endswith(b"\r\n") else None
        if found is None:
            raise MessageError(_MALFORMED)
        self._extension_left -= len(found[2] or b"")
        if self._extension_left < 0:
            raise MessageError("wanted shorter chunk extensions, got too many bytes of them")
        self._remaining = int(found[1], 16)
        if not self._remaining:
            self._trailing = True
        return end + 1

    def _check_unfinished(self, line: bytes) -> None:
        if not _SIZE.fullmatch(line.removesuffix(b"\r")):
            raise MessageError(_MALFORMED)
        if len(line) > _LONGEST_SIZE + 1 + self._extension_left:
            raise MessageError("wanted shorter chunk extensions, got too many bytes of them")

    def _feed_trailers(self, data: bytes, at: int) -> int:
        before = len(self._line)
        self._line += data[at : at + self._trailer_bytes + len(END)]
        if self._line.startswith(b"\r\n"):
            self.done = True
            return at + 2 - before
        end = self._line.find(END, max(before - len(END), 0))
        if end < 0:
            check_partial(self._line, self._trailer_bytes, start=before)
            return len(data)
        section = bytes(self._line[:end])
        check_partial(section + END, self._trailer_bytes)
        self.trailers = section.decode("latin-1").split("\r\n")
        self.done = True
        return at + end + len(END) - before
