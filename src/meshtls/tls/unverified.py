"""What a TLS server presents, looked at WITHOUT verifying it. For people who inspect a server, and for nothing else.

The connection is ended as soon as the certificates are here: no byte of application data is sent or read, and no
certificate of ours is shown. What was seen says nothing about who the server is.
"""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass

from meshtls.address import Address, os_reason
from meshtls.errors import HandshakeError, HandshakeTimeoutError, PlaintextError
from meshtls.svid.presented import MAX_CHAIN
from meshtls.tls.failures import peer_error
from meshtls.tls.handshake_budget import SERVER_HANDSHAKE
from meshtls.tls.peer import watch_messages
from meshtls.wire.tls import ContentType, HandshakeType, certificates_of_message

__all__ = ["UnverifiedServer", "look_at_unverified_server"]

_CHUNK = 1 << 14


@dataclass(frozen=True, slots=True)
class UnverifiedServer:
    """What a server showed that nobody verified. ``chain`` is DER, leaf first; of a longer one than ``MAX_CHAIN`` there
    is one certificate more.

    - ``wants_certificate``: it asked for ours.
    - ``version``, ``cipher``: empty if the handshake did not end well, and then ``ended`` says how it ended.
    """

    chain: tuple[bytes, ...]
    wants_certificate: bool
    version: str = ""
    cipher: str = ""
    ended: str = ""


def look_at_unverified_server(address: Address, seconds: float, *, first: bytes = b"") -> UnverifiedServer:
    """Shake hands as an anonymous client, within this time. Blocks. ``first`` is sent before TLS begins.

    Raises HandshakeError if no certificate comes: what is there does not speak TLS, or refuses before it shows one.
    """
    chain: list[bytes] = []
    requested = begun = False

    def on_message(connection: object, direction: str, version: int, content: int, kind: int, data: bytes) -> None:
        nonlocal requested, begun
        if direction != "read" or content != ContentType.HANDSHAKE:
            return
        begun = True
        if kind == HandshakeType.CERTIFICATE_REQUEST:
            requested = True
        elif kind == HandshakeType.CERTIFICATE and not chain:
            try:
                chain.extend(certificates_of_message(version, data, limit=MAX_CHAIN))
            except ValueError:
                return  # OpenSSL refuses the message, and says so

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    watch_messages(context, on_message)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    deadline = time.monotonic() + seconds
    version = cipher = ended = ""
    try:
        tls = context.wrap_bio(incoming, outgoing, server_hostname=address.host)
        with socket.create_connection((address.host, address.port), seconds) as sock:
            sock.sendall(first)
            _shake_hands(tls, sock, incoming, outgoing, deadline)
        version, cipher = tls.version() or "", (tls.cipher() or ("",))[0]
    except TimeoutError as error:
        ended = f"no answer within {seconds:g} s"
        if not chain:
            raise HandshakeTimeoutError(f"{address}: {ended}") from error
    except ssl.SSLError as error:
        reason = peer_error(error, begun=begun)
        if isinstance(reason, PlaintextError):
            raise HandshakeError(f"{address} answers in plaintext, not TLS") from error
        ended = str(reason)
    except HandshakeError as error:
        ended = str(error)
    except OSError as error:
        ended = f"can't be reached: {os_reason(error)}"
    except UnicodeError as error:  # a name that no resolver takes
        ended = f"can't be reached: {error}"
    if not chain:
        raise HandshakeError(f"{address}: {ended or 'no certificate was presented'}")
    return UnverifiedServer(tuple(chain), requested, version, cipher, ended)


def _shake_hands(
    tls: ssl.SSLObject, sock: socket.socket, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, deadline: float
) -> None:
    """Raises TimeoutError, ssl.SSLError, OSError, and HandshakeError for more bytes than a handshake has."""
    received = 0
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        else:
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        sock.sendall(outgoing.read())
        data = sock.recv(_CHUNK)
        received += len(data)
        if received > SERVER_HANDSHAKE:
            raise HandshakeError(f"wanted a handshake of at most {SERVER_HANDSHAKE} bytes, got more")
        if data:
            incoming.write(data)
        else:
            incoming.write_eof()
