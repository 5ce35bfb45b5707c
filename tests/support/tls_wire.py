"""What two real TLS ends write to each other, with the secrets that OpenSSL gives: in memory, or through a relay."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.capture.events import ByteSink
from meshtls.wire.side import Side
from tests.support.certs import Issued, ca, key, leaf
from tests.support.ports import free_ports
from tests.support.waiting import SECONDS

__all__ = [
    "END",
    "NO_CERTIFICATE_COMPRESSION",
    "START",
    "Files",
    "Flight",
    "Program",
    "Programs",
    "Wire",
    "contexts",
    "files_of",
    "play",
    "programs",
    "relayed",
    "written",
]

Flight = tuple[Side, bytes]
#: SSL_OP_NO_TX_CERTIFICATE_COMPRESSION and SSL_OP_NO_RX_CERTIFICATE_COMPRESSION, which OpenSSL has since 3.2: the
#: messages are alike whatever it was built with.
NO_CERTIFICATE_COMPRESSION = 1 << 32 | 1 << 33 if ssl.OPENSSL_VERSION_INFO >= (3, 2) else 0
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
#: ffdhe2048 (RFC 7919, appendix A.1), for the suites with finite-field Diffie-Hellman.
FFDHE2048 = """-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


@dataclass(frozen=True, slots=True)
class Files:
    """A leaf's certificate and key, and its CA's certificate."""

    chain: Path
    key: Path
    ca: Path
    der: bytes


def files_of(directory: Path, name: str = "web", kind: str = "P-256") -> Files:
    """A leaf in files; all of them have one CA."""
    issuer = ca(not_before=START, not_after=END)
    issued = leaf(
        issuer,
        f"spiffe://a.test/{name}",
        subject=name,
        dns=(f"{name}.test",),
        own_key=key(f"{name}-{kind}", kind),
        usages=("digital_signature", "key_encipherment"),
        not_before=START,
        not_after=END,
    )
    return written(directory, f"{name}-{kind}", issued, issuer)


