"""One end of a mutual TLS connection without a wire: bytes in, bytes out. The sidecar and the streams drive it."""

from __future__ import annotations

import ssl

from meshtls.svid.context import X509Context
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import GenerationContext
from meshtls.tls.failures import peer_error
from meshtls.tls.verifying import VerifyingSSLObject

__all__ = ["TlsEngine"]

_READ = 1 << 16


class TlsEngine:
    """Feed what came from the wire, send what ``outgoing`` gives, after every call and also after one that raised:
    what is left there then is the alert that tells the peer.

    ``context`` is our own snapshot; ``peer`` is None until the handshake is done and the peer verified and allowed.
    """

    def __init__(self, context: GenerationContext, *, port: int | None = None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(self._incoming, self._outgoing, server_side=context.server_side)
        assert isinstance(tls, VerifyingSSLObject)  # noqa: S101  # tells the type checker what sslobject_class made
        tls.port = port
        self._tls = tls
        self._decrypted: list[bytes] = []
        self.context: X509Context = context.snapshot
        self.peer_closed = False

    @property
    def peer(self) -> VerifiedPeer | None:
        return self._tls.peer

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
    def ssl_object(self) -> VerifyingSSLObject:
        return self._tls

    def feed(self, data: bytes) -> None:
        """Take ciphertext from the wire."""
        self._incoming.write(data)

    def feed_eof(self) -> None:
        """The wire ended; a handshake or a read that still wanted bytes will raise HandshakeError."""
        self._incoming.write_eof()

    def outgoing(self) -> bytes:
        """Ciphertext to put on the wire now; b"" for none."""
        return self._outgoing.read()

    def handshake(self) -> VerifiedPeer | None:
        """Take one step. None: more input is needed. Raises PeerError where the peer is refused or refuses."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            raise peer_error(error) from error
        return self._tls.peer

    def read(self) -> bytes:
        """All plaintext there is; b"" for none yet, or none ever where ``peer_closed``. Raises HandshakeError."""
        self._decrypt()
        plain = b"".join(self._decrypted)
        self._decrypted.clear()
        return plain

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt. Raises HandshakeError where the connection is broken."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError as error:
            raise peer_error(error) from error

    def close_write(self) -> None:
        """Queue close_notify. What the peer still sends can be read (TLS half-close, RFC 8446 6.1)."""
        # OpenSSL's second step of a shutdown looks for the peer's close_notify, and application data in its way is an
        # error there: take out first what has arrived.
        self._decrypt()
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise peer_error(error) from error

    def _decrypt(self) -> None:
        try:
            while not self.peer_closed:
                plain = self._tls.read(_READ)
                if plain:
                    self._decrypted.append(plain)
                else:
                    self.peer_closed = True
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            self.peer_closed = True
        except ssl.SSLError as error:
            raise peer_error(error) from error
