"""The records of one TLS connection without a wire: ciphertext in and out on one side, plaintext on the other.

All connections of a thread share one pair of memory BIOs. OpenSSL keeps a partial record in the connection itself, so
between two calls both BIOs are empty and the next connection may use them. This saves two BIOs and their buffers for
each connection, a third of the memory of an idle one. The price is one rule, kept by ``_leave``: no byte may stay in
them, even after an error, or it would be read as another connection's.

The pair belongs to the thread, and to nothing that a caller could hand over: OpenSSL ties a connection to its BIOs when
it is made, ``listen`` and ``dial`` have no reactor, and one context serves the event loops of several threads.
"""

from __future__ import annotations

import ssl
import threading
from typing import Any

from meshtls.errors import HandshakeError, PeerError
from meshtls.tls.failures import CLOSED_IN_TLS, peer_error
from meshtls.tls.peer import unguarded
from meshtls.tls.states import ENGINE, EngineState, EngineStep
from meshtls.wire.tls import MAX_RECORD

__all__ = ["MAX_OWED", "TlsRecords"]

#: Stop reading while more than this many bytes of KeyUpdate responses are unsent. Not at the first byte: a peer may
#: write all its data before it reads, with key updates in between; both sides would then wait for each other.
MAX_OWED = 1 << 14


class _SharedBios(threading.local):
    """The pair of BIOs of this thread."""

    def __init__(self) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()


_bios = _SharedBios()


class TlsRecords:
    """Feed what arrived from the wire, and send what ``outgoing`` returns after every call, also after one that raised:
    it is then the alert for the peer. Use it only in the thread that made it.

    ``state`` is how far the connection is (``meshtls.tls.states``). ``unsent`` is what ``outgoing`` would give.
    ``peer_closed``: the peer has sent close_notify, and nothing comes after what is decrypted already.
    """

    __slots__ = (
        "_decrypted",
        "_fed",
        "_in",
        "_out",
        "_records",
        "_tls",
        "_wire_ended",
        "peer_closed",
        "state",
        "unsent",
    )

    _tls: ssl.SSLObject
    #: Reads and writes records: until the peer is accepted, the object that refuses to.
    _records: Any

    def __init__(self) -> None:
        self._in, self._out = _bios.incoming, _bios.outgoing
        self._fed = self.unsent = self._decrypted = b""
        self._wire_ended = self.peer_closed = False
        self.state = EngineState.HANDSHAKING

    @property
    def tls_version(self) -> str | None:
        """The protocol, ``TLSv1.3`` or ``TLSv1.2``; None before the handshake."""
        return self._tls.version()

    @property
    def cipher_suite(self) -> str | None:
        """OpenSSL's name of the negotiated suite; None before the handshake."""
        cipher = self._tls.cipher()
        return cipher[0] if cipher else None

    def feed(self, data: bytes) -> None:
        """Take ciphertext from the wire."""
        self._fed += data

    def feed_eof(self) -> None:
        """The wire ended; a handshake or a read that still wanted bytes will raise HandshakeError."""
        self._wire_ended = True

    def outgoing(self) -> bytes:
        """Ciphertext to put on the wire now; b"" for none."""
        data, self.unsent = self.unsent, b""
        return data

    def read(self) -> bytes:
        """All plaintext that has arrived; b"" for none yet or, if ``peer_closed``, none ever. Raises HandshakeError."""
        self.take_in()
        plain, self._decrypted = self._decrypted, b""
        if not plain and not self.peer_closed:
            self._check_end()
        return plain

    def take_in(self) -> None:
        """Decrypt what was fed, and keep it for ``read``; ``peer_closed`` is then known. Raises HandshakeError."""
        if not self._fed:
            return
        self._enter()
        try:
            self._decrypt()
        except ssl.SSLError as error:
            raise self._broken(error) from error
        finally:
            self._leave()

    def open(self, cipher: memoryview, into: memoryview) -> int:
        """Decrypt ``cipher`` into ``into`` and return the number of bytes: a faster feed and read.

        ``into`` needs room for ``len(cipher)`` and one record more. The peer's close_notify sets ``peer_closed``. TLS's
        own responses are in ``outgoing``. Raises HandshakeError.
        """
        incoming, read, done = self._in, self._records.read, 0
        incoming.write(cipher)
        try:
            if not self.peer_closed:
                count = done = read(MAX_RECORD, into)  # mostly all of it
                while count and incoming.pending:
                    count = read(MAX_RECORD, into[done:])
                    done += count
                if not count:
                    self._close_by_peer()
        except ssl.SSLWantReadError:
            return done
        except ssl.SSLZeroReturnError:
            self._close_by_peer()
        except ssl.SSLError as error:
            raise self._broken(error) from error
        finally:
            if incoming.pending or self._out.pending:  # neither, mostly: a call would cost more than both questions
                self._leave()
        return done

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt. Raises HandshakeError where the connection is broken."""
        self.unsent = self.seal(data)

    def seal(self, data: bytes | bytearray | memoryview) -> bytes:
        """Encrypt, and return the ciphertext to send, after what was ``unsent``.

        Raises HandshakeError where the connection is broken.
        """
        try:
            if data:  # a memory BIO takes all of it in one call
                self._records.write(data)
        except ssl.SSLError as error:
            raise self._broken(error) from error
        finally:
            sealed = self._out.read()
        return self.outgoing() + sealed if self.unsent else sealed

    def close_write(self) -> None:
        """Queue close_notify. What the peer still sends can be read (TLS half-close, RFC 8446 6.1)."""
        # OpenSSL's second step of a shutdown expects the peer's close_notify, and fails on application data: read what
        # has arrived first.
        self.take_in()
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise self._broken(error) from error
        finally:
            self._leave()
        self._step(EngineStep.CLOSED_BY_US)

    def _step(self, step: EngineStep) -> None:
        self.state = ENGINE[self.state][step]

    def _proven(self) -> None:
        """The handshake is done, and the peer verified and allowed: read and write its records.

        May raise ssl.SSLError.
        """
        if self.state is EngineState.HANDSHAKING:
            self._step(EngineStep.PROVEN)
            self._records = unguarded(self._tls)
        if self._in.pending:
            self._decrypt()

    def _close_by_peer(self) -> None:
        self.peer_closed = True
        self._step(EngineStep.CLOSED_BY_PEER)

    def _broken(self, error: ssl.SSLError) -> PeerError:
        self._step(EngineStep.FAILED)
        return peer_error(error, begun=True)

    def _enter(self) -> None:
        if self._fed:
            self._in.write(self._fed)
            self._fed = b""

    def _leave(self) -> None:
        if self._out.pending:
            self.unsent += self._out.read()
        if self._in.pending:
            self._in.read()

    def _decrypt(self) -> None:
        """Read everything out of the incoming BIO."""
        try:
            while not self.peer_closed:
                plain = self._records.read(MAX_RECORD)
                if plain:
                    self._decrypted += plain
                else:
                    self._close_by_peer()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            self._close_by_peer()

    def _check_end(self) -> None:
        if self._wire_ended:
            self._step(EngineStep.FAILED)
            raise HandshakeError(CLOSED_IN_TLS)
