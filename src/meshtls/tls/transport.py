"""The transport that an application's protocol writes to: TLS over asyncio's TCP transport.

Unlike asyncio's own, it has ``write_eof`` (TLS half-close), and it does not read from a peer that causes TLS responses
and reads none of them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from meshtls.errors import HandshakeError
from meshtls.tls.engine import MAX_OWED, TlsEngine

__all__ = ["TlsTransport"]

_OF_SSL_OBJECT: dict[str, Callable[[ssl.SSLObject], object]] = {
    "ssl_object": lambda tls: tls,
    "peercert": lambda tls: tls.getpeercert(),
    "cipher": lambda tls: tls.cipher(),
    "compression": lambda tls: tls.compression(),
}


class TlsTransport(asyncio.Transport):
    """What the application's protocol sees."""

    def __init__(self, tcp: asyncio.Transport, engine: TlsEngine) -> None:
        super().__init__()
        self._tcp = tcp
        self._engine = engine
        self._protocol: asyncio.BaseProtocol | None = None
        self._write_closed = False
        self._paused = self._held = self._full = False
        self._owed = 0
        #: The connection failed, and the peer still has to read the alert. Whoever sets this closes the connection.
        self.parting = False
        # The connection gets another context, without roots and keys, once the peer is accepted.
        self._context = engine.ssl_object.context

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's own TLS transport, plus ``peer``, a VerifiedPeer, and ``svid``, our own."""
        if name == "peer":
            return self._engine.peer
        if name == "svid":
            return self._engine.snapshot.svid
        if name == "sslcontext":
            return self._context
        known = _OF_SSL_OBJECT.get(name)
        return known(self._engine.ssl_object) if known else self._tcp.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None  # noqa: S101  # set before the application sees this transport
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._write_closed:
            raise RuntimeError("write after write_eof or close")
        self._engine.write(data)
        self.flush()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Send close_notify; reading goes on."""
        if self._write_closed or self.is_closing():
            return
        self._write_closed = True
        try:
            self._engine.close_write()
        finally:
            self.flush()
        if self._engine.peer_closed:
            self._tcp.close()

    def peer_closed(self) -> None:
        """The peer sent close_notify: the connection is over once we have too."""
        if self._write_closed:
            self._tcp.close()

    def answer(self) -> None:
        """Send TLS's own responses. Stop reading from a peer that causes many of them and reads none."""
        waiting = self._tcp.get_write_buffer_size()
        self.flush()
        self._owed = self._owed + self._tcp.get_write_buffer_size() - waiting if waiting else 0
        if self._full and self._owed > MAX_OWED:
            self._held = True
            self._tcp.pause_reading()

    def writable(self, *, yes: bool) -> None:
        """Whether what waits to be sent is below the limit."""
        self._full = not yes
        if yes:
            self._owed = 0
            self._held = False
            if not self._paused:
                self._tcp.resume_reading()

    def flush(self) -> None:
        data = self._engine.outgoing()
        if data:
            self._tcp.write(data)

    def close(self) -> None:
        if self.parting:
            return
        try:
            self.write_eof()
        except HandshakeError:
            self._tcp.abort()
        self._tcp.close()

    def abort(self) -> None:
        self._tcp.abort()

    def is_closing(self) -> bool:
        return self.parting or self._tcp.is_closing()

    def is_reading(self) -> bool:
        return not self._paused and not self.is_closing()

    def pause_reading(self) -> None:
        self._paused = True
        if self.parting:
            return
        self._tcp.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        if not self._held:
            self._tcp.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._tcp.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._tcp.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._tcp.get_write_buffer_limits()
