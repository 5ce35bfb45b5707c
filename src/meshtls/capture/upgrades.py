"""Protocols that begin in clear and change to TLS on one connection (STARTTLS), followed to that change. Bounded. Pure.

Only what the client asks for and the server agrees to counts: what follows a refusal is plaintext still.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, Protocol

from meshtls.wire.side import Side

__all__ = ["Turn", "Upgrade", "asked_first", "may_ask_first", "may_greet", "upgrade_of_greeting"]

#: Bytes of a line, of all that comes before the change, and of what comes after the question and before its answer.
_LONGEST_LINE, _MOST_BEFORE, _MOST_HELD = 4096, 1 << 16, 1 << 14


class Turn(Enum):
    """What comes next."""

    CLEAR = "more of the protocol in clear"
    TLS = "TLS"
    NEVER = "something that does not change to TLS, or is not followed on"


class Upgrade(Protocol):
    """A change to TLS within a connection. ``words``: what it is. ``rest``: what came after the change, once it is
    TLS's turn.
    """

    words: str
    rest: dict[Side, bytes]

    @property
    def held(self) -> int:
        """Bytes that it keeps."""

    def feed(self, side: Side, data: bytes) -> Turn:
        """What ``side`` sent next."""


# -- protocols of lines, in which the server speaks first --


class _Command(NamedTuple):
    """A line of the client, without its end, that asks for TLS. Answers: how the line begins that agrees, with the name
    of the protocol, and those that refuse. Where the command has a tag (group 1), answers begin with it.
    """

    line: re.Pattern[bytes]
    agrees: Mapping[bytes, str]
    refuses: tuple[bytes, ...]


_COMMANDS = (
    # RFC 3207, section 4; RFC 4642, section 2.2.
    _Command(re.compile(rb"STARTTLS[ \t]*", re.I), {b"220": "SMTP", b"382": "NNTP"}, (b"4", b"5")),
    # RFC 4217, section 4.
    _Command(re.compile(rb"AUTH (?:TLS(?:-C)?|SSL)[ \t]*", re.I), {b"234": "FTP"}, (b"4", b"5")),
    # RFC 2595, sections 3.1 and 4.
    _Command(re.compile(rb"([!-z|}~]{1,64}) STARTTLS", re.I), {b" OK": "IMAP"}, (b" NO", b" BAD")),
    _Command(re.compile(rb"STLS[ \t]*", re.I), {b"+OK": "POP3"}, (b"-ERR",)),
)
_GREETINGS = (b"220", b"200", b"201", b"* OK", b"+OK")


def may_greet(first: bytes) -> bool:
    """Whether these first bytes of a server may become the greeting of such a protocol; it may be one already."""
    return any(one.startswith(first) or first.startswith(one) for one in _GREETINGS)


def upgrade_of_greeting(first: bytes) -> Upgrade | None:
    """What follows such a protocol, if these bytes are its greeting. They are not fed."""
    return _Lines() if first.startswith(_GREETINGS) else None


class _Lines:
    def __init__(self) -> None:
        self.words = ""
        self.rest: dict[Side, bytes] = {}
        self._partial = dict.fromkeys(Side, b"")
        self._before = 0
        self._command: _Command | None = None
        self._tag = b""

    @property
    def held(self) -> int:
        """Part of ``Upgrade``."""
        return sum(map(len, self._partial.values()))

    def feed(self, side: Side, data: bytes) -> Turn:
        """Part of ``Upgrade``."""
        self._before += len(data)
        if self._before > _MOST_BEFORE:
            return Turn.NEVER
        data = self._partial[side] + data
        turn = self._client(data) if side is Side.CLIENT else self._server(data)
        longest = _MOST_HELD if self._command is not None else _LONGEST_LINE
        return Turn.NEVER if len(self._partial[side]) > longest else turn

    def _client(self, data: bytes) -> Turn:
        while self._command is None:
            line, feed, data = data.partition(b"\n")
            if not feed:
                data = line
                break
            for command in _COMMANDS:
                found = command.line.fullmatch(line.rstrip(b"\r"))
                if found is not None:
                    self._command = command
                    self._tag = found[1] if command.line.groups else b""
                    break
        self._partial[Side.CLIENT] = data
        return Turn.CLEAR

    def _server(self, data: bytes) -> Turn:
        while (command := self._command) is not None:
            line, feed, after = data.partition(b"\n")
            if not feed:
                break
            data = after
            answer = line[len(self._tag) :] if line.startswith(self._tag) else b""
            name = next((name for begin, name in command.agrees.items() if answer.startswith(begin)), None)
            if name is not None:
                self.words = _WORDS.get(name, f"{name}, then STARTTLS")
                self.rest = {Side.SERVER: data, Side.CLIENT: self._partial[Side.CLIENT]}
                return Turn.TLS
            if answer.startswith(command.refuses):
                self._command = None
                self._client(self._partial[Side.CLIENT])
        # Without a question no line of the server matters.
        self._partial[Side.SERVER] = data if self._command is not None else data.rpartition(b"\n")[2]
        return Turn.CLEAR


_WORDS = {"FTP": "FTP, then AUTH TLS", "POP3": "POP3, then STLS"}


# -- protocols in which the client asks first --

#: PostgreSQL's SSLRequest and GSSENCRequest ("Frontend/Backend Protocol", "Message Formats").
_SSL_REQUEST, _GSS_REQUEST = bytes.fromhex("0000000804d2162f"), bytes.fromhex("0000000804d21630")
#: LDAP's Extended operation StartTLS and a successful response (RFC 4511, section 4.14), each in the envelope of a
#: message, after its number.
_START_TLS = re.compile(
    rb"\x30(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)\x02(?:\x01.|\x02..|\x03...|\x04....)"
    rb"\x77(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)\x80\x161\.3\.6\.1\.4\.1\.1466\.20037",
    re.S,
)
_STARTED = re.compile(
    rb"\x30(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)\x02(?:\x01.|\x02..|\x03...|\x04....)"
    rb"\x78(?:[\x00-\x7f]|\x81.|\x82..|\x83...|\x84....)\x0a\x01\x00",
    re.S,
)
_LDAP, _LONGEST_REQUEST = b"\x30", 64


def may_ask_first(first: bytes) -> bool:
    """Whether these first bytes of a client may become a question for TLS, and are none yet."""
    if len(first) < len(_SSL_REQUEST) and (_SSL_REQUEST.startswith(first) or _GSS_REQUEST.startswith(first)):
        return True
    if first[:1] != _LDAP or len(first) >= _LONGEST_REQUEST or _START_TLS.match(first):
        return False
    # A message whose operation is not an Extended one has another tag after its number of one byte.
    return first[2:4] in (b"", b"\x02", b"\x02\x01") and first[5:6] in (b"", b"\x77") and first[1:2] != b" "


def asked_first(first: bytes) -> Upgrade | None:
    """What follows such a protocol, if these bytes ask for TLS. They are not fed."""
    if first.startswith((_SSL_REQUEST, _GSS_REQUEST)):
        return _Postgres()
    return _Ldap() if _START_TLS.match(first) else None


class _Postgres:
    def __init__(self) -> None:
        self.words = "PostgreSQL's SSLRequest"
        self.rest: dict[Side, bytes] = {}
        self._asked = b""
        self._held = b""

    @property
    def held(self) -> int:
        """Part of ``Upgrade``."""
        return len(self._held)

    def feed(self, side: Side, data: bytes) -> Turn:
        """Part of ``Upgrade``."""
        if side is Side.CLIENT:
            self._held += data
        elif self._asked == _SSL_REQUEST and data[:1] == b"S":
            self.rest = {Side.SERVER: data[1:], Side.CLIENT: self._held}
            return Turn.TLS
        elif self._asked == _GSS_REQUEST and data == b"N":
            self._asked = b""
        else:
            return Turn.NEVER
        size = len(_SSL_REQUEST)
        if not self._asked and len(self._held) >= size:
            self._asked, self._held = self._held[:size], self._held[size:]
            if self._asked not in (_SSL_REQUEST, _GSS_REQUEST):
                return Turn.NEVER
        return Turn.NEVER if len(self._held) > _MOST_HELD else Turn.CLEAR


class _Ldap:
    def __init__(self) -> None:
        self.words = "LDAP's StartTLS"
        self.rest: dict[Side, bytes] = {}
        self._sent = dict.fromkeys(Side, b"")

    @property
    def held(self) -> int:
        """Part of ``Upgrade``."""
        return sum(map(len, self._sent.values()))

    def feed(self, side: Side, data: bytes) -> Turn:
        """Part of ``Upgrade``."""
        sent = self._sent[side] = self._sent[side] + data
        if len(sent) > _MOST_HELD:
            return Turn.NEVER
        ends = {one: _message_end(self._sent[one]) for one in Side}
        if not all(0 < end <= len(self._sent[one]) for one, end in ends.items()):
            return Turn.CLEAR if min(ends.values()) >= 0 else Turn.NEVER
        if not _STARTED.match(self._sent[Side.SERVER]):
            return Turn.NEVER
        self.rest = {one: self._sent[one][ends[one] :] for one in Side}
        return Turn.TLS


def _message_end(data: bytes) -> int:
    """Where an LDAPMessage ends (BER, definite length); 0 if that is not known yet, -1 if it is none."""
    if len(data) < 2:
        return 0
    if data[:1] != _LDAP:
        return -1
    size = data[1]
    if size < 0x80:
        return 2 + size
    octets = size & 0x7F
    if not 1 <= octets <= 4:
        return -1
    return 2 + octets + int.from_bytes(data[2 : 2 + octets], "big") if len(data) >= 2 + octets else 0
