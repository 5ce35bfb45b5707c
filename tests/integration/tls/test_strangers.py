"""What an anonymous peer presents to each of our servers: it is refused with an alert, and the next peer is served."""

from __future__ import annotations

import asyncio
import queue
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bench.hostile_chains import HostileChain, hostile_chains, ordinary
from bench.raw_client import Answer, certificate_message, present
from meshtls import authorize_any, authorize_id, client_context, dial, listen, server_context
from meshtls.bundle import BundleSet
from meshtls.errors import AlertError, HandshakeError, InvalidSvidError, UntrustedPeerError
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.tls.bootstrap import AnonymousClientsServerContext
from meshtls.tls.context import GenerationContext, TlsContexts
from meshtls.tls.engine import TlsEngine
from meshtls.tls.handshake_budget import LARGE_HANDSHAKE, MOST_SMALL, SERVER_HANDSHAKE, SMALL_HANDSHAKE, LargeHandshakes
from tests.support.authority import Leaf, context_for, make_authority, mint_raw, svid_for
from tests.support.chain_table import ROOT, leaf
from tests.support.clock import ManualClock
from tests.support.tls import Ends, context_of, engine_of, shake

OURS, FOREIGN = make_authority("example.org"), make_authority("example.org")
CLIENT, SERVER = "spiffe://example.org/client", "spiffe://example.org/server"
CAPTURED = [one.public_bytes(Encoding.DER) for one in svid_for(OURS, CLIENT).chain]
KNOWN = [*OURS.bundle.x509_authorities, OURS.intermediate.certificate]
HOSTILE = [ordinary(CLIENT), *hostile_chains(CLIENT, KNOWN, CAPTURED)]
BY_NAME = pytest.mark.parametrize("chain", HOSTILE, ids=[one.name for one in HOSTILE])
UNEXPECTED_MESSAGE, FATAL = 10, range(10, 121)


async def presented(address: tuple[str, int], chain: tuple[bytes, ...] | list[bytes]) -> Answer:
    return await asyncio.to_thread(present, address, certificate_message(chain))


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[str, int]]:
    """A ``listen`` that sends lines back to a verified peer."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())

    listener = await listen("127.0.0.1", 0, ConstantSource(context_for(OURS, SERVER)), authorize_any(), echo)
    async with listener:
        yield listener.address


async def served(address: tuple[str, int]) -> bytes:
    reader, writer = await dial(*address, ConstantSource(context_for(OURS, CLIENT)), authorize_id(SERVER))
    writer.write(b"hello\n")
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


@BY_NAME
async def test_listen_refuses_a_hostile_chain_with_an_alert_and_serves_the_next_client(chain: HostileChain) -> None:
    async with echoing() as address:
        answer = await presented(address, chain.certificates)
        assert answer.asked
        assert answer.alert in FATAL
        assert await served(address) == b"hello\n"


@BY_NAME
async def test_an_asyncio_server_refuses_a_hostile_chain_with_an_alert(chain: HostileChain) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("a stranger was let in")

    context = server_context(ConstantSource(context_for(OURS, SERVER)), authorize_any())
    async with await asyncio.start_server(never, "127.0.0.1", 0, ssl=context) as server:
        answer = await presented(server.sockets[0].getsockname(), chain.certificates)
    assert answer.alert in FATAL


@pytest.fixture
def blocking_server() -> Iterator[tuple[tuple[str, int], queue.Queue[ssl.SSLError]]]:
    """A thread that accepts with the standard library, and the errors that it met."""
    context = server_context(ConstantSource(context_for(OURS, SERVER)), authorize_any())
    raised: queue.Queue[ssl.SSLError] = queue.Queue()

    def serve(listening: socket.socket) -> None:
        with context.wrap_socket(listening, server_side=True) as wrapped:
            while True:
                try:
                    wrapped.accept()[0].close()
                except ssl.SSLError as error:
                    raised.put(error)
                except OSError:
                    return

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=serve, args=(listening.dup(),), daemon=True)
        thread.start()
        yield listening.getsockname(), raised
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@BY_NAME
def test_a_blocking_server_refuses_a_hostile_chain_with_an_alert(
    chain: HostileChain, blocking_server: tuple[tuple[str, int], queue.Queue[ssl.SSLError]]
) -> None:
    address, raised = blocking_server
    assert present(address, certificate_message(chain.certificates)).alert in FATAL
    assert isinstance(raised.get(timeout=10), ssl.SSLError)


@contextmanager
def unblocked(address: tuple[str, int]) -> Iterator[ssl.SSLSocket]:
    """A client's socket that does not block, before its handshake."""
    context = client_context(ConstantSource(context_for(OURS, CLIENT)), authorize_id(SERVER))
    with (
        socket.create_connection(address, 10) as raw,
        context.wrap_socket(raw, do_handshake_on_connect=False) as wrapped,
    ):
        wrapped.setblocking(False)
        yield wrapped


