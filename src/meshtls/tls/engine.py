"""One end of a mutual TLS connection without a wire: bytes in, bytes out. The sidecar and the streams drive it.

All engines of a thread share one pair of memory BIOs. OpenSSL keeps a partial record in the connection itself, so
between two calls both BIOs are empty and the next connection may use them. This saves two BIOs and their buffers for
each connection, a third of the memory of an idle one. The price is one rule, kept by ``_leave``: no byte may stay in
them, even after an error, or it would be read as another connection's.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import Any

from meshtls.errors import HandshakeError, PeerError
from meshtls.svid.context import X509Context
from meshtls.svid.trust import Trust
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import GenerationContext
from meshtls.tls.failures import peer_error
from meshtls.tls.peer import leaf_of, unguarded
from meshtls.tls.verifying import VerifyingSSLObject
from meshtls.wire.tls import IMPOSSIBLE_KEY_UPDATE, MAX_RECORD

__all__ = ["MAX_OWED", "TlsEngine"]

#: Stop reading while more than this many bytes of KeyUpdate responses are unsent. Not at the first byte: a peer may
#: write all its data before it reads, with key updates in between; both sides would then wait for each other.
MAX_OWED = 1 << 14


class _SharedBios(threading.local):
    """The pair of BIOs of this thread."""

    def __init__(self) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()


_bios = _SharedBios()


class TlsEngine:
    """Feed what arrived from the wire, and send what ``outgoing`` returns after every call, also after one that raised:
    it is then the alert for the peer. Use an engine only in the thread that made it.

    ``snapshot`` is our own X509Context; ``peer`` is None until the handshake is done and the peer verified and allowed.
    ``unsent`` is what ``outgoing`` would give. ``session_key`` names where a client dials: a session from there is
    resumed, if the context resumes sessions.
    """

    __slots__ = (
        "_context",
        "_decrypted",
        "_ended",
        "_fed",
        "_in",
        "_offered",
        "_out",
        "_records",
        "_session_key",
        "_tls",
        "peer_closed",
        "snapshot",
        "unsent",
    )

    def __init__(self, context: GenerationContext, *, port: int | None = None, session_key: str | None = None) -> None:
        self._in, self._out = _bios.incoming, _bios.outgoing
        self._session_key = session_key if context.resumption else None
        session = context.sessions.get(self._session_key) if self._session_key else None
        self._offered = session is not None
        tls = context.wrap_bio(self._in, self._out, server_side=context.server_side, session=session)
        assert isinstance(tls, VerifyingSSLObject)  # noqa: S101  # tells the type checker what sslobject_class made
        tls.port = port
        self._tls = tls
        self._context = context
        #: Reads and writes records: until the peer is accepted, the object that refuses to.
        self._records: Any = tls
        self._fed = self.unsent = self._decrypted = b""
        self._ended = False
        self.snapshot: X509Context = context.snapshot
        self.peer_closed = False

    @property
    def peer(self) -> VerifiedPeer | None:
        return self._tls.peer

    @property
    def trust(self) -> Trust:
        """The trust by which the peer was verified."""
        return self._context.trust

    @property
    def sni(self) -> str | None:
        """The server name that the client's ClientHello asked for; None where we are the client."""
        return self._tls.sni

    @property
    def tls_version(self) -> str | None:
        """``TLSv1.3`` or ``TLSv1.2``; None before the handshake."""
        return self._tls.version()

    @property
    def cipher_suite(self) -> str | None:
        """OpenSSL's name of the negotiated suite; None before the handshake."""
        cipher = self._tls.cipher()
        return cipher[0] if cipher else None

    @property
    def offered_session(self) -> bool:
        """Whether the ClientHello offers to resume a session."""
        return self._offered

    @property
    def resumed(self) -> bool:
        """Whether the handshake resumed a session."""
        return bool(self._tls.session_reused)

    @property
    def ssl_object(self) -> VerifyingSSLObject:
        return self._tls

    def feed(self, data: bytes) -> None:
        """Take ciphertext from the wire."""
        self._fed += data

    def feed_eof(self) -> None:
        """The wire ended; a handshake or a read that still wanted bytes will raise HandshakeError."""
        self._ended = True

    def outgoing(self) -> bytes:
        """Ciphertext to put on the wire now; b"" for none."""
        data, self.unsent = self.unsent, b""
        return data

    def handshake(self) -> VerifiedPeer | None:
        """Take one step. None: more input is needed. Raises PeerError if we refuse the peer or it refuses us."""
        self._enter()
        try:
            self._tls.do_handshake()
            self._records = unguarded(self._tls)
            if self._in.pending:
                self._decrypt()
        except ssl.SSLWantReadError:
            self._check_end()
            return None
        except ssl.SSLError as error:
            self.forget_session()
            raise peer_error(error) from error
        finally:
            self._leave()
        return self._tls.peer

    def queue_fatal_alert(self) -> None:
        """Abort the handshake: queue a fatal alert, for a peer that timed out."""
        self.feed(IMPOSSIBLE_KEY_UPDATE)
        with contextlib.suppress(PeerError):
            self.handshake()

    def refusal(self) -> bytes:
        """The last bytes to send after ``handshake`` raised: an alert, also if OpenSSL produced none."""
        if self._tls.refused_late:
            self.queue_fatal_alert()
        return self.outgoing()

    def keep_session(self) -> None:
        """Let the next connection to ``session_key`` resume this one. A server's ticket comes with its first data.

        A resumed session is kept as it is; one that the server did not resume is replaced.
        """
        if self._session_key is None or self._tls.session_reused:
            return
        # ``ssl`` binds a session to the connection's present context, which is not the one it began with any more.
        accepted, self._tls.context = self._tls.context, self._context
        session = self._tls.session
        self._tls.context = accepted
        if session is not None and session.has_ticket:
            self._context.sessions.keep(self._session_key, session)
        else:
            self.forget_session()

    def check_peer_again(self) -> VerifiedPeer:
        """Check the accepted peer as of now, by the trust of the handshake. Raises PeerError."""
        return self._context.check_resumed_peer(leaf_of(self._tls), self._tls.port)

    def forget_session(self) -> None:
        """Make the next connection to ``session_key`` perform a full handshake."""
        if self._session_key is not None:
            self._context.sessions.drop(self._session_key)

    def read(self) -> bytes:
        """All plaintext that has arrived; b"" for none yet or, if ``peer_closed``, none ever. Raises HandshakeError."""
        self.take_in()
        plain, self._decrypted = self._decrypted, b""
        if not plain and not self.peer_closed:
            self._check_end()
        return plain

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
            raise peer_error(error, established=True) from error
        finally:
            sealed = self._out.read()
        return self.outgoing() + sealed if self.unsent else sealed

    def open(self, cipher: memoryview, into: memoryview) -> int:
        """Decrypt ``cipher`` into ``into`` and return the number of bytes: a faster feed and read.

        ``into`` needs room for ``len(cipher)`` and one record more. The peer's close_notify sets ``peer_closed``. TLS's
        own responses are in ``outgoing``. Raises HandshakeError.
        """
        incoming, read, done = self._in, self._records.read, 0
        incoming.write(cipher)
        try:
            while incoming.pending and not self.peer_closed:
                count = read(MAX_RECORD, into[done:])
                done += count
                if not count:
                    self.peer_closed = True
        except ssl.SSLWantReadError:
            return done
        except ssl.SSLZeroReturnError:
            self.peer_closed = True
        except ssl.SSLError as error:
            raise peer_error(error, established=True) from error
        finally:
            self._leave()
        return done

    def close_write(self) -> None:
        """Queue close_notify. What the peer still sends can be read (TLS half-close, RFC 8446 6.1)."""
        # OpenSSL's second step of a shutdown expects the peer's close_notify, and fails on application data: read what
        # has arrived first.
        self.take_in()
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise peer_error(error, established=True) from error
        finally:
            self._leave()

    def take_in(self) -> None:
        """Decrypt what was fed, and keep it for ``read``; ``peer_closed`` is then known. Raises HandshakeError."""
        if not self._fed:
            return
        self._enter()
        try:
            self._decrypt()
        except ssl.SSLError as error:
            raise peer_error(error, established=True) from error
        finally:
            self._leave()

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
                    self.peer_closed = True
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            self.peer_closed = True

    def _check_end(self) -> None:
        if self._ended:
            raise HandshakeError("the peer closed the connection in the middle of TLS")
