"""Handshake messages, put together from records: one may span several, and one record may have several. Pure.

RFC 8446, section 5.1; RFC 5246, section 6.2.1.
"""

from __future__ import annotations

from meshtls.wire.tls.reading import DecodeError

__all__ = ["MAX_MESSAGE", "MESSAGE_HEADER", "MessageAssembler"]

#: Bytes of a message's header: its type, and a length of three bytes. Of a message that is longer than the second
#: number nothing is kept: a chain of certificates has a few thousand bytes.
MESSAGE_HEADER, MAX_MESSAGE = 4, 1 << 20


class MessageAssembler:
    """Assembles handshake messages from records. ``feed`` takes the payloads of one side's handshake records, and
    returns the messages that are whole with it.

    ``error`` says why no more messages come; it is None as long as they do. Its offset counts the payloads' bytes.
    ``beginning`` is that of a message that is not whole.
    """

    __slots__ = ("_need", "_offset", "beginning", "error")

    def __init__(self) -> None:
        self.error: DecodeError | None = None
        self.beginning = bytearray()
        #: How long the beginning has to be before it is looked at again.
        self._need = 0
        #: Where the message begins that is not whole.
        self._offset = 0

    @property
    def pending(self) -> bytes:
        """The beginning of a message that is not whole; empty between two messages."""
        return bytes(self.beginning)

    @property
    def kept(self) -> int:
        """Bytes that are kept of a message that is not whole."""
        return len(self.beginning)

    def feed(self, payload: bytes) -> list[bytes]:
        """The messages that end in this payload, each with its header."""
        if self.error is not None:
            return []
        if self.beginning:
            self.beginning += payload
            if len(self.beginning) < self._need:
                return []
            payload = bytes(self.beginning)
            self.beginning.clear()
        messages: list[bytes] = []
        at, size = 0, len(payload)
        while at < size:
            need = MESSAGE_HEADER
            if size - at >= MESSAGE_HEADER:
                length = int.from_bytes(payload[at + 1 : at + MESSAGE_HEADER], "big")
                need += length
                if need > MAX_MESSAGE:
                    reason = f"wanted a message of at most {MAX_MESSAGE} bytes, got one of {need}"
                    self.error = DecodeError(self._offset + 1, reason)
                    return messages
            if size - at < need:
                self.beginning += payload[at:]
                self._need = need
                break
            messages.append(payload[at : at + need])
            at += need
            self._offset += need
        return messages

    def __repr__(self) -> str:
        return f"<MessageAssembler [{len(self.beginning)} bytes pending]>"
