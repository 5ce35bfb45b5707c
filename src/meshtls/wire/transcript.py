"""The messages of one TLS handshake, as they were sent and received, to be read by people. Bounded. Pure.

What is kept is no secret: signatures, certificates, public keys and MACs. A session ticket is, to whoever holds it, and
so NewSessionTicket is left out (RFC 8446, section 4.6.1).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LONGEST_MESSAGE", "MOST_MESSAGES", "Message", "Transcript"]

MOST_MESSAGES, LONGEST_MESSAGE = 24, 8192
_NEW_SESSION_TICKET = 4


class Message(NamedTuple):
    """``kind`` is the type of a handshake message, or of an alert, whose ``data`` is empty. ``length`` is that of the
    whole message, of which ``data`` may be the beginning.
    """

    sent: bool
    alert: bool
    kind: int
    length: int
    data: bytes


class Transcript:
    """The messages of one handshake. ``note`` takes each message, in order."""

    __slots__ = ("messages",)

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def note(self, direction: str, kind: int, data: bytes, *, alert: bool = False) -> None:
        """Note one message. ``direction`` is ``read`` or ``write``, as OpenSSL's callback has it."""
        if len(self.messages) < MOST_MESSAGES and (alert or kind != _NEW_SESSION_TICKET):
            kept = b"" if alert else bytes(data[:LONGEST_MESSAGE])
            self.messages.append(Message(direction == "write", alert, kind, len(data), kept))

    def __repr__(self) -> str:
        return f"<Transcript [{len(self.messages)} messages]>"