def test_a_handshake_of_a_socket_without_blocking_waits_if_told_to(
    blocking_server: tuple[tuple[str, int], queue.Queue[ssl.SSLError]],
) -> None:
    with unblocked(blocking_server[0]) as client:
        client.do_handshake(True)
        assert client.version() == "TLSv1.3"
        assert client.gettimeout() == 0


def test_a_handshake_of_a_socket_without_blocking_does_not_wait_otherwise() -> None:
    # Of a server that never answers: one that does may be quick enough to be waited for by nobody.
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        unblocked(silent.getsockname()) as client,
        pytest.raises(ssl.SSLWantReadError),
    ):
        client.do_handshake()


@pytest.mark.parametrize("chain", [CAPTURED, list(ordinary(CLIENT).certificates)], ids=["ours", "foreign"])
async def test_a_server_for_anonymous_clients_reads_no_certificate(chain: list[bytes]) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    context = AnonymousClientsServerContext.over(ConstantSource(context_for(OURS, SERVER)))
    async with await asyncio.start_server(never, "127.0.0.1", 0, ssl=context) as server:
        answer = await presented(server.sockets[0].getsockname(), chain)
    assert not answer.asked
    assert answer.alert in (UNEXPECTED_MESSAGE, None)  # asyncio's own server drops the alert


def client_with(names: int, *, foreign: bool = False) -> X509Context:
    """A client with that many DNS names in its SVID."""
    names_of = tuple(f"{number:05}.example.org" for number in range(names))
    leaf = Leaf(uris=(CLIENT,), dns_names=names_of, starts_in=-3600)  # before a clock that stands still
    return X509Context(1, (mint_raw(FOREIGN if foreign else OURS, leaf),), BundleSet([OURS.bundle]))


def met(server: GenerationContext, client: X509Context) -> Ends:
    return shake(engine_of(client, server_side=False), TlsEngine(server))


def test_a_large_handshake_of_a_good_peer_is_taken_as_often_as_it_comes() -> None:
    server = context_of(context_for(OURS, SERVER), server_side=True)
    for _ in range(80):
        assert met(server, client_with(250)) == Ends()


def used_up(clock: ManualClock, ours: X509Context | None = None) -> GenerationContext:
    """A server whose budget for large handshakes strangers have used up."""
    server = context_of(ours or context_for(OURS, SERVER), server_side=True, clock=clock)
    for _ in range(32):
        assert type(met(server, client_with(250, foreign=True)).server) is UntrustedPeerError
    return server


def test_large_handshakes_wait_after_many_refused_ones_and_small_ones_do_not() -> None:
    clock = ManualClock()
    server = used_up(clock)
    for client in (client_with(250, foreign=True), client_with(250)):
        ends = met(server, client)
        assert type(ends.server) is HandshakeError
        assert str(ends.server) == (
            f"the peer's part of the handshake has more than {SMALL_HANDSHAKE} bytes, more than any accepted"
            " peer needed, and too many such handshakes have just failed"
        )
        assert str(ends.client).startswith("the peer refused the connection with the alert")
    assert met(server, client_with(0)) == Ends()
    clock.advance(0.5)
    assert met(server, client_with(250)) == Ends()


def test_strangers_do_not_keep_out_peers_as_large_as_one_that_was_accepted() -> None:
    source = Source(context_for(OURS, SERVER))
    contexts = TlsContexts(source, authorize_any(), server_side=True, clock=ManualClock())
    assert met(contexts.current(), client_with(160)) == Ends()
    for _ in range(32):
        assert type(met(contexts.current(), client_with(250, foreign=True)).server) is UntrustedPeerError
    assert type(met(contexts.current(), client_with(250)).server) is HandshakeError
    assert met(contexts.current(), client_with(160)) == Ends()
    source.context = context_for(OURS, SERVER)
    assert met(contexts.current(), client_with(160)) == Ends()
    assert type(met(contexts.current(), client_with(250)).server) is HandshakeError


