"""The states of a mutual TLS connection as one table: state x (side, event) -> state. Pure.

This is the connection as its wire shows it, both directions in the order in which they were sent: RFC 8446, sections 2,
4 and 5 and appendices A and D.4, for TLS 1.3; RFC 5246, sections 7.2 to 7.4, with RFC 5077, 6066 and 7918 for TLS 1.2,
whose states also serve the versions before it. An event that is not in a state's row is illegal there: no side that
keeps to the standards sends it.

What a message decides is an event of its own, a fact, that follows the message (``FACTS``): which version a ServerHello
chose, whether a Certificate is empty. So the table needs no conditions. ``tls_steps.py`` makes events of messages, and
``tls_following.py`` follows a connection.

Left out, since no mutual TLS needs it: anonymous and PSK-only suites of TLS 1.2, client certificates of fixed
Diffie-Hellman keys, PSK together with certificates (RFC 8773), and application data between the messages of a
renegotiation that the server accepted. Of requests for authentication after the handshake, one is open at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, unique

from meshtls.wire.side import Side

__all__ = ["FACTS", "NEXT", "Event", "State", "Step", "expected"]


@unique
class Event(Enum):
    """What one side sends, in words; or, from CHOOSES_1_2 on, what its last message decides.

    - ENCRYPTED: a record that can't be read without the keys: in TLS 1.3 all after ServerHello, in TLS 1.2 those of the
      handshake after ChangeCipherSpec.
    - ENCRYPTED_ALERT: an alert of TLS 1.2 that can't be read.
    - WARNING: an alert that ends nothing. In TLS 1.3 that is user_canceled alone (RFC 8446, section 6).
    - END: the end of the side's TCP stream (FIN). RESET: TCP's RST.
    - UNKNOWN: a handshake message, or a record, of a type that TLS does not have here. It is legal nowhere.
    """

    #: As ``Side`` has it.
    __hash__ = object.__hash__

    CLIENT_HELLO = "ClientHello"
    HELLO_REQUEST = "HelloRequest"
    HELLO_RETRY_REQUEST = "HelloRetryRequest"
    SERVER_HELLO = "ServerHello"
    ENCRYPTED_EXTENSIONS = "EncryptedExtensions"
    CERTIFICATE_REQUEST = "CertificateRequest"
    CERTIFICATE = "Certificate"
    CERTIFICATE_STATUS = "CertificateStatus"
    SERVER_KEY_EXCHANGE = "ServerKeyExchange"
    SERVER_HELLO_DONE = "ServerHelloDone"
    CLIENT_KEY_EXCHANGE = "ClientKeyExchange"
    CERTIFICATE_VERIFY = "CertificateVerify"
    END_OF_EARLY_DATA = "EndOfEarlyData"
    NEW_SESSION_TICKET = "NewSessionTicket"
    CHANGE_CIPHER_SPEC = "ChangeCipherSpec"
    FINISHED = "Finished"
    KEY_UPDATE = "KeyUpdate"
    APPLICATION_DATA = "application data"
    ENCRYPTED = "an encrypted record"
    ENCRYPTED_ALERT = "an encrypted alert"
    NO_RENEGOTIATION = "the alert no_renegotiation"
    WARNING = "a warning alert"
    FATAL = "a fatal alert"
    CLOSE_NOTIFY = "close_notify"
    END = "the end of its stream"
    RESET = "a reset"
    UNKNOWN = "an unknown message"
    CHOOSES_1_2 = "the choice of TLS 1.2"
    RESUMES_1_2 = "the choice of TLS 1.2 with the session ID of the client"
    CHOOSES_1_3 = "the choice of TLS 1.3"
    ACCEPTS_PSK = "the choice of TLS 1.3 with a PSK of the client"
    OFFERS_EARLY_DATA = "an offer of early data"
    ACCEPTS_EARLY_DATA = "the acceptance of early data"
    IS_EMPTY = "an empty certificate list"


_E = Event
#: The events that are no message: what the last message of the side decides.
FACTS = frozenset(
    {
        _E.CHOOSES_1_2,
        _E.RESUMES_1_2,
        _E.CHOOSES_1_3,
        _E.ACCEPTS_PSK,
        _E.OFFERS_EARLY_DATA,
        _E.ACCEPTS_EARLY_DATA,
        _E.IS_EMPTY,
    }
)
_ALERTS_AND_ENDS = (_E.WARNING, _E.FATAL, _E.CLOSE_NOTIFY, _E.END, _E.RESET)


@unique
class State(Enum):
    """How far a connection is, in words. The names say the version, and the last message that mattered.

    SKIPPING: the client offered early data and the server does not accept it: it skips what still comes of that.
    """

    #: As ``Side`` has it.
    __hash__ = object.__hash__

    START = "Nothing was sent. The client begins, with a ClientHello."
    CLIENT_HELLO = "The client has offered versions, suites and key shares. The server chooses."
    EARLY_HELLO = (
        "The client has also offered early data, and may send it at once: it is encrypted with the key of an earlier "
        "session."
    )
    RETRY = "The server wants another ClientHello: it can use none of the client's key shares."
    RETRY_SKIPPING = "As RETRY, which also rejects the early data that the client may still be sending."
    SECOND_HELLO = "The client has sent its second ClientHello. Only a ServerHello of TLS 1.3 can follow."
    SERVER_HELLO = "The server has answered. What is in its ServerHello says which version this is."
    EARLY_SERVER_HELLO = "As SERVER_HELLO, for a client that offered early data."
    SECOND_SERVER_HELLO = "As SERVER_HELLO, after a retry: it has to be TLS 1.3."

    TLS12_HELLO = (
        "TLS 1.2. The server sends its certificate, or resumes a session by its ticket: then NewSessionTicket or "
        "ChangeCipherSpec follow at once."
    )
    TLS12_CERTIFICATE = "The server has presented its certificate, in clear."
    TLS12_STATUS = "The server has stapled an OCSP response to its certificate."
    TLS12_KEY_EXCHANGE = "The server has sent its half of the key exchange, signed with the key of its certificate."
    TLS12_REQUEST = "The server asks for the client's certificate, after its own: this is to be mutual TLS."
    TLS12_DONE = "The server has said all, and has not asked for a certificate. The client sends its key exchange."
    TLS12_DONE_ASKED = "The server has said all. The client has to answer the request with a Certificate, empty or not."
    TLS12_CLIENT_CERTIFICATE = "The client has presented a certificate, in clear."
    TLS12_CLIENT_EMPTY = "The client has no certificate to present. Whether it may go on is for the server to say."
    TLS12_CLIENT_KEY = "The client has sent its half of the key exchange. Both sides can compute the keys."
    TLS12_CLIENT_KEY_OF_CERTIFICATE = (
        "As TLS12_CLIENT_KEY, and the client still has to prove the key of its certificate."
    )
    TLS12_CLIENT_VERIFY = "The client has signed the handshake so far with the key of its certificate."
    TLS12_CLIENT_CIPHER = (
        "What the client sends from here on is encrypted. Its Finished is next, as a check of the keys."
    )
    TLS12_CLIENT_FINISHED = (
        "The client is done. If its Finished is right, the server finishes too. The client may send data already "
        "(false start, RFC 7918)."
    )
    TLS12_TICKET = "The server has given the client a ticket, with which it can resume this session."
    TLS12_SERVER_CIPHER = "What the server sends from here on is encrypted. Its Finished completes the handshake."
    TLS12_RESUMED = "TLS 1.2 with an earlier session: no certificates are sent. The server finishes first."
    TLS12_RESUMED_TICKET = "The server has given the client a new ticket for the resumed session."
    TLS12_RESUMED_SERVER_CIPHER = "What the server sends from here on is encrypted with new keys of the old session."
    TLS12_RESUMED_SERVER_FINISHED = "The server is done. The client finishes."
    TLS12_RESUMED_CLIENT_CIPHER = "What the client sends is encrypted, too. Its Finished completes the handshake."
    TLS12_EARLY_DATA = "The server chose TLS 1.2, which has no early data: the client has to fail (RFC 8446, D.3)."
    OPEN_12 = "The handshake of TLS 1.2 is complete: both sides have proven that they have the same keys."
    RENEGOTIATION_ASKED = "The server asks for another handshake. The client may ignore that, refuse, or begin one."
    RENEGOTIATION = "The client begins another handshake within the connection. A server of today refuses it."
    RENEGOTIATION_SERVER_HELLO = "The server has accepted the renegotiation, which goes on as a handshake of TLS 1.2."

    TLS13_HELLO = "TLS 1.3. From here on all but ChangeCipherSpec, which means nothing, is encrypted."
    TLS13_EXTENSIONS = "The server has sent the rest of its choices, such as the protocol (ALPN)."
    TLS13_REQUEST = "The server asks for the client's certificate, before its own: this is to be mutual TLS."
    TLS13_CERTIFICATE = "The server has presented its certificate. It has not asked for the client's."
    TLS13_CERTIFICATE_ASKED = "The server has presented its certificate, and has asked for the client's."
    TLS13_VERIFY = "The server has signed the handshake so far with the key of its certificate."
    TLS13_VERIFY_ASKED = "As TLS13_VERIFY, and the client's certificate was asked for."
    TLS13_SERVER_FINISHED = (
        "The server is done, and may send data and tickets before the client has finished. The client's Finished is "
        "next."
    )
    TLS13_SERVER_FINISHED_ASKED = (
        "The server is done, and may send data before it knows who the client is. The client answers with a "
        "Certificate, empty or not."
    )
    TLS13_PSK = "TLS 1.3 with a key of an earlier session (PSK): no certificates are sent."
    TLS13_PSK_EXTENSIONS = "As TLS13_EXTENSIONS, with a PSK: the server's Finished is next."
    TLS13_CLIENT_CERTIFICATE = "The client has presented a certificate, and has to prove its key."
    TLS13_CLIENT_EMPTY = (
        "The client has no certificate to present. It finishes, and a server that requires one answers with "
        "certificate_required."
    )
    TLS13_CLIENT_VERIFY = "The client has signed the handshake so far with its certificate's key. Its Finished is next."
    TLS13_SKIPPING_HELLO = "As TLS13_HELLO. Early data was offered, and is rejected with the session that it needs."
    TLS13_SKIPPING_EXTENSIONS = "As TLS13_EXTENSIONS, early data rejected."
    TLS13_SKIPPING_REQUEST = "As TLS13_REQUEST, early data rejected."
    TLS13_SKIPPING_CERTIFICATE = "As TLS13_CERTIFICATE, early data rejected."
    TLS13_SKIPPING_CERTIFICATE_ASKED = "As TLS13_CERTIFICATE_ASKED, early data rejected."
    TLS13_SKIPPING_VERIFY = "As TLS13_VERIFY, early data rejected."
    TLS13_SKIPPING_VERIFY_ASKED = "As TLS13_VERIFY_ASKED, early data rejected."
    TLS13_SKIPPING_SERVER_FINISHED = (
        "As TLS13_SERVER_FINISHED, early data rejected. What of it was on its way may still be seen."
    )
    TLS13_SKIPPING_SERVER_FINISHED_ASKED = "As TLS13_SERVER_FINISHED_ASKED, early data rejected."
    TLS13_EARLY_PSK = (
        "As TLS13_PSK, for a client that offered early data. EncryptedExtensions will say whether it counts."
    )
    TLS13_EARLY_EXTENSIONS = "As TLS13_PSK_EXTENSIONS. If they don't accept the early data, it is rejected."
    TLS13_EARLY_ACCEPTED = "The server accepts the early data, which anybody could replay."
    TLS13_EARLY_SERVER_FINISHED = "The server is done. The client ends its early data, and then finishes."
    TLS13_EARLY_ENDED = "The early data is over. The client's Finished is next."
    OPEN_13 = (
        "The handshake of TLS 1.3 is complete on the wire. A server that does not accept the client's certificate "
        "says so only now, with an alert."
    )
    AUTH_REQUESTED = "The server asks an open connection's client for its certificate (post-handshake authentication)."
    AUTH_CERTIFICATE = "The client presents a certificate within the open connection, and has to prove its key."
    AUTH_EMPTY = "The client has no certificate to present within the open connection."
    AUTH_VERIFY = "The client has signed with the key of the certificate that was asked for late. Its Finished is next."

    CLOSED_BY_CLIENT_12 = "The client has closed its side. RFC 5246 wants the server to close at once, too."
    CLOSED_BY_SERVER_12 = "The server has closed its side. RFC 5246 wants the client to close at once, too."
    CLOSED_BY_CLIENT_13 = "The client has closed its side, whole. The server may go on sending (half-close)."
    CLOSED_BY_SERVER_13 = "The server has closed its side, whole. The client may go on sending (half-close)."
    CLOSED_BY_SERVER_ASKED = "As CLOSED_BY_SERVER_13, and the client may still answer a request for its certificate."
    CLOSED = "Both sides have closed with close_notify: nothing of what they sent is missing."
    FAILED_BY_CLIENT = "The client has ended the connection with a fatal alert, which says why."
    FAILED_BY_SERVER = "The server has ended the connection with a fatal alert, which says why."
    LEFT_BY_CLIENT = "The client has ended the connection before the handshake was complete, without a reason."
    LEFT_BY_SERVER = "The server has ended the connection before the handshake was complete, without a reason."
    CUT_BY_CLIENT = "The client's stream ended without close_notify: what it sent may be truncated."
    CUT_BY_SERVER = "The server's stream ended without close_notify: what it sent may be truncated."
    RESET_BY_CLIENT = "The client's TCP has reset the connection. What was on its way is lost."
    RESET_BY_SERVER = "The server's TCP has reset the connection. What was on its way is lost."
    ILLEGAL = "A step was illegal. What follows is not judged, but for a fatal alert, which it probably leads to."

    OPAQUE_SERVER = "TLS 1.3 without keys: the server's part of the handshake is on its way, encrypted."
    OPAQUE_EARLY = "TLS 1.3 without keys, with early data: handshake or application data, which is not known."
    OPAQUE_CLIENT = "TLS 1.3 without keys: the client answers the server's part of the handshake, or refuses it."
    OPAQUE_OPEN = (
        "TLS 1.3 without keys: the server has sent something after the client's answer: data, tickets, or an alert. "
        "The handshake is complete unless that was the alert."
    )
    OPAQUE_12 = (
        "TLS 1.2 without keys: something encrypted that is no data: an alert, most often the end, or a handshake."
    )
    OPAQUE_ENDED_BY_CLIENT = "The client's stream ended. Whether with close_notify is not known."
    OPAQUE_ENDED_BY_SERVER = "The server's stream ended. Whether with close_notify is not known."
    OPAQUE_ENDED = "Both streams ended. Whether with close_notify is not known."


_S, _CLIENT, _SERVER = State, Side.CLIENT, Side.SERVER
#: Who, and what.
Step = tuple[Side, Event]
_Row = Mapping[Step, State]

_BEGINNING: dict[State, _Row] = {
    _S.START: {(_CLIENT, _E.CLIENT_HELLO): _S.CLIENT_HELLO},
    _S.CLIENT_HELLO: {
        (_CLIENT, _E.OFFERS_EARLY_DATA): _S.EARLY_HELLO,
        (_SERVER, _E.HELLO_RETRY_REQUEST): _S.RETRY,
        (_SERVER, _E.SERVER_HELLO): _S.SERVER_HELLO,
    },
    _S.EARLY_HELLO: {
        (_SERVER, _E.HELLO_RETRY_REQUEST): _S.RETRY_SKIPPING,
        (_SERVER, _E.SERVER_HELLO): _S.EARLY_SERVER_HELLO,
    },
    _S.RETRY: {(_CLIENT, _E.CLIENT_HELLO): _S.SECOND_HELLO},
    _S.RETRY_SKIPPING: {(_CLIENT, _E.CLIENT_HELLO): _S.SECOND_HELLO},
    _S.SECOND_HELLO: {(_SERVER, _E.SERVER_HELLO): _S.SECOND_SERVER_HELLO},
    _S.SERVER_HELLO: {
        (_SERVER, _E.CHOOSES_1_2): _S.TLS12_HELLO,
        (_SERVER, _E.RESUMES_1_2): _S.TLS12_RESUMED,
        (_SERVER, _E.CHOOSES_1_3): _S.TLS13_HELLO,
        (_SERVER, _E.ACCEPTS_PSK): _S.TLS13_PSK,
    },
    _S.EARLY_SERVER_HELLO: {
        (_SERVER, _E.CHOOSES_1_2): _S.TLS12_EARLY_DATA,
        (_SERVER, _E.RESUMES_1_2): _S.TLS12_EARLY_DATA,
        (_SERVER, _E.CHOOSES_1_3): _S.TLS13_SKIPPING_HELLO,
        (_SERVER, _E.ACCEPTS_PSK): _S.TLS13_EARLY_PSK,
    },
    _S.SECOND_SERVER_HELLO: {
        (_SERVER, _E.CHOOSES_1_3): _S.TLS13_HELLO,
        (_SERVER, _E.ACCEPTS_PSK): _S.TLS13_PSK,
    },
}
_TLS12: dict[State, _Row] = {
    _S.TLS12_HELLO: {
        (_SERVER, _E.CERTIFICATE): _S.TLS12_CERTIFICATE,
        (_SERVER, _E.NEW_SESSION_TICKET): _S.TLS12_RESUMED_TICKET,
        (_SERVER, _E.CHANGE_CIPHER_SPEC): _S.TLS12_RESUMED_SERVER_CIPHER,
    },
    _S.TLS12_CERTIFICATE: {
        (_SERVER, _E.CERTIFICATE_STATUS): _S.TLS12_STATUS,
        (_SERVER, _E.SERVER_KEY_EXCHANGE): _S.TLS12_KEY_EXCHANGE,
        (_SERVER, _E.CERTIFICATE_REQUEST): _S.TLS12_REQUEST,
        (_SERVER, _E.SERVER_HELLO_DONE): _S.TLS12_DONE,
    },
    _S.TLS12_STATUS: {
        (_SERVER, _E.SERVER_KEY_EXCHANGE): _S.TLS12_KEY_EXCHANGE,
        (_SERVER, _E.CERTIFICATE_REQUEST): _S.TLS12_REQUEST,
        (_SERVER, _E.SERVER_HELLO_DONE): _S.TLS12_DONE,
    },
    _S.TLS12_KEY_EXCHANGE: {
        (_SERVER, _E.CERTIFICATE_REQUEST): _S.TLS12_REQUEST,
        (_SERVER, _E.SERVER_HELLO_DONE): _S.TLS12_DONE,
    },
    _S.TLS12_REQUEST: {(_SERVER, _E.SERVER_HELLO_DONE): _S.TLS12_DONE_ASKED},
    _S.TLS12_DONE: {(_CLIENT, _E.CLIENT_KEY_EXCHANGE): _S.TLS12_CLIENT_KEY},
    _S.TLS12_DONE_ASKED: {(_CLIENT, _E.CERTIFICATE): _S.TLS12_CLIENT_CERTIFICATE},
    _S.TLS12_CLIENT_CERTIFICATE: {
        (_CLIENT, _E.IS_EMPTY): _S.TLS12_CLIENT_EMPTY,
        (_CLIENT, _E.CLIENT_KEY_EXCHANGE): _S.TLS12_CLIENT_KEY_OF_CERTIFICATE,
    },
    _S.TLS12_CLIENT_EMPTY: {(_CLIENT, _E.CLIENT_KEY_EXCHANGE): _S.TLS12_CLIENT_KEY},
    _S.TLS12_CLIENT_KEY: {(_CLIENT, _E.CHANGE_CIPHER_SPEC): _S.TLS12_CLIENT_CIPHER},
    _S.TLS12_CLIENT_KEY_OF_CERTIFICATE: {(_CLIENT, _E.CERTIFICATE_VERIFY): _S.TLS12_CLIENT_VERIFY},
    _S.TLS12_CLIENT_VERIFY: {(_CLIENT, _E.CHANGE_CIPHER_SPEC): _S.TLS12_CLIENT_CIPHER},
    _S.TLS12_CLIENT_CIPHER: {
        (_CLIENT, _E.FINISHED): _S.TLS12_CLIENT_FINISHED,
        (_CLIENT, _E.ENCRYPTED): _S.TLS12_CLIENT_FINISHED,
    },
    _S.TLS12_CLIENT_FINISHED: {
        (_SERVER, _E.NEW_SESSION_TICKET): _S.TLS12_TICKET,
        (_SERVER, _E.CHANGE_CIPHER_SPEC): _S.TLS12_SERVER_CIPHER,
    },
    _S.TLS12_TICKET: {(_SERVER, _E.CHANGE_CIPHER_SPEC): _S.TLS12_SERVER_CIPHER},
    _S.TLS12_SERVER_CIPHER: {(_SERVER, _E.FINISHED): _S.OPEN_12, (_SERVER, _E.ENCRYPTED): _S.OPEN_12},
    _S.TLS12_RESUMED: {
        (_SERVER, _E.NEW_SESSION_TICKET): _S.TLS12_RESUMED_TICKET,
        (_SERVER, _E.CHANGE_CIPHER_SPEC): _S.TLS12_RESUMED_SERVER_CIPHER,
    },
    _S.TLS12_RESUMED_TICKET: {(_SERVER, _E.CHANGE_CIPHER_SPEC): _S.TLS12_RESUMED_SERVER_CIPHER},
    _S.TLS12_RESUMED_SERVER_CIPHER: {
        (_SERVER, _E.FINISHED): _S.TLS12_RESUMED_SERVER_FINISHED,
        (_SERVER, _E.ENCRYPTED): _S.TLS12_RESUMED_SERVER_FINISHED,
    },
    _S.TLS12_RESUMED_SERVER_FINISHED: {(_CLIENT, _E.CHANGE_CIPHER_SPEC): _S.TLS12_RESUMED_CLIENT_CIPHER},
    _S.TLS12_RESUMED_CLIENT_CIPHER: {(_CLIENT, _E.FINISHED): _S.OPEN_12, (_CLIENT, _E.ENCRYPTED): _S.OPEN_12},
    _S.TLS12_EARLY_DATA: {},
    _S.RENEGOTIATION: {
        (_SERVER, _E.NO_RENEGOTIATION): _S.OPEN_12,
        (_SERVER, _E.SERVER_HELLO): _S.RENEGOTIATION_SERVER_HELLO,
    },
    _S.RENEGOTIATION_SERVER_HELLO: {
        (_SERVER, _E.CHOOSES_1_2): _S.TLS12_HELLO,
        (_SERVER, _E.RESUMES_1_2): _S.TLS12_RESUMED,
    },
}
_TLS13: dict[State, _Row] = {
    _S.TLS13_HELLO: {
        (_SERVER, _E.ENCRYPTED_EXTENSIONS): _S.TLS13_EXTENSIONS,
        (_SERVER, _E.ENCRYPTED): _S.OPAQUE_SERVER,
    },
    _S.TLS13_EXTENSIONS: {
        (_SERVER, _E.CERTIFICATE_REQUEST): _S.TLS13_REQUEST,
        (_SERVER, _E.CERTIFICATE): _S.TLS13_CERTIFICATE,
    },
    _S.TLS13_REQUEST: {(_SERVER, _E.CERTIFICATE): _S.TLS13_CERTIFICATE_ASKED},
    _S.TLS13_CERTIFICATE: {(_SERVER, _E.CERTIFICATE_VERIFY): _S.TLS13_VERIFY},
    _S.TLS13_CERTIFICATE_ASKED: {(_SERVER, _E.CERTIFICATE_VERIFY): _S.TLS13_VERIFY_ASKED},
    _S.TLS13_VERIFY: {(_SERVER, _E.FINISHED): _S.TLS13_SERVER_FINISHED},
    _S.TLS13_VERIFY_ASKED: {(_SERVER, _E.FINISHED): _S.TLS13_SERVER_FINISHED_ASKED},
    _S.TLS13_SERVER_FINISHED: {(_CLIENT, _E.FINISHED): _S.OPEN_13},
    _S.TLS13_SERVER_FINISHED_ASKED: {(_CLIENT, _E.CERTIFICATE): _S.TLS13_CLIENT_CERTIFICATE},
    _S.TLS13_PSK: {
        (_SERVER, _E.ENCRYPTED_EXTENSIONS): _S.TLS13_PSK_EXTENSIONS,
        (_SERVER, _E.ENCRYPTED): _S.OPAQUE_SERVER,
    },
    _S.TLS13_PSK_EXTENSIONS: {(_SERVER, _E.FINISHED): _S.TLS13_SERVER_FINISHED},
    _S.TLS13_CLIENT_CERTIFICATE: {
        (_CLIENT, _E.IS_EMPTY): _S.TLS13_CLIENT_EMPTY,
        (_CLIENT, _E.CERTIFICATE_VERIFY): _S.TLS13_CLIENT_VERIFY,
    },
    _S.TLS13_CLIENT_EMPTY: {(_CLIENT, _E.FINISHED): _S.OPEN_13},
    _S.TLS13_CLIENT_VERIFY: {(_CLIENT, _E.FINISHED): _S.OPEN_13},
    _S.TLS13_SKIPPING_HELLO: {
        (_SERVER, _E.ENCRYPTED_EXTENSIONS): _S.TLS13_SKIPPING_EXTENSIONS,
        (_SERVER, _E.ENCRYPTED): _S.OPAQUE_EARLY,
    },
    _S.TLS13_SKIPPING_EXTENSIONS: {
        (_SERVER, _E.CERTIFICATE_REQUEST): _S.TLS13_SKIPPING_REQUEST,
        (_SERVER, _E.CERTIFICATE): _S.TLS13_SKIPPING_CERTIFICATE,
    },
    _S.TLS13_SKIPPING_REQUEST: {(_SERVER, _E.CERTIFICATE): _S.TLS13_SKIPPING_CERTIFICATE_ASKED},
    _S.TLS13_SKIPPING_CERTIFICATE: {(_SERVER, _E.CERTIFICATE_VERIFY): _S.TLS13_SKIPPING_VERIFY},
    _S.TLS13_SKIPPING_CERTIFICATE_ASKED: {(_SERVER, _E.CERTIFICATE_VERIFY): _S.TLS13_SKIPPING_VERIFY_ASKED},
    _S.TLS13_SKIPPING_VERIFY: {(_SERVER, _E.FINISHED): _S.TLS13_SKIPPING_SERVER_FINISHED},
    _S.TLS13_SKIPPING_VERIFY_ASKED: {(_SERVER, _E.FINISHED): _S.TLS13_SKIPPING_SERVER_FINISHED_ASKED},
    _S.TLS13_SKIPPING_SERVER_FINISHED: {(_CLIENT, _E.FINISHED): _S.OPEN_13},
    _S.TLS13_SKIPPING_SERVER_FINISHED_ASKED: {(_CLIENT, _E.CERTIFICATE): _S.TLS13_CLIENT_CERTIFICATE},
    _S.TLS13_EARLY_PSK: {
        (_SERVER, _E.ENCRYPTED_EXTENSIONS): _S.TLS13_EARLY_EXTENSIONS,
        (_SERVER, _E.ENCRYPTED): _S.OPAQUE_EARLY,
    },
    _S.TLS13_EARLY_EXTENSIONS: {
        (_SERVER, _E.ACCEPTS_EARLY_DATA): _S.TLS13_EARLY_ACCEPTED,
        (_SERVER, _E.FINISHED): _S.TLS13_SKIPPING_SERVER_FINISHED,
    },
    _S.TLS13_EARLY_ACCEPTED: {(_SERVER, _E.FINISHED): _S.TLS13_EARLY_SERVER_FINISHED},
    _S.TLS13_EARLY_SERVER_FINISHED: {(_CLIENT, _E.END_OF_EARLY_DATA): _S.TLS13_EARLY_ENDED},
    _S.TLS13_EARLY_ENDED: {(_CLIENT, _E.FINISHED): _S.OPEN_13},
}
_OPEN: dict[State, _Row] = {
    _S.OPEN_12: {
        (_SERVER, _E.HELLO_REQUEST): _S.RENEGOTIATION_ASKED,
        (_CLIENT, _E.CLIENT_HELLO): _S.RENEGOTIATION,
    },
    _S.RENEGOTIATION_ASKED: {
        (_CLIENT, _E.NO_RENEGOTIATION): _S.OPEN_12,
        (_CLIENT, _E.CLIENT_HELLO): _S.RENEGOTIATION,
    },
    _S.OPEN_13: {(_SERVER, _E.CERTIFICATE_REQUEST): _S.AUTH_REQUESTED},
    _S.AUTH_REQUESTED: {(_CLIENT, _E.CERTIFICATE): _S.AUTH_CERTIFICATE},
    _S.AUTH_CERTIFICATE: {
        (_CLIENT, _E.IS_EMPTY): _S.AUTH_EMPTY,
        (_CLIENT, _E.CERTIFICATE_VERIFY): _S.AUTH_VERIFY,
    },
    _S.AUTH_EMPTY: {(_CLIENT, _E.FINISHED): _S.OPEN_13},
    _S.AUTH_VERIFY: {(_CLIENT, _E.FINISHED): _S.OPEN_13},
}
_OPAQUE: dict[State, _Row] = {
    _S.OPAQUE_SERVER: {
        (_CLIENT, _E.ENCRYPTED): _S.OPAQUE_CLIENT,
        # A client that can't use the ServerHello has no keys to encrypt its alert with.
        (_CLIENT, _E.FATAL): _S.FAILED_BY_CLIENT,
        (_CLIENT, _E.CLOSE_NOTIFY): _S.LEFT_BY_CLIENT,
        (_CLIENT, _E.END): _S.LEFT_BY_CLIENT,
        (_SERVER, _E.END): _S.LEFT_BY_SERVER,
    },
    _S.OPAQUE_EARLY: {
        (_CLIENT, _E.FATAL): _S.FAILED_BY_CLIENT,
        (_CLIENT, _E.CLOSE_NOTIFY): _S.LEFT_BY_CLIENT,
    },
    _S.OPAQUE_CLIENT: {(_SERVER, _E.ENCRYPTED): _S.OPAQUE_OPEN},
    _S.OPAQUE_OPEN: {},
    _S.OPAQUE_12: {},
    _S.OPAQUE_ENDED_BY_CLIENT: {(_SERVER, _E.END): _S.OPAQUE_ENDED},
    _S.OPAQUE_ENDED_BY_SERVER: {(_CLIENT, _E.END): _S.OPAQUE_ENDED},
    _S.OPAQUE_ENDED: {},
}

_CLOSED_BY = {
    _S.CLOSED_BY_CLIENT_12: _CLIENT,
    _S.CLOSED_BY_SERVER_12: _SERVER,
    _S.CLOSED_BY_CLIENT_13: _CLIENT,
    _S.CLOSED_BY_SERVER_13: _SERVER,
    _S.CLOSED_BY_SERVER_ASKED: _SERVER,
}
_FAILED = {_CLIENT: _S.FAILED_BY_CLIENT, _SERVER: _S.FAILED_BY_SERVER}
_LEFT = {_CLIENT: _S.LEFT_BY_CLIENT, _SERVER: _S.LEFT_BY_SERVER}
_CUT = {_CLIENT: _S.CUT_BY_CLIENT, _SERVER: _S.CUT_BY_SERVER}
_RESET = {_CLIENT: _S.RESET_BY_CLIENT, _SERVER: _S.RESET_BY_SERVER}
_OPAQUE_ENDED = {_CLIENT: _S.OPAQUE_ENDED_BY_CLIENT, _SERVER: _S.OPAQUE_ENDED_BY_SERVER}
_CLOSED_12 = {_CLIENT: _S.CLOSED_BY_CLIENT_12, _SERVER: _S.CLOSED_BY_SERVER_12}
_CLOSED_13 = {_CLIENT: _S.CLOSED_BY_CLIENT_13, _SERVER: _S.CLOSED_BY_SERVER_13}
_CLOSED_ASKED = {_CLIENT: _S.CLOSED_BY_CLIENT_13, _SERVER: _S.CLOSED_BY_SERVER_ASKED}
_CLOSES = {
    _S.OPEN_12: _CLOSED_12,
    _S.RENEGOTIATION_ASKED: _CLOSED_12,
    _S.OPEN_13: _CLOSED_13,
    _S.AUTH_REQUESTED: _CLOSED_ASKED,
    _S.AUTH_CERTIFICATE: _CLOSED_ASKED,
    _S.AUTH_EMPTY: _CLOSED_ASKED,
    _S.AUTH_VERIFY: _CLOSED_ASKED,
}
_SKIPPING = tuple(state for state in _TLS13 if "SKIPPING" in state.name)
_AUTH = (_S.AUTH_REQUESTED, _S.AUTH_CERTIFICATE, _S.AUTH_EMPTY, _S.AUTH_VERIFY)
#: The server has finished in TLS 1.3, the client has not.
_NOT_ASKED = (
    _S.TLS13_SERVER_FINISHED,
    _S.TLS13_SKIPPING_SERVER_FINISHED,
    _S.TLS13_EARLY_SERVER_FINISHED,
    _S.TLS13_EARLY_ENDED,
)
_HALF_FINISHED = (
    *_NOT_ASKED,
    _S.TLS13_SERVER_FINISHED_ASKED,
    _S.TLS13_SKIPPING_SERVER_FINISHED_ASKED,
    _S.TLS13_CLIENT_CERTIFICATE,
    _S.TLS13_CLIENT_EMPTY,
    _S.TLS13_CLIENT_VERIFY,
)
#: The side's records are encrypted, in TLS 1.2.
_CLIENT_ENCRYPTS = (
    _S.TLS12_CLIENT_CIPHER,
    _S.TLS12_CLIENT_FINISHED,
    _S.TLS12_TICKET,
    _S.TLS12_SERVER_CIPHER,
    _S.TLS12_RESUMED_CLIENT_CIPHER,
)
_SERVER_ENCRYPTS = (
    _S.TLS12_SERVER_CIPHER,
    _S.TLS12_RESUMED_SERVER_CIPHER,
    _S.TLS12_RESUMED_SERVER_FINISHED,
    _S.TLS12_RESUMED_CLIENT_CIPHER,
)
_OPEN_12 = (_S.OPEN_12, _S.RENEGOTIATION_ASKED, _S.RENEGOTIATION)
_OPAQUE_LIVE = (_S.OPAQUE_SERVER, _S.OPAQUE_EARLY, _S.OPAQUE_CLIENT, _S.OPAQUE_OPEN)
_ANYTHING = tuple(event for event in Event if event is not _E.UNKNOWN)

_Stay = tuple[Iterable[State], Side, tuple[Event, ...]]
#: What is legal in these states, and changes nothing.
_STAYS: tuple[_Stay, ...] = (
    # ChangeCipherSpec means nothing in TLS 1.3: from the first hello to the side's own Finished it is dropped (section
    # 5). Before the server's hello only a client with early data sends it (appendix D.4).
    ((_S.EARLY_HELLO, _S.RETRY, _S.RETRY_SKIPPING, _S.SECOND_HELLO, *_TLS13), _CLIENT, (_E.CHANGE_CIPHER_SPEC,)),
    ((_S.RETRY, _S.RETRY_SKIPPING, _S.SECOND_HELLO), _SERVER, (_E.CHANGE_CIPHER_SPEC,)),
    ((one for one in _TLS13 if one not in _HALF_FINISHED), _SERVER, (_E.CHANGE_CIPHER_SPEC,)),
    # Early data, and what is on its way of rejected early data.
    ((_S.EARLY_HELLO, _S.RETRY_SKIPPING), _CLIENT, (_E.APPLICATION_DATA, _E.ENCRYPTED)),
    ((_S.TLS13_SKIPPING_HELLO, _S.TLS13_EARLY_PSK), _CLIENT, (_E.APPLICATION_DATA, _E.ENCRYPTED)),
    (
        (
            *(one for one in _SKIPPING if one is not _S.TLS13_SKIPPING_HELLO),
            _S.TLS13_EARLY_EXTENSIONS,
            _S.TLS13_EARLY_ACCEPTED,
            _S.TLS13_EARLY_SERVER_FINISHED,
        ),
        _CLIENT,
        (_E.APPLICATION_DATA,),
    ),
    # The server may send before the client has finished (RFC 8446, sections 2, 4.6.1 and 4.6.3).
    (_HALF_FINISHED, _SERVER, (_E.APPLICATION_DATA, _E.KEY_UPDATE)),
    (_NOT_ASKED, _SERVER, (_E.NEW_SESSION_TICKET,)),
    # A client's answer to a late request has no other messages in between (section 4.6.2).
    ((_S.OPEN_13, _S.AUTH_REQUESTED), _CLIENT, (_E.APPLICATION_DATA, _E.KEY_UPDATE)),
    ((_S.OPEN_13, *_AUTH), _SERVER, (_E.APPLICATION_DATA, _E.KEY_UPDATE, _E.NEW_SESSION_TICKET)),
    ((_S.CLOSED_BY_SERVER_13, _S.CLOSED_BY_SERVER_ASKED), _CLIENT, (_E.APPLICATION_DATA, _E.KEY_UPDATE)),
    (
        (_S.CLOSED_BY_SERVER_ASKED,),
        _CLIENT,
        (_E.CERTIFICATE, _E.IS_EMPTY, _E.CERTIFICATE_VERIFY, _E.FINISHED),
    ),
    (
        (_S.CLOSED_BY_CLIENT_13,),
        _SERVER,
        (_E.APPLICATION_DATA, _E.KEY_UPDATE, _E.NEW_SESSION_TICKET, _E.CERTIFICATE_REQUEST),
    ),
    # TLS 1.2: false start, and requests for a renegotiation, which a client that is in a handshake ignores.
    ((_S.TLS12_CLIENT_FINISHED, _S.TLS12_TICKET, _S.TLS12_SERVER_CIPHER), _CLIENT, (_E.APPLICATION_DATA,)),
    (
        (
            one
            for one in _TLS12
            if one not in (_S.TLS12_SERVER_CIPHER, _S.TLS12_RESUMED_SERVER_CIPHER, _S.RENEGOTIATION_SERVER_HELLO)
        ),
        _SERVER,
        (_E.HELLO_REQUEST,),
    ),
    ((_S.RENEGOTIATION_ASKED,), _SERVER, (_E.HELLO_REQUEST,)),
    (_OPEN_12, _CLIENT, (_E.APPLICATION_DATA,)),
    (_OPEN_12, _SERVER, (_E.APPLICATION_DATA,)),
    ((_S.TLS12_EARLY_DATA,), _CLIENT, (_E.APPLICATION_DATA, _E.CHANGE_CIPHER_SPEC)),
    (
        (_S.TLS12_EARLY_DATA,),
        _SERVER,
        (
            _E.CERTIFICATE,
            _E.CERTIFICATE_STATUS,
            _E.SERVER_KEY_EXCHANGE,
            _E.CERTIFICATE_REQUEST,
            _E.SERVER_HELLO_DONE,
            _E.NEW_SESSION_TICKET,
            _E.CHANGE_CIPHER_SPEC,
            _E.FINISHED,
        ),
    ),
    # What was on its way when the other side closed.
    ((_S.CLOSED_BY_CLIENT_12,), _SERVER, (_E.APPLICATION_DATA, _E.HELLO_REQUEST, _E.NO_RENEGOTIATION)),
    ((_S.CLOSED_BY_SERVER_12,), _CLIENT, (_E.APPLICATION_DATA, _E.CLIENT_HELLO, _E.NO_RENEGOTIATION)),
    # Without the keys.
    (_OPAQUE_LIVE, _CLIENT, (_E.CHANGE_CIPHER_SPEC,)),
    (_OPAQUE_LIVE, _SERVER, (_E.CHANGE_CIPHER_SPEC,)),
    ((_S.OPAQUE_SERVER, _S.OPAQUE_EARLY), _CLIENT, (_E.WARNING,)),
    ((_S.OPAQUE_EARLY, _S.OPAQUE_CLIENT, _S.OPAQUE_OPEN), _CLIENT, (_E.ENCRYPTED,)),
    ((_S.OPAQUE_SERVER, _S.OPAQUE_EARLY, _S.OPAQUE_OPEN), _SERVER, (_E.ENCRYPTED,)),
    *(
        (
            (_S.OPAQUE_12, _OPAQUE_ENDED[side.other]),
            side,
            (_E.APPLICATION_DATA, _E.ENCRYPTED, _E.ENCRYPTED_ALERT, _E.CHANGE_CIPHER_SPEC),
        )
        for side in Side
    ),
    *(((_S.OPAQUE_ENDED, _OPAQUE_ENDED[side]), side, (_E.END, _E.RESET)) for side in Side),
    # After the end: TCP's own, and what the other side had sent before it knew.
    *(((_S.CLOSED,), side, (_E.END, _E.RESET)) for side in Side),
    *(((state,), side, (_E.END,)) for state, side in _CLOSED_BY.items()),
    *(((ends[side],), side, (_E.END, _E.RESET)) for ends in (_FAILED, _LEFT, _CUT, _RESET) for side in Side),
    *(((ends[side],), side.other, _ANYTHING) for ends in (_FAILED, _LEFT, _CUT, _RESET) for side in Side),
    *(((_S.ILLEGAL,), side, tuple(event for event in Event if event is not _E.FATAL)) for side in Side),
)


def _ends() -> dict[State, dict[Step, State]]:
    """How a state ends: by alerts and by TCP."""
    rows: dict[State, dict[Step, State]] = {state: {} for state in State}
    for side in Side:
        for state in (*_BEGINNING, *_TLS12, *_TLS13):
            rows[state] |= {
                (side, _E.WARNING): state,
                (side, _E.FATAL): _FAILED[side],
                (side, _E.CLOSE_NOTIFY): _LEFT[side],
                (side, _E.END): _LEFT[side],
                (side, _E.RESET): _RESET[side],
            }
        for state, closed in _CLOSES.items():
            rows[state] |= {
                (side, _E.WARNING): state,
                (side, _E.FATAL): _FAILED[side],
                (side, _E.CLOSE_NOTIFY): closed[side],
                (side, _E.END): _CUT[side],
                (side, _E.RESET): _RESET[side],
            }
        for state in (*_OPAQUE_LIVE, _S.OPAQUE_12):
            rows[state] |= {(side, _E.END): _OPAQUE_ENDED[side], (side, _E.RESET): _RESET[side]}
        rows[_OPAQUE_ENDED[side]][side.other, _E.RESET] = _RESET[side.other]
        rows[_S.ILLEGAL][side, _E.FATAL] = _FAILED[side]
    for state, side in _CLOSED_BY.items():
        rows[state] = {
            (side, _E.RESET): _RESET[side],
            (side.other, _E.WARNING): state,
            (side.other, _E.FATAL): _FAILED[side.other],
            (side.other, _E.CLOSE_NOTIFY): _S.CLOSED,
            (side.other, _E.END): _CUT[side.other],
            (side.other, _E.RESET): _RESET[side.other],
        }
    # Nothing begins with an alert of the client.
    for event in (_E.WARNING, _E.FATAL, _E.CLOSE_NOTIFY):
        del rows[_S.START][_CLIENT, event]
    del rows[_S.START][_SERVER, _E.WARNING]
    # An alert, or a handshake, that can't be read.
    for side, states in ((_CLIENT, _CLIENT_ENCRYPTS), (_SERVER, _SERVER_ENCRYPTS)):
        for state in (*states, *_OPEN_12):
            rows[state][side, _E.ENCRYPTED_ALERT] = _S.OPAQUE_12
        for state in _OPEN_12:
            rows[state][side, _E.ENCRYPTED] = _S.OPAQUE_12
    return rows


def _table() -> dict[State, dict[Step, State]]:
    table = _ends()
    for states, side, events in _STAYS:
        for state in states:
            table[state] |= {(side, event): state for event in events}
    for part in (_BEGINNING, _TLS12, _TLS13, _OPEN, _OPAQUE):
        for state, row in part.items():
            table[state] |= row
    return table


#: The table. What is not in a state's row is illegal in that state.
NEXT: Mapping[State, Mapping[Step, State]] = _table()


def expected(state: State) -> str:
    """What each side may send in this state, in words, but for alerts and the end, which are legal nearly always."""
    parts = []
    for side in Side:
        words = [event.value for event in Event if (side, event) in NEXT[state] and event not in _UNTOLD]
        if words:
            parts.append(f"of the {side.value}: {'anything' if len(words) > _MOST_TOLD else _listed(words)}")
    return "; ".join(parts) or "nothing but the end"


#: Besides alerts and ends: what a message decides or does not.
_UNTOLD = frozenset({*_ALERTS_AND_ENDS, _E.OFFERS_EARLY_DATA, _E.ACCEPTS_EARLY_DATA, _E.IS_EMPTY})
_MOST_TOLD = 12


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
