"""What is seen on one connection: events of TLS, what went wrong, and who takes the bytes inside. Pure.

Times are in nanoseconds since the epoch. Offsets count the bytes of one direction from its beginning.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from meshtls.wire.side import Side

__all__ = [
    "UNKNOWN",
    "AlertSeen",
    "ApplicationBytes",
    "ByteSink",
    "Event",
    "MessageSeen",
    "RecordSeen",
    "Trouble",
]

#: Of a field that is encrypted, or that a record without its payload does not show.
UNKNOWN = -1


class RecordSeen(msgspec.Struct, frozen=True, gc=False):
    """A record (RFC 8446, section 5). ``length`` is that of its payload in bytes, as the header has it.

    ``inner_type`` is the content type that was encrypted with the content, for TLS 1.3; else ``content_type``. -1 if it
    is not known.
    """

    side: Side
    time_ns: int
    offset: int
    content_type: int
    length: int
    decrypted: bool
    inner_type: int


class MessageSeen(msgspec.Struct, frozen=True, gc=False):
    """A handshake message, with its header. ``decrypted``: it was encrypted. Its ``repr`` shows no content, since a
    NewSessionTicket is a secret.
    """

    side: Side
    time_ns: int
    kind: int
    data: bytes
    decrypted: bool

    def __repr__(self) -> str:
        return f"<MessageSeen {self.kind} of the {self.side.value}, {len(self.data)} bytes>"


class AlertSeen(msgspec.Struct, frozen=True, gc=False):
    """An alert (RFC 8446, section 6). ``level`` and ``description`` are -1 for one that can't be decrypted."""

    side: Side
    time_ns: int
    level: int
    description: int
    decrypted: bool


class ApplicationBytes(msgspec.Struct, frozen=True, gc=False):
    """A record of application data. ``plaintext`` is None if it was not decrypted, or is no longer kept.

    ``length`` in bytes is that of the plaintext, or, of a record that was not decrypted, of its payload. ``early``: it
    is 0-RTT data (RFC 8446, section 2.3). ``repr`` shows no content.
    """

    side: Side
    time_ns: int
    plaintext: bytes | None
    length: int
    early: bool = False

    def __repr__(self) -> str:
        return f"<ApplicationBytes of the {self.side.value}, {self.length} bytes>"


class Trouble(NamedTuple):
    """What went wrong in one direction: at which byte of it, or shortly before, and why. The other one goes on."""

    side: Side
    offset: int
    reason: str


Event = RecordSeen | MessageSeen | AlertSeen | ApplicationBytes | Trouble


class ByteSink(Protocol):
    """Takes the bytes of both directions of a connection, or of what is inside of one."""

    def feed(self, side: Side, data: bytes, time_ns: int) -> None:
        """What ``side`` sent next."""

    def gap(self, side: Side, missing: int) -> None:
        """So many bytes of ``side`` are lost; 0 if nobody knows how many."""

    def end(self, side: Side) -> None:
        """No more comes from ``side``."""