def test_strangers_do_not_keep_out_peers_whose_chain_is_as_long_as_our_own() -> None:
    own = client_with(160)
    assert met(used_up(ManualClock(), own), client_with(160)) == Ends()
    assert type(met(used_up(ManualClock()), client_with(160)).server) is HandshakeError


def test_the_size_that_an_accepted_peer_needed_counts_as_small_up_to_a_bound() -> None:
    large = LargeHandshakes(ManualClock())
    for size in (1, SMALL_HANDSHAKE - 64):
        large.accepted(size)
    assert large.small == SMALL_HANDSHAKE
    large.accepted(5000)
    assert large.small == 5064
    large.accepted(LARGE_HANDSHAKE)
    assert large.small == MOST_SMALL
    assert repr(large) == f"<LargeHandshakes [32 left, of more than {MOST_SMALL} bytes]>"


@dataclass
class Source:
    """Whose context may be exchanged."""

    context: X509Context

    def snapshot(self) -> X509Context:
        return self.context


def too_long(limit: int) -> str:
    return f"the peer's part of the handshake has more than {limit} bytes, which is the limit"


def test_a_handshake_above_every_bound_is_refused_without_a_look_at_its_certificates() -> None:
    server = context_of(context_for(OURS, SERVER), server_side=True)
    assert met(server, client_with(250)) == Ends()
    ends = met(server, client_with(LARGE_HANDSHAKE // 18))
    assert type(ends.server) is HandshakeError
    assert str(ends.server) == too_long(LARGE_HANDSHAKE)
    assert type(ends.client) is AlertError


def test_a_client_reads_no_more_of_a_server_than_its_bound() -> None:
    for names, refused in ((250, False), (SERVER_HANDSHAKE // 18, True)):
        own = client_with(names)
        client = engine_of(context_for(OURS, CLIENT), server_side=False)
        server = TlsEngine(context_of(own, server_side=True))
        ends = shake(client, server)
        assert (ends == Ends()) is not refused
        assert not refused or str(ends.client) == too_long(SERVER_HANDSHAKE)


@pytest.mark.parametrize("size", [SMALL_HANDSHAKE, LARGE_HANDSHAKE, 4 * LARGE_HANDSHAKE])
def test_data_right_behind_the_handshake_does_not_count_as_handshake_bytes(size: int) -> None:
    client = engine_of(context_for(OURS, CLIENT), server_side=False)
    server = engine_of(context_for(OURS, SERVER), server_side=True)
    client.handshake()
    server.feed(client.outgoing())
    server.handshake()
    client.feed(server.outgoing())
    assert client.handshake() is not None
    server.feed(client.seal(bytes(size)))
    assert server.handshake() is not None
    received = b""
    while more := server.read():
        received += more
    assert received == bytes(size)


def test_a_handshake_that_comes_byte_by_byte_is_taken() -> None:
    client, server = (
        engine_of(client_with(200), server_side=False),
        engine_of(context_for(OURS, SERVER), server_side=True),
    )
    client.handshake()
    for byte in client.outgoing():
        server.feed(bytes((byte,)))
        server.handshake()
    client.feed(server.outgoing())
    client.handshake()
    for byte in client.outgoing():
        server.feed(bytes((byte,)))
        server.handshake()
    assert server.peer is not None


async def test_an_extension_that_cannot_be_read_is_refused_with_an_alert() -> None:
    """An unknown TLSFeature made cryptography raise a KeyError out of the callback."""
    odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.24"), b"\x30\x03\x02\x01\x7f")
    spoiled = leaf(ROOT, CLIENT, extra=[(odd, False)])
    server = context_of(context_for(OURS, SERVER), server_side=True)
    with pytest.raises(InvalidSvidError, match="its extensions can't be read"):
        server.check_peer([spoiled.der], None)
    async with echoing() as address:
        assert (await presented(address, [spoiled.der])).alert in FATAL
