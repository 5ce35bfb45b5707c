"""A TLS 1.3 client that repeatedly requests KeyUpdate (RFC 8446 4.6.3), for which Python's ``ssl`` has no call.

OpenSSL does the handshake; the client builds the records after that itself, from the secret that OpenSSL logs.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from meshtls.svid.context import X509Context
from meshtls.tls.context import TlsOptions
from meshtls.tls.engine import TlsEngine
from tests.support.tls import Ends, context_of, shake
from tests.support.waiting import SECONDS

__all__ = ["BlockingAsker", "Flood", "KeyAsker"]

_KEY_UPDATE = bytes((24, 0, 0, 1, 1))  # update_requested
_HANDSHAKE, _APPLICATION_DATA = 22, 23
_numbers = itertools.count()
# The size of the record in response: a header, the message, its type and the tag.
_ANSWER_BYTES = 5 + len(_KEY_UPDATE) + 1 + 16


class KeyAsker:
    """The client's side of a connection to ``server``, with the handshake done."""

    def __init__(self, snapshot: X509Context, server: TlsEngine, directory: Path) -> None:
        self._begin(snapshot, directory)
        assert shake(self.engine, server) == Ends()
        self._shaken()

    def _begin(self, snapshot: X509Context, directory: Path, options: TlsOptions = TlsOptions()) -> None:
        context = context_of(snapshot, server_side=False, options=options)
        self._log = directory / f"secrets-{next(_numbers)}"
        context.keylog_filename = str(self._log)
        self.engine = TlsEngine(context)

    def _shaken(self) -> None:
        assert self.engine.cipher_suite == "TLS_AES_256_GCM_SHA384"
        lines = (line.split() for line in self._log.read_text().splitlines())
        self._take(next(bytes.fromhex(line[2]) for line in lines if line[0] == "CLIENT_TRAFFIC_SECRET_0"))

    def asks(self, count: int) -> bytes:
        """This many records, each with a KeyUpdate that requests a response."""
        return b"".join(self._ask() for _ in range(count))

    def breaks(self) -> bytes:
        """A record that is refused with illegal_parameter: its request_update is neither 0 nor 1 (RFC 8446 4.6.3)."""
        return self._record(bytes((24, 0, 0, 1, 7)), _HANDSHAKE)

    def says(self, data: bytes) -> bytes:
        """One record of application data, at most 2**14 bytes."""
        return self._record(data, _APPLICATION_DATA)

    def _ask(self) -> bytes:
        record = self._record(_KEY_UPDATE, _HANDSHAKE)
        self._take(self._derived("traffic upd", 48))
        return record

    def _take(self, secret: bytes) -> None:
        self._secret, self._number = secret, 0
        self._cipher, self._iv = AESGCM(self._derived("key", 32)), self._derived("iv", 12)

    def _derived(self, label: str, length: int) -> bytes:
        """HKDF-Expand-Label (RFC 8446 7.1)."""
        name = b"tls13 " + label.encode()
        info = struct.pack(">HB", length, len(name)) + name + b"\0"
        return HKDFExpand(SHA384(), length, info).derive(self._secret)

    def _record(self, content: bytes, kind: int) -> bytes:
        nonce = (int.from_bytes(self._iv, "big") ^ self._number).to_bytes(12, "big")
        self._number += 1
        header = struct.pack(">BHH", _APPLICATION_DATA, 0x0303, len(content) + 17)
        return header + self._cipher.encrypt(nonce, content + bytes((kind,)), header)


class BlockingAsker(KeyAsker):
    """The same over a TCP connection, on a blocking socket. Use it in a ``with``, which closes the socket."""

    def __init__(
        self, snapshot: X509Context, host: str, port: int, directory: Path, options: TlsOptions = TlsOptions()
    ) -> None:
        self._begin(snapshot, directory, options)
        self.sock = socket.create_connection((host, port), SECONDS)
        while self.engine.handshake() is None:
            self.sock.sendall(self.engine.outgoing())
            self.engine.feed(self.sock.recv(1 << 14))
        self.sock.sendall(self.engine.outgoing())
        self._shaken()

    def receive(self) -> bytes:
        """The next bytes, b"" at the end. Raises HandshakeError for an alert, OSError for a broken connection."""
        while not (plain := self.engine.read()) and (data := self.sock.recv(1 << 16)):
            self.engine.feed(data)
        return plain

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.sock.close()


class Flood:
    """Sends KeyUpdate requests through ``sock`` as fast as possible."""

    def __init__(self, asker: KeyAsker, sock: socket.socket) -> None:
        self.asked = 0
        self._asker, self._sock = asker, sock
        self._rest = b""

    def go_on(self, *, more: bool = True) -> None:
        """Send until the socket is full; without ``more`` only the unsent rest."""
        try:
            while self._rest or more:
                if not self._rest:
                    self._rest = self._asker.asks(100)
                    self.asked += 100
                self._rest = self._rest[self._sock.send(self._rest) :]
        except BlockingIOError:
            return

    async def rage(self, rounds: int) -> AsyncIterator[int]:
        """Keep sending, one iteration of the loop at a time; yields the number of each."""
        for number in range(rounds):
            self.go_on()
            await asyncio.sleep(0)
            yield number

    async def read_answers(self) -> None:
        """Read all responses but one, which OpenSSL sends only with the next bytes."""
        missing, loop = (self.asked - 1) * _ANSWER_BYTES, asyncio.get_running_loop()
        while missing:
            self.go_on(more=False)
            missing -= len(await loop.sock_recv(self._sock, missing))
