"""Captures of connections that OpenSSL really made, in memory, with times that are always the same."""

from __future__ import annotations

import io
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.bundles import CaptureBundle
from meshtls.capture.analysis.connection import Connection
from meshtls.capture.files.writing import PcapngWriter
from meshtls.capture.keylog import KeyLog
from meshtls.wire.side import Side
from tests.support.packets import ACK, EPOCH, FIN, MS, Talk
from tests.support.tls_wire import Flight, Wire, contexts

__all__ = ["REQUEST", "RESPONSE", "Tape", "analyzed", "closed_by", "shaken"]

REQUEST = b"GET /pay?token=secret HTTP/1.1\r\nHost: web.test\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Tape:
    """Frames of connections, one each millisecond; each connection has a client port of its own."""

    frames: list[bytes] = field(default_factory=list)
    connections: int = 0
    #: Before which frame nothing is sent for so many milliseconds.
    pauses: dict[int, int] = field(default_factory=dict)

    def talk(self) -> Talk:
        """A new connection."""
        self.connections += 1
        return Talk(client=("10.0.0.1", 40000 + self.connections))

    def wait(self, milliseconds: int) -> None:
        """Nothing is sent for so long."""
        self.pauses[len(self.frames)] = milliseconds

    def wire(self, wire: Wire, *, close: bool = True) -> None:
        """What the two ends wrote, each flight in one packet. The server ends first where it refused."""
        talk = self.talk()
        self.frames += talk.handshake()
        self.frames += [talk.send(side, data) for side, data in wire.flights]
        if close:
            self.frames += talk.close()

    def plaintext(self, said: bytes, answer: bytes = b"") -> None:
        """The client speaks first, and the server closes."""
        talk = self.talk()
        self.frames += [*talk.handshake(), talk.client(said)]
        if answer:
            self.frames.append(talk.server(answer))
        self.frames += [talk.server(flags=FIN | ACK), talk.client(flags=FIN | ACK), talk.server()]

    def pcapng(self, secrets: bytes = b"") -> bytes:
        """The file, with these TLS secrets inside."""
        stream = io.BytesIO()
        writer = PcapngWriter(stream)
        writer.interface(1)
        if secrets:
            writer.secrets(secrets)
        waited = 0
        for number, frame in enumerate(self.frames):
            waited += self.pauses.get(number, 0)
            writer.packet(0, EPOCH + (number + waited) * MS, frame)
        return stream.getvalue()


def shaken(
    directory: Path,
    *,
    version: int = 3,
    mutual: bool = True,
    asked: bool = True,
    server: str = "",
    trusted: bool = True,
    session: ssl.SSLSession | None = None,
) -> Wire:
    """A handshake; where it succeeds a request, its response, and close_notify of both.

    ``mutual``: the client has a certificate; ``asked``: the server wants one. ``server``: groups that it accepts.
    ``trusted``: the server knows the client's CA.
    """
    client_context, server_context = contexts(directory, directory / "keys", mutual=mutual, version=version)
    if asked:
        server_context.verify_mode = ssl.CERT_REQUIRED
    if not trusted:
        fresh = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        fresh.load_cert_chain(directory / "web-P-256.pem", directory / "web-P-256.key")
        fresh.verify_mode = ssl.CERT_REQUIRED
        fresh.minimum_version = fresh.maximum_version = server_context.maximum_version
        server_context = fresh
    if server:
        server_context.set_ecdh_curve(server)
    wire = Wire(client_context, server_context, session)
    if not wire.shake():
        wire.send(Side.CLIENT, REQUEST)
        wire.send(Side.SERVER, RESPONSE)
        wire.close()
    return wire


def analyzed(
    tape: Tape | bytes, keys: Path | None = None, bundle: Path | None = None, *, secrets: bytes = b""
) -> list[Connection]:
    """The records of its connections, in their order."""
    data = tape.pcapng(secrets) if isinstance(tape, Tape) else tape
    key_log = KeyLog(keys.read_bytes()) if keys is not None else None
    trust = CaptureBundle(bundle.read_bytes()) if bundle is not None else None
    return sorted(Analysis(io.BytesIO(data), key_log, trust), key=lambda one: one.number)


def closed_by(first: Side, flights: Sequence[Flight], keys: Path | None = None) -> Connection:
    """The record of a connection on which these bytes were sent, and which ``first`` closed before the other side."""
    tape = Tape()
    talk = tape.talk()
    tape.frames += [*talk.handshake(), *(talk.send(side, data) for side, data in flights)]
    tape.frames += [talk.send(first, flags=FIN | ACK), talk.send(first.other, flags=FIN | ACK), talk.send(first)]
    (found,) = analyzed(tape, keys)
    return found
