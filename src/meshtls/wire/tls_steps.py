"""What a message, an alert or a record is to the table of ``tls_states``: its event, and the facts in it. Pure.

The bytes may be anybody's. A message that can't be read to its facts is an event without them; its receiver refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct

from meshtls.wire.side import Side
from meshtls.wire.tls.compression import decompressed_certificate
from meshtls.wire.tls.messages import is_hello_retry_request
from meshtls.wire.tls.names import TLS_1_3, Alert, ContentType, Extension, HandshakeType
from meshtls.wire.tls.reading import vector
from meshtls.wire.tls_states import Event

__all__ = ["TlsSteps"]

_E = Event
#: The messages that the table knows have the names of its events. A CompressedCertificate (RFC 8879) is a Certificate.
_EVENTS: Mapping[int, Event] = {
    **{kind: Event[kind.name] for kind in HandshakeType if kind.name in Event.__members__},
    HandshakeType.COMPRESSED_CERTIFICATE: _E.CERTIFICATE,
    # The message that drafts of TLS 1.3 had. Now it is a ServerHello with a certain random.
    HandshakeType.HELLO_RETRY_REQUEST: _E.UNKNOWN,
}
#: Where the session ID of a hello starts: after the header, legacy_version and random.
_SESSION_ID = 38
_FATAL = 2
#: Of an extension: its type, and the length of its content.
_EXTENSION = Struct(">HH").unpack_from
#: The content of supported_versions in a ServerHello of TLS 1.3, with its length before it.
_CHOOSES_1_3 = (2).to_bytes(2, "big") + TLS_1_3.to_bytes(2, "big")
#: Members of an Enum are looked up in Python: too slow for each message.
_EARLY_DATA, _PSK = int(Extension.EARLY_DATA), int(Extension.PRE_SHARED_KEY)
_VERSIONS = int(Extension.SUPPORTED_VERSIONS)
_COMPRESSED = int(HandshakeType.COMPRESSED_CERTIFICATE)
_EARLY_DATA_TYPE = _EARLY_DATA.to_bytes(2, "big")
_RECORDS: Mapping[int, Event] = {
    int(ContentType.CHANGE_CIPHER_SPEC): _E.CHANGE_CIPHER_SPEC,
    int(ContentType.ALERT): _E.ENCRYPTED_ALERT,
    int(ContentType.HANDSHAKE): _E.ENCRYPTED,
    int(ContentType.APPLICATION_DATA): _E.APPLICATION_DATA,
}
_RECORDS_1_3 = {**_RECORDS, int(ContentType.APPLICATION_DATA): _E.ENCRYPTED}
_UNKNOWN = _E.UNKNOWN


class TlsSteps:
    """Makes events of what the two sides of one connection send. What it remembers is what later facts need: the
    session ID that the client sent last, and whether the version is TLS 1.3.
    """

    __slots__ = ("_session_id", "is_1_3")

    def __init__(self) -> None:
        self._session_id = b""
        #: Whether the server has chosen TLS 1.3, or asked for another ClientHello, which only TLS 1.3 does.
        self.is_1_3 = False

    def of_message(self, side: Side, message: bytes) -> list[Event]:
        """The events of a handshake message, which begins with its header: the message, and what it decides."""
        kind = message[0] if message else -1
        event = _EVENTS.get(kind, _E.UNKNOWN)
        try:
            if event is _E.CLIENT_HELLO:
                return [event, *self._of_client_hello(message)]
            if event is _E.SERVER_HELLO:
                return self._of_server_hello(message)
            if event is _E.ENCRYPTED_EXTENSIONS:
                return [event, *([_E.ACCEPTS_EARLY_DATA] if _EARLY_DATA in _extensions(message, 4) else [])]
            if event is _E.CERTIFICATE and side is Side.CLIENT:
                if kind == _COMPRESSED:
                    held = decompressed_certificate(message)
                    if not isinstance(held, bytes):
                        return [event]
                    message = held
                at = vector(message, 4, 1)[1] if self.is_1_3 else 4  # certificate_request_context
                start, end = vector(message, at, 3)
                return [event, *([_E.IS_EMPTY] if start == end else [])]
        except ValueError:
            pass
        return [event]

    def _of_client_hello(self, message: bytes) -> list[Event]:
        start, at = vector(message, _SESSION_ID, 1)
        self._session_id = message[start:at]
        if _EARLY_DATA_TYPE not in message:
            return []  # as nearly all hellos, whose extensions need not be read for this
        _, at = vector(message, at, 2)  # cipher_suites
        _, at = vector(message, at, 1)  # legacy_compression_methods
        return [_E.OFFERS_EARLY_DATA] if _EARLY_DATA in _extensions(message, at) else []

    def _of_server_hello(self, message: bytes) -> list[Event]:
        if is_hello_retry_request(message):
            self.is_1_3 = True
            return [_E.HELLO_RETRY_REQUEST]
        try:
            start, at = vector(message, _SESSION_ID, 1)
            extensions = _extensions(message, at + 3)  # cipher_suite, legacy_compression_method
        except ValueError:
            return [_E.SERVER_HELLO]
        chosen = extensions.get(_VERSIONS)
        self.is_1_3 = chosen is not None and message[chosen - 2 : chosen + 2] == _CHOOSES_1_3
        if self.is_1_3:
            return [_E.SERVER_HELLO, _E.ACCEPTS_PSK if _PSK in extensions else _E.CHOOSES_1_3]
        # A client that sends a ticket sends a session ID with it, to see it again (RFC 5077, section 3.4).
        resumes = start < at and message[start:at] == self._session_id
        return [_E.SERVER_HELLO, _E.RESUMES_1_2 if resumes else _E.CHOOSES_1_2]

    def of_alert(self, level: int, description: int) -> Event:
        """The event of an alert that can be read. In TLS 1.3 its level means nothing (RFC 8446, section 6)."""
        if description == Alert.CLOSE_NOTIFY:
            return _E.CLOSE_NOTIFY
        if description == Alert.USER_CANCELED if self.is_1_3 else level != _FATAL:
            return _E.NO_RENEGOTIATION if description == Alert.NO_RENEGOTIATION else _E.WARNING
        return _E.FATAL

    def of_record(self, content_type: int) -> Event:
        """The event of a record of which only the header is read. ENCRYPTED and ENCRYPTED_ALERT mean that the keys are
        missing; in TLS 1.3 the header doesn't tell what is encrypted (RFC 8446, section 5.2).
        """
        return (_RECORDS_1_3 if self.is_1_3 else _RECORDS).get(content_type, _UNKNOWN)


def _extensions(message: bytes, at: int) -> dict[int, int]:
    """Where the content of each extension in the vector at ``at`` starts, of which a hello of TLS 1.2 may have none. Of
    one that comes twice, the last. Raises ValueError.
    """
    found: dict[int, int] = {}
    size = len(message)
    if at == size:
        return found
    at, end = vector(message, at, 2)
    while at < end:
        start = at + 4
        if start > size:
            raise ValueError("the message ends within an extension's header")
        kind, length = _EXTENSION(message, at)
        at = start + length
        if at > size:
            raise ValueError("an extension is longer than the message")
        found[kind] = start
    return found
