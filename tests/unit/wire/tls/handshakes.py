"""Handshakes of OpenSSL in memory, message by message as OpenSSL's callback shows them, decrypted."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.tls.peer import watch_messages
from meshtls.wire.side import Side
from meshtls.wire.tls.names import ContentType
from tests.support.certs import ca, leaf
from tests.support.tls_wire import NO_CERTIFICATE_COMPRESSION

ID = "spiffe://example.org/web"


class Message(NamedTuple):
    side: Side
    kind: int
    data: bytes


class Handshake(NamedTuple):
    """What was sent: ``messages`` decrypted, ``flights`` as the bytes on the wire."""

    messages: list[Message]
    flights: list[tuple[Side, bytes]]
    session: ssl.SSLSession | None

    def sent(self, by: Side) -> bytes:
        """All bytes of one side."""
        return b"".join(data for side, data in self.flights if side is by)

    def __repr__(self) -> str:
        return f"<Handshake [{len(self.messages)} messages]>"

    def message(self, side: Side, kind: int, place: int = 0) -> bytes:
        """The message of this kind that this side sent as its first, second ..."""
        return [one.data for one in self.messages if (one.side, one.kind) == (side, kind)][place]


def contexts(directory: Path, version: ssl.TLSVersion, *, mutual: bool = True) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's context and a server's; both present an SVID with its intermediate."""
    now = datetime.now(UTC)
    begin, end = now - timedelta(hours=1), now + timedelta(hours=1)
    root = ca(not_before=begin, not_after=end)
    intermediate = ca(root, slot="intermediate", name="intermediate", not_before=begin, not_after=end)
    svid = leaf(intermediate, ID, not_before=begin, not_after=end)
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(b"".join(one.certificate.public_bytes(Encoding.PEM) for one in (svid, intermediate)))
    key.write_bytes(svid.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.check_hostname = False
    for context in (client, server):
        context.minimum_version = context.maximum_version = version
        context.options |= NO_CERTIFICATE_COMPRESSION
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(cadata=root.certificate.public_bytes(Encoding.PEM).decode())
        context.set_alpn_protocols(["h2", "http/1.1"])
    server.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
    return client, server


def shaken(both: tuple[ssl.SSLContext, ssl.SSLContext], session: ssl.SSLSession | None = None) -> Handshake:
    """Run a handshake to its end, with the tickets that follow it."""
    messages: list[Message] = []

    def noting(side: Side) -> Callable[..., None]:
        def note(_: object, direction: str, _version: int, content: int, _kind: int, data: bytes) -> None:
            if direction == "write" and content == ContentType.HANDSHAKE:
                messages.append(Message(side, data[0], bytes(data)))

        return note

    for side, context in zip(Side, both, strict=True):
        watch_messages(context, noting(side))
    to_client, from_client, to_server, from_server = (ssl.MemoryBIO() for _ in range(4))
    client = both[0].wrap_bio(to_client, from_client, server_hostname="web.test", session=session)
    server = both[1].wrap_bio(to_server, from_server, server_side=True)
    flights: list[tuple[Side, bytes]] = []
    for _ in range(6):
        for one in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                one.do_handshake()
        for side, outgoing, incoming in ((Side.CLIENT, from_client, to_server), (Side.SERVER, from_server, to_client)):
            data = outgoing.read()
            if data:
                flights.append((side, data))
                incoming.write(data)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.read()  # takes the tickets
    return Handshake(messages, flights, client.session)
