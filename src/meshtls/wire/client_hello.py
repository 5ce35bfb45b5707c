"""What a ClientHello offers, read before anything answers it: whether the mesh is meant, or the app's own TLS. Pure.

Where plaintext is taken as well (PERMISSIVE), TLS may be the app's own, which passes through. Istio's sidecars tell the
two apart by ALPN: the mesh's offer one of Istio's own protocol names. Peers that authenticate by SPIFFE IDs alone, such
as this mesh's own sidecars and ztunnel, offer none of these; but they name no server either, since the ID is the name.
So TLS is the mesh's if it offers an Istio name, or if it names no server. Everything else names the host that it
wants a certificate for, and no sidecar has one.
"""

from __future__ import annotations

from typing import NamedTuple

from meshtls.wire.tls import MAX_RECORD, ContentType, HandshakeType, alpn_of_message, server_name_of_message

__all__ = ["LONGEST", "ClientHello", "client_hello_of"]

#: Bytes and records that are read for it, at most. Each byte that arrives has all of them read again.
LONGEST = 1 << 14
_MOST_RECORDS = 16
_RECORD_HEADER, _HEADER = 5, 4
_HANDSHAKE = bytes((ContentType.HANDSHAKE,))
_ISTIO = (b"istio", b"istio-peer-exchange", b"istio-http/1.0", b"istio-http/1.1", b"istio-h2")


class ClientHello(NamedTuple):
    """What a ClientHello says of whose TLS it is. ``sni`` is the server that it names, ``alpn`` the protocols that it
    offers.
    """

    sni: str | None = None
    alpn: tuple[bytes, ...] = ()

    @property
    def is_of_mesh(self) -> bool:
        """Whether it is mutual TLS of a mesh, and not an app's own."""
        return self.sni is None or not set(self.alpn).isdisjoint(_ISTIO)


def client_hello_of(received: bytes) -> ClientHello | None:
    """The ClientHello at the start of a connection; None if more bytes are needed.

    One that is malformed, or longer than LONGEST, is an empty ClientHello: TLS itself refuses it.
    """
    message, at = b"", 0
    for _ in range(_MOST_RECORDS):
        header = received[at : at + _RECORD_HEADER]
        length = int.from_bytes(header[3:], "big")
        if header[:1] not in (b"", _HANDSHAKE) or (len(header) == _RECORD_HEADER and not 0 < length <= MAX_RECORD):
            return ClientHello()
        at += _RECORD_HEADER + length
        if len(header) < _RECORD_HEADER or len(received) < at:
            return None if len(received) < LONGEST else ClientHello()
        message += received[at - length : at]
        if message[0] != HandshakeType.CLIENT_HELLO:
            return ClientHello()
        if len(message) >= _HEADER:
            end = _HEADER + int.from_bytes(message[1:_HEADER], "big")
            if len(message) >= end:
                whole = message[:end]
                return ClientHello(server_name_of_message(whole), alpn_of_message(whole))
    return ClientHello()
