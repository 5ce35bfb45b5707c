"""One end of a mutual TLS connection without a wire: bytes in, bytes out. The sidecar and the streams drive it.

The handshake, and what it showed of the peer, are here; the records that it protects are in ``records.py``.
"""

from __future__ import annotations

import contextlib
import ssl

from meshtls.errors import ClosedEarlyError, HandshakeError, PeerError
from meshtls.svid.context import X509Context
from meshtls.svid.trust import Trust
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.alerts import provoke_alert
from meshtls.tls.context import GenerationContext
from meshtls.tls.failures import CLOSED_IN_TLS, peer_error
from meshtls.tls.peer import leaf_of
from meshtls.tls.records import MAX_OWED, TlsRecords
from meshtls.tls.states import EngineStep
from meshtls.tls.verifying import VerifyingSSLObject
from meshtls.wire.tls import Alert
from meshtls.wire.transcript import Transcript

__all__ = ["MAX_OWED", "TlsEngine"]


class TlsEngine(TlsRecords):
    """The records of one connection, from its handshake on: call ``handshake`` until it returns the peer, then read and
    write.

    ``snapshot`` is our own X509Context; ``peer`` is None until the handshake is done and the peer verified and allowed.
    ``session_key`` names where a client dials: a session from there is resumed, if the context resumes sessions.
    """

    __slots__ = ("_context", "_offered", "_session_key", "snapshot")

    _tls: VerifyingSSLObject

    def __init__(self, context: GenerationContext, *, port: int | None = None, session_key: str | None = None) -> None:
        super().__init__()
        self._context = context
        self.snapshot: X509Context = context.snapshot
        self._session_key = session_key if context.resumption else None
        session = context.sessions.get(self._session_key) if self._session_key else None
        self._offered = session is not None
        tls = context.wrap_bio(self._in, self._out, server_side=context.server_side, session=session)
        assert isinstance(tls, VerifyingSSLObject)  # noqa: S101  # tells the type checker what sslobject_class made
        tls.port = port
        self._tls = self._records = tls

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
    def client_random(self) -> bytes:
        """The random bytes of the handshake's ClientHello, which both sides know; b"" before it."""
        return self._tls.client_random

    @property
    def transcript(self) -> Transcript | None:
        """Filled with the handshake's messages; None if nothing records them. Set it before the first step."""
        return self._tls.transcript

    @transcript.setter
    def transcript(self, wanted: Transcript | None) -> None:
        self._tls.transcript = wanted

    @property
    def alerts(self) -> tuple[int | None, int | None]:
        """The numbers of the last alerts that were sent and received in the handshake, but for close_notify."""
        return self._tls.alert_sent, self._tls.alert_received

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

    def handshake(self) -> VerifiedPeer | None:
        """Take one step. None: more input is needed. Raises PeerError if we refuse the peer or it refuses us."""
        self._enter()
        try:
            self._tls.do_handshake()
            self._proven()
        except ssl.SSLWantReadError:
            if not self._wire_ended:
                return None
            self._step(EngineStep.FAILED)
            raise self.closed_early(CLOSED_IN_TLS) from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError) as error:
            self.forget_session()
            self._step(EngineStep.FAILED)
            raise self.closed_early(CLOSED_IN_TLS) from error
        except ssl.SSLError as error:
            self.forget_session()
            self._step(EngineStep.FAILED)
            raise peer_error(error, begun=self._tls.heard) from error
        finally:
            self._leave()
        return self._tls.peer

    def closed_early(self, how: str) -> HandshakeError:
        """The error where the peer closed the connection within the handshake, in these words.

        A server that closes has failed its caller, while a client may only have probed the port.
        """
        return ClosedEarlyError(how) if self._context.server_side else HandshakeError(how)

    def queue_fatal_alert(self) -> None:
        """Abort the connection, in the handshake or after it: queue a fatal alert."""
        self._tls.alert_sent = Alert.UNEXPECTED_MESSAGE
        with contextlib.suppress(PeerError):
            provoke_alert(self.feed, self.handshake)

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

    def __repr__(self) -> str:
        return f"<TlsEngine {'server' if self._context.server_side else 'client'} {self.state.name}>"
