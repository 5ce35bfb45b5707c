"""The three servers, each in a thread, with an app that records received bytes and echoes them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.address import Address
from meshtls.errors import PeerError
from meshtls.policy.authorizer import authorize_id
from meshtls.sidecar.loop import new_loop
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, Limits, SidecarConfig, TlsMinimum
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.tls.context import TlsOptions
from meshtls.tls.streams import listen
from tests.support.authority import LASTING, context_for, make_authority

__all__ = ["BOUND", "HANDSHAKE_TIMEOUT", "Served", "client_context", "servers", "svid"]

OURS = make_authority("example.org")
A = SpiffeId.parse("spiffe://example.org/a")
B = SpiffeId.parse("spiffe://example.org/b")
#: Each server's handshake timeout in seconds: the cases that let it pass wait this long.
HANDSHAKE_TIMEOUT = 6.0
#: Seconds within which each connection ends, even on a slow machine: a bound for the test, not a measurement.
BOUND = 30.0
T = TypeVar("T")
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
svid = context_for(OURS, A, ttl=LASTING).svid


@dataclass
class Served:
    """A running server; ``connections`` and ``received`` are what reached the app behind it."""

    name: str
    address: tuple[str, int] = ("", 0)
    connections: int = 0
    received: bytearray = field(default_factory=bytearray)

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(OSError, PeerError):
            while data := await reader.read(1 << 14):
                self.received += data
                writer.write(data)
                await writer.drain()
        writer.close()


def _server_context() -> X509Context:
    return context_for(OURS, B)


@asynccontextmanager
async def _sidecar(minimum: TlsMinimum) -> AsyncIterator[Served]:
    served = Served("sidecar")
    async with await asyncio.start_server(served.echo, "127.0.0.1", 0) as app:
        door = InboundConfig(
            listen=Address("127.0.0.1", 0),
            app=Address(*app.sockets[0].getsockname()[:2]),
            allow=(A,),
            tls_min=minimum,
            resumption=True,
        )
        config = SidecarConfig(
            name="b", spiffe_id=B, inbound=(door,), limits=Limits(handshake_timeout=HANDSHAKE_TIMEOUT)
        )
        async with Sidecar(config, ConstantSource(_server_context()), on_result=lambda _: None) as sidecar:
            address = sidecar.inbound[0].address
            served.address = address.host, address.port
            yield served


@asynccontextmanager
async def _listen(minimum: ssl.TLSVersion) -> AsyncIterator[Served]:
    served = Served("listen")
    async with await listen(
        "127.0.0.1",
        0,
        ConstantSource(_server_context()),
        authorize_id(A),
        served.echo,
        timeout=HANDSHAKE_TIMEOUT,
        options=TlsOptions(minimum, resumption=True),
    ) as listener:
        served.address = listener.address
        yield served


@contextmanager
def _in_thread(
    server: Callable[[], AbstractAsyncContextManager[T]], new: Callable[[], asyncio.AbstractEventLoop]
) -> Iterator[T]:
    """Run the coroutine on a new loop in a new thread."""
    running: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        try:
            async with server() as served:
                stop = asyncio.Event()
                running.set_result((served, asyncio.get_running_loop(), stop))
                await stop.wait()
        except BaseException as error:
            if not running.done():
                running.set_exception(error)
            raise

    def main() -> None:
        with asyncio.Runner(loop_factory=new) as runner:
            runner.run(run())

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(main)
        served, loop, stop = running.result(BOUND)
        try:
            yield served
        finally:
            loop.call_soon_threadsafe(stop.set)
            done.result(BOUND)


@contextmanager
def _stdlib(minimum: ssl.TLSVersion, directory: Path) -> Iterator[Served]:
    """A thread for each connection, a context as the ``ssl`` module makes it, and a certificate required."""
    served = Served("stdlib")
    context = _plain_context(ssl.PROTOCOL_TLS_SERVER, _server_context(), directory / f"server-{minimum.name}.pem")
    context.minimum_version = minimum
    with ThreadPoolExecutor(8) as pool, socket.create_server(("127.0.0.1", 0)) as listening:
        served.address = listening.getsockname()[:2]
        accepting = threading.Thread(target=_accept, args=(listening, pool, context, served))
        accepting.start()
        try:
            yield served
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join(BOUND)


def _accept(listening: socket.socket, pool: ThreadPoolExecutor, context: ssl.SSLContext, served: Served) -> None:
    with contextlib.suppress(OSError):  # it was shut down
        while True:
            connection, _ = listening.accept()
            pool.submit(_serve, connection, context, served)


def _serve(connection: socket.socket, context: ssl.SSLContext, served: Served) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(HANDSHAKE_TIMEOUT)
        with context.wrap_socket(connection, server_side=True) as tls:
            served.connections += 1
            while data := tls.recv(1 << 14):
                served.received += data
                tls.sendall(data)


def _plain_context(protocol: int, ours: X509Context, file: Path) -> ssl.SSLContext:
    """A stock context with the same certificates and roots as ours, and none of our code."""
    context = ssl.SSLContext(protocol)
    context.check_hostname, context.verify_mode = False, ssl.CERT_REQUIRED
    roots = OURS.bundle.x509_authorities
    context.load_verify_locations(cadata="".join(root.public_bytes(Encoding.PEM).decode() for root in roots))
    key = ours.svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.touch(0o600)
    file.write_bytes(key + b"".join(one.public_bytes(Encoding.PEM) for one in ours.svid.chain))
    context.load_cert_chain(file)
    return context


def client_context(directory: Path) -> ssl.SSLContext:
    """A good client's: a stock OpenSSL one."""
    return _plain_context(ssl.PROTOCOL_TLS_CLIENT, context_for(OURS, A), directory / "client.pem")


@contextmanager
def servers(directory: Path, minimum: TlsMinimum) -> Iterator[tuple[Served, Served, Served]]:
    """Sidecar, ``listen`` and the stdlib's server, which accept this version of TLS and above."""
    version = V1_2 if minimum is TlsMinimum.V1_2 else V1_3
    with (
        _in_thread(lambda: _sidecar(minimum), new_loop) as sidecar,
        _in_thread(lambda: _listen(version), asyncio.new_event_loop) as listener,
        _stdlib(version, directory) as stdlib,
    ):
        yield sidecar, listener, stdlib