def written(directory: Path, name: str, issued: Issued, issuer: Issued) -> Files:
    """This leaf in files with this name."""
    chain, secret, authority = (directory / f"{name}.{end}" for end in ("pem", "key", "ca"))
    files = Files(chain, secret, authority, issued.der)
    files.chain.write_bytes(issued.certificate.public_bytes(Encoding.PEM))
    files.key.write_bytes(issued.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.ca.write_bytes(issuer.certificate.public_bytes(Encoding.PEM))
    return files


def contexts(
    directory: Path, keylog: Path, *, kind: str = "P-256", mutual: bool = False, ciphers: str = "", version: int = 0
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's and a server's context; the client writes its secrets to ``keylog``. ``version``: 2 or 3 for the only
    version of TLS 1.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    files = files_of(directory, kind=kind)
    server.load_cert_chain(files.chain, files.key)
    client.load_verify_locations(files.ca)
    if mutual:
        ours = files_of(directory, "client")
        client.load_cert_chain(ours.chain, ours.key)
        server.load_verify_locations(files.ca)
        server.verify_mode = ssl.CERT_REQUIRED
    parameters = directory / "dh.pem"
    parameters.write_text(FFDHE2048)
    server.load_dh_params(str(parameters))
    for one in (client, server):
        one.check_hostname = False
        one.options |= NO_CERTIFICATE_COMPRESSION
        if ciphers:
            one.set_ciphers(ciphers)
        if version:
            one.minimum_version = one.maximum_version = (
                ssl.TLSVersion.TLSv1_2 if version == 2 else ssl.TLSVersion.TLSv1_3
            )
    client.keylog_filename = str(keylog)
    return client, server


@dataclass(slots=True)
class Wire:
    """Two ends joined in memory. ``flights`` has what each side wrote, in order."""

    client_context: ssl.SSLContext
    server_context: ssl.SSLContext
    session: ssl.SSLSession | None = None
    flights: list[Flight] = field(default_factory=list)
    client: ssl.SSLObject = field(init=False)
    server: ssl.SSLObject = field(init=False)
    _to: dict[Side, ssl.MemoryBIO] = field(init=False)
    _of: dict[Side, ssl.MemoryBIO] = field(init=False)

    def __post_init__(self) -> None:
        self._to = {side: ssl.MemoryBIO() for side in Side}
        self._of = {side: ssl.MemoryBIO() for side in Side}
        into, out = self._to, self._of
        self.client = self.client_context.wrap_bio(
            into[Side.CLIENT], out[Side.CLIENT], server_hostname="web.test", session=self.session
        )
        self.server = self.server_context.wrap_bio(into[Side.SERVER], out[Side.SERVER], server_side=True)

    def carry(self, side: Side) -> int:
        """Take what ``side`` has written to the other one."""
        data = self._of[side].read()
        if data:
            self.flights.append((side, data))
            self._to[side.other].write(data)
        return len(data)

    def shake(self) -> dict[Side, ssl.SSLError]:
        """The handshake, and what follows it by itself; the errors of the sides that refused."""
        errors: dict[Side, ssl.SSLError] = {}
        moved = True
        while moved:
            moved = False
            for side, end in ((Side.CLIENT, self.client), (Side.SERVER, self.server)):
                if side not in errors:
                    try:
                        end.do_handshake()
                        end.read(1)
                    except ssl.SSLWantReadError:
                        pass
                    except ssl.SSLError as error:
                        errors[side] = error
                moved |= bool(self.carry(side))
        return errors

    def end(self, side: Side) -> None:
        """The stream of ``side`` ends, which the other one sees."""
        self._to[side.other].write_eof()
        sink = self.server if side is Side.CLIENT else self.client
        with contextlib.suppress(ssl.SSLError):
            sink.read(1)
        self.carry(side.other)

    def send(self, side: Side, data: bytes) -> None:
        """Application data of ``side``, which the other one reads."""
        source, sink = (self.client, self.server) if side is Side.CLIENT else (self.server, self.client)
        source.write(data)
        self.carry(side)
        got = b""
        while len(got) < len(data):
            got += sink.read(len(data))
        assert got == data

    def close(self) -> None:
        """close_notify of both sides."""
        for side, end in ((Side.CLIENT, self.client), (Side.SERVER, self.server)):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.unwrap()
            self.carry(side)


def play(sink: ByteSink, flights: Sequence[Flight], *, cut: int = 0) -> None:
    """Feed the flights to ``sink``, in pieces of ``cut`` bytes if it is given, with times that count up."""
    now = 0
    for side, data in flights:
        for at in range(0, len(data), cut or max(len(data), 1)):
            now += 1
            sink.feed(side, data[at : at + cut] if cut else data, now)


@dataclass(slots=True)
class Program:
    """One of OpenSSL's own programs, and what it has printed."""

    process: Process
    output: bytearray = field(default_factory=bytearray)

    async def told(self, wanted: bytes, *, of: int = 1) -> None:
        """Wait until it has printed this so many times."""
        assert self.process.stdout is not None
        async with asyncio.timeout(SECONDS):
            while self.output.count(wanted) < of:
                data = await self.process.stdout.read(1 << 16)
                assert data, bytes(self.output)
                self.output += data

    async def type(self, text: bytes) -> None:
        """What a person would type into it: text for its peer, or a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        await self.process.stdin.drain()

    async def quit(self) -> None:
        """End it as its user does, with close_notify."""
        await self.type(b"Q\n")
        async with asyncio.timeout(SECONDS):
            await self.process.wait()


@dataclass(slots=True)
class Programs:
    """``openssl s_server``, and clients of it through a relay. ``flights``: what the newest pair wrote."""

    server: Program
    port: int
    keylog: Path
    directory: Path
    flights: list[Flight] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def client(self, *options: str, certificate: bool = True) -> AsyncIterator[Program]:
        """``openssl s_client``, with a certificate or without."""
        ours = files_of(self.directory, "client")
        own = ("-cert", str(ours.chain), "-key", str(ours.key)) if certificate else ()
        options = ("-CAfile", str(ours.ca), *own, *options)
        async with relayed(self.port) as (port, flights):
            self.flights = flights
            connect = ("s_client", "-connect", f"127.0.0.1:{port}", "-keylogfile", str(self.keylog))
            async with _running(*connect, *options) as program:
                yield program


@contextlib.asynccontextmanager
async def programs(directory: Path, keylog: Path, *options: str) -> AsyncIterator[Programs]:
    """``openssl s_server`` with these options."""
    files, (port,) = files_of(directory), free_ports(1)
    async with _running(
        *("s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(files.chain), "-key", str(files.key)),
        *("-CAfile", str(files.ca), *options),
    ) as server:
        await server.told(b"ACCEPT")
        yield Programs(server, port, keylog, directory)


@contextlib.asynccontextmanager
async def _running(*command: str) -> AsyncIterator[Program]:
    process = await asyncio.create_subprocess_exec("openssl", *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def relayed(port: int) -> AsyncIterator[tuple[int, list[Flight]]]:
    """A port whose one connection goes on to this one, and what it carried."""
    flights: list[Flight] = []
    relay = await asyncio.start_server(lambda r, w: _relay(r, w, port, flights), "127.0.0.1", 0)
    async with relay:
        yield relay.sockets[0].getsockname()[1], flights


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, flights: list[Flight]) -> None:
    theirs, ours = await asyncio.open_connection("127.0.0.1", port)

    async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, side: Side) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(1 << 16):
                flights.append((side, data))
                sink.write(data)
                await sink.drain()
        sink.close()

    await asyncio.gather(carry(reader, ours, Side.CLIENT), carry(theirs, writer, Side.SERVER))
