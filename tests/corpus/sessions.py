"""Sessions of OpenSSL in memory, for the captures of the corpus: what each end wrote, in order."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.wire.side import Side
from tests.corpus.case import Made
from tests.support.certs import Issued, ca, key, leaf
from tests.support.packets import ACK, FIN, Talk, captured, pcap
from tests.support.tls_wire import END, START, Flight, Wire, contexts

__all__ = ["CHAIN", "REQUEST", "RESPONSE", "SAID", "bad_client", "carried", "contexts_of", "made", "spoken", "whole"]

REQUEST = b"GET /pay HTTP/1.1\r\nHost: web.test\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SAID: tuple[Flight, ...] = ((Side.CLIENT, REQUEST), (Side.SERVER, RESPONSE))
#: The bundle, beside the key log.
CHAIN = "web-P-256.ca"


def contexts_of(
    directory: Path, *, version: int = 3, mutual: bool = True, asked: bool = True, ciphers: str = ""
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client and a server that agree on one group, whatever this OpenSSL prefers: X25519, or P-256 in TLS 1.2, where
    the group has to be that of the certificates too.

    ``mutual``: the client has a certificate. ``asked``: the server wants one, but goes on without.
    """
    client, server = contexts(directory, directory / "keys", mutual=mutual, version=version, ciphers=ciphers)
    if asked and not mutual:
        server.verify_mode = ssl.CERT_OPTIONAL
    for one in (client, server):
        one.set_ecdh_curve("X25519" if version == 3 else "prime256v1")
    return client, server


def bad_client(
    directory: Path,
    context: ssl.SSLContext,
    *uris: str,
    issuer: Issued | None = None,
    not_before: datetime = START,
    not_after: datetime = END,
) -> None:
    """Give the client another certificate: these URI names, this issuer and these times."""
    issuer = issuer or ca(not_before=START, not_after=END)
    own_key = key("client-P-256")
    issued = leaf(issuer, *uris, subject="client", own_key=own_key, not_before=not_before, not_after=not_after)
    chain, secret = directory / "bad.pem", directory / "bad.key"
    chain.write_bytes(issued.certificate.public_bytes(Encoding.PEM))
    secret.write_bytes(own_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context.load_cert_chain(chain, secret)


def spoken(wire: Wire, said: Iterable[Flight] = SAID, *, close: bool = True) -> list[Flight]:
    """The handshake, and where both sides are content what they say, and close_notify. The flights."""
    if not wire.shake():
        for side, data in said:
            wire.send(side, data)
        if close:
            wire.close()
    return wire.flights


def whole(directory: Path, said: Iterable[Flight] = SAID, *, version: int = 3, close: bool = True) -> list[Flight]:
    """A good session of mutual TLS."""
    return spoken(Wire(*contexts_of(directory, version=version)), said, close=close)


def carried(flights: Sequence[Flight], *, talk: Talk | None = None, server_first: bool = False) -> list[bytes]:
    """The frames of a connection: each flight in one packet, and both ends close."""
    talk = talk or Talk()
    frames = talk.handshake() + [talk.send(side, data) for side, data in flights]
    first, second = (Side.SERVER, Side.CLIENT) if server_first else (Side.CLIENT, Side.SERVER)
    return [*frames, talk.send(first, flags=FIN | ACK), talk.send(second, flags=FIN | ACK), talk.send(first)]


def made(
    directory: Path,
    frames: Sequence[bytes],
    *,
    keys: bool = True,
    bundle: bool = False,
    file: Callable[[Sequence[bytes]], bytes] = lambda frames: pcap(captured(frames)),
) -> Made:
    """The capture file of these frames, with what the session left in the directory."""
    log, authorities = directory / "keys", directory / CHAIN
    return Made(
        file(frames),
        log.read_bytes() if keys and log.exists() else b"",
        authorities.read_bytes() if bundle else b"",
    )
