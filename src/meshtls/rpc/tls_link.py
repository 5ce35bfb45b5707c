"""The server side of TLS over an asyncio transport, driven step by step.

asyncio's own TLS has a buffer of 256 KiB for each connection, so a thousand pending handshakes cost 300 MB; and it runs
each handshake step as soon as bytes arrive, so handshakes delay all other callers.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

__all__ = ["TlsLink"]

_RECORD = 1 << 14


class TlsLink(asyncio.Transport):
    """A transport that encrypts what is written, and decrypts received bytes.

    Raises ssl.SSLError for broken TLS, and the context's error if it has no identity to present.
    """

    def __init__(self, tcp: asyncio.Transport, context: ssl.SSLContext) -> None:
        super().__init__()
        self._tcp = tcp
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.peer_closed = False

    def handshake(self, data: bytes) -> bool:
        """Continue the handshake with these bytes; return whether it is done."""
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            # Our contexts raise this once before the actual error, so that asyncio sends the alert.
            return self._handshake_again()
        finally:
            self._flush()
        return True

    def read(self, data: bytes) -> bytes:
        """The plaintext that these bytes complete."""
        self._incoming.write(data)
        plain = bytearray()
        try:
            while piece := self._tls.read(_RECORD):
                plain += piece
            self.peer_closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.peer_closed = True
        finally:
            self._flush()
        return bytes(plain)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._tcp.is_closing():
            return
        try:
            self._tls.write(data)  # a memory BIO takes all of it in one call
        except ssl.SSLCertVerificationError:  # the client is not trusted any more: it gets nothing, and may not wait
            self._tcp.abort()
        else:
            self._flush()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else self._tcp.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._tcp.is_closing()

    def close(self) -> None:
        self._tcp.close()

    def abort(self) -> None:
        self._tcp.abort()

    def pause_reading(self) -> None:
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._tcp.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def _handshake_again(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._tcp.write(self._outgoing.read())
