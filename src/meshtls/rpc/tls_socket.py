"""TLS of a server over a non-blocking socket, for a listener that reads and writes in tasks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Bytes", "TlsSocket"]

T = TypeVar("T")
_CHUNK = 1 << 14


class Bytes:
    """The bytes of a connection without TLS."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def handshake(self) -> None:
        """Nothing to do."""

    async def receive(self, most: int = _CHUNK) -> bytes:
        """What the peer sends next; nothing at its end. Raises OSError."""
        return await self._loop.sock_recv(self._sock, most)

    async def send(self, data: bytes) -> None:
        """Raises OSError."""
        await self._loop.sock_sendall(self._sock, data)

    async def finish(self) -> None:
        """Nothing more is sent. Waits for the peer to close: closing with unread bytes would reset the connection, and
        the peer may lose what it was sent. Raises OSError.
        """
        self._sock.shutdown(socket.SHUT_WR)
        while await self._loop.sock_recv(self._sock, _CHUNK):
            pass


class TlsSocket(Bytes):
    """Raises the context's LocalIdentityError if it has no identity to present."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        await self._do(self._tls.do_handshake)

    async def receive(self, most: int = _CHUNK) -> bytes:
        try:
            return await self._do(lambda: self._tls.read(most))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def send(self, data: bytes) -> None:
        self._tls.write(data)  # a memory BIO takes all of it in one call
        await self._flush()

    async def finish(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()  # puts close_notify into the output; the peer's is not waited for
        await self._flush()
        await super().finish()

    async def _do(self, step: Callable[[], T]) -> T:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._flush()
                received = await self._loop.sock_recv(self._sock, _CHUNK)
                if received:
                    self._incoming.write(received)
                else:
                    self._incoming.write_eof()
            finally:
                await self._flush()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._sock, self._outgoing.read())
