"""``listen``, ``dial`` and the rotating contexts over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest

from meshtls import (
    Listener,
    LocalIdentityError,
    PeerError,
    RequestError,
    X509Context,
    authorize_any,
    authorize_id,
    authorize_member_of,
    client_context,
    dial,
    listen,
    peer_id,
    server_context,
)
from meshtls.bundle import BundleSet
from meshtls.errors import HandshakeError, HandshakeTimeoutError, NotAuthorizedError, UntrustedPeerError
from meshtls.policy.authorizer import Authorizer, Decision, Target
from meshtls.svid.context import ConstantSource
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.tls import INTERNAL_ERROR_ALERT
from tests.support.authority import Swapping, context_for, make_authority
from tests.support.tls import SlowClient, engine_of

OURS = make_authority("example.org")
FOREIGN = make_authority("example.org")
CLIENT, SERVER = "spiffe://example.org/client", "spiffe://example.org/server"
TURN = 1 << 16


class Nothing:
    """A source without a valid SVID."""

    def snapshot(self) -> X509Context:
        raise LocalIdentityError("the SVID expired")


def source(spiffe_id: str) -> Swapping:
    return Swapping(context_for(OURS, spiffe_id))


def impostor() -> ConstantSource:
    """A foreign CA's SVID with the client's ID; it trusts the real server."""
    svids = context_for(FOREIGN, CLIENT).svids
    return ConstantSource(X509Context(1, svids, BundleSet([OURS.bundle])))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(TURN):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def who(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(str(peer_id(writer)).encode())


async def start(handler: Callable[..., object] = echo, server: Swapping | None = None, allow: str = CLIENT) -> Listener:
    return await listen("127.0.0.1", 0, server or source(SERVER), authorize_id(allow), handler, timeout=60)  # type: ignore[arg-type]


async def test_each_side_knows_the_other_by_its_spiffe_id() -> None:
    async with await start(who) as listener:
        reader, writer = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        assert await reader.read() == CLIENT.encode()
        assert str(peer_id(writer)) == SERVER
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_is_not_allowed_reads_the_alert() -> None:
    async with await start(allow="spiffe://example.org/somebody-else") as listener:
        reader, writer = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        writer.write(b"sent before the verdict is known")
        with pytest.raises(HandshakeError, match="refused the connection with the alert 'unknown ca'"):
            await reader.read(1)
        writer.close()


async def test_a_client_that_is_refused_late_reads_an_alert_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshtls.tls.context.watch_messages", lambda context, callback: None)  # no early verdict
    async with await start(allow="spiffe://example.org/somebody-else") as listener:
        reader, writer = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        with pytest.raises(HandshakeError, match="refused the connection with the alert 'unexpected message'"):
            await reader.read(1)
        writer.close()


async def coroutine(peer: VerifiedPeer, target: Target) -> Decision:
    return Decision(False, "nobody waits for this")


def failing(peer: VerifiedPeer, target: Target) -> Decision:
    raise LookupError("the policy server is away")


@pytest.mark.parametrize("authorizer", [coroutine, failing, lambda peer, target: (False, "no")])
async def test_an_authorizer_that_gives_no_decision_lets_nobody_in_and_the_client_reads_the_alert(
    authorizer: Authorizer,
) -> None:
    async with await listen("127.0.0.1", 0, source(SERVER), authorizer, who) as listener:
        reader, writer = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        with pytest.raises(HandshakeError, match="refused the connection with the alert 'unknown ca'"):
            await reader.read(1)
        writer.close()


async def test_an_authorizer_is_required() -> None:
    nobody: Any = None
    for make in (server_context, client_context):
        with pytest.raises(TypeError, match="^authorizer: wanted a function "):
            make(source(SERVER), nobody)
    with pytest.raises(TypeError, match="^authorizer: wanted a function "):
        await listen("127.0.0.1", 0, source(SERVER), nobody, who)
    async with await start(who) as listener:
        with pytest.raises(TypeError, match="^authorizer: wanted a function "):
            await dial(*listener.address, source(CLIENT), nobody)


async def test_an_impostor_never_reaches_the_handler() -> None:
    reached = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()

    async with await start(handler) as listener:
        reader, writer = await dial(*listener.address, impostor(), authorize_id(SERVER))
        with pytest.raises(HandshakeError, match="unknown ca"):
            await reader.read(1)
        writer.close()
        assert not reached.is_set()
        reader, writer = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        assert await reader.read() == b""
        assert reached.is_set()
        writer.close()


async def test_a_server_with_the_wrong_id_is_refused_by_the_client() -> None:
    async with await start() as listener:
        with pytest.raises(
            NotAuthorizedError, match=r"^the server is spiffe://example.org/server; expected: spiffe://example.org/db$"
        ):
            await dial(*listener.address, source(CLIENT), authorize_id("spiffe://example.org/db"))


async def test_a_server_of_a_foreign_ca_is_refused_by_the_client() -> None:
    theirs = ConstantSource(context_for(FOREIGN, SERVER))
    async with await listen("127.0.0.1", 0, theirs, authorize_any(), echo) as listener:
        with pytest.raises(UntrustedPeerError, match="no path to a root"):
            await dial(*listener.address, source(CLIENT), authorize_id(SERVER))


async def test_64_mib_come_back_byte_for_byte_through_half_close_and_back_pressure() -> None:
    block = bytes(range(256)) * 4096
    async with await start() as listener:
        reader, writer = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))

        async def send() -> None:
            for _ in range(64):
                writer.write(block)
                await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            for _ in range(64):
                assert await reader.readexactly(len(block)) == block
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_the_answer_still_arrives_after_the_client_has_closed_its_side() -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())

    async with await start(count) as listener:
        reader, writer = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        writer.write(b"x" * 100_000)
        writer.write_eof()
        assert await reader.read() == b"100000"
        writer.close()


async def test_a_connection_cut_without_close_notify_is_an_error_and_no_clean_end() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half a mes")
        await writer.drain()
        await reader.readexactly(2)
        plain = writer.get_extra_info("socket")
        with socket.socket(fileno=os.dup(plain.fileno())) as same:  # uvloop's transport has no such method
            same.shutdown(socket.SHUT_WR)
        await asyncio.Event().wait()

    async with await start(cut) as listener:
        reader, writer = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        assert await reader.readexactly(10) == b"half a mes"
        writer.write(b"go")
        with pytest.raises(ConnectionResetError, match="without TLS's close_notify"):
            await reader.read()
        writer.close()


async def test_rotation_keeps_live_connections_and_the_next_one_shows_the_new_certificate() -> None:
    server = source(SERVER)
    async with await start(server=server) as listener:
        old_reader, old = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        server.now = context_for(OURS, SERVER, generation=2)
        _, new = await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        old.write(b"still here")
        assert await old_reader.readexactly(10) == b"still here"
        serials = [writer.get_extra_info("peer").serial for writer in (old, new)]
        assert serials[0] != serials[1] == server.snapshot().svid.serial
        for writer in (old, new):
            writer.close()


async def test_200_connections_at_once() -> None:
    client = source(CLIENT)

    async def one(number: int) -> None:
        host, port = listener.address
        reader, writer = await dial(host, port, client, authorize_id(SERVER), timeout=60)
        writer.write(number.to_bytes(4, "big"))
        writer.write_eof()
        assert await reader.read() == number.to_bytes(4, "big")
        writer.close()

    async with await start() as listener, asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(one(number))


async def test_a_peer_that_stalls_in_the_handshake_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        with pytest.raises(HandshakeTimeoutError, match="no finished handshake within 0.05 s"):
            await dial(host, port, source(CLIENT), authorize_id(SERVER), timeout=0.05)


@pytest.mark.asyncio(loop_factories=["asyncio"])  # whose clock can be put forward
async def test_a_refusal_is_not_hidden_by_a_deadline_that_comes_while_the_peer_takes_the_alert(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    async def stubborn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A server that does not close when it reads an alert: the client's deadline passes then."""
        engine = engine_of(context_for(OURS, SERVER), server_side=True)
        while not engine.unsent:
            engine.feed(await reader.read(TURN))
            engine.handshake()
        writer.write(engine.outgoing())
        engine.feed(await reader.read(TURN))
        try:
            engine.handshake()
        except PeerError:
            now = loop.time
            monkeypatch.setattr(loop, "time", lambda: now() + 3600)
        await over.wait()
        writer.close()

    async with await asyncio.start_server(stubborn, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        with pytest.raises(NotAuthorizedError, match=r"^the server is spiffe://example.org/server; expected: "):
            await dial(host, port, source(CLIENT), authorize_id("spiffe://example.org/db"), timeout=60)
        _, writer = await dial(host, port, source(CLIENT), authorize_id(SERVER), timeout=60)
        writer.close()
        over.set()


async def test_a_dial_that_is_cancelled_at_whatever_step_leaves_nothing_for_asyncio_to_complain_of() -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
    async with await start() as listener:
        for turns in range(16):
            dialling = asyncio.ensure_future(dial(*listener.address, source(CLIENT), authorize_id("spiffe://a.test/x")))
            for _ in range(turns):
                await asyncio.sleep(0)
            dialling.cancel()
            await asyncio.wait([dialling])
            assert dialling.cancelled() or isinstance(dialling.exception(), NotAuthorizedError)
    gc.collect()
    assert complaints == []


async def test_a_streams_tls_info_matches_asyncios() -> None:
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait(writer)
        await reader.read()

    async with await start(handler) as listener:
        host, port = listener.address
        context = client_context(source(CLIENT), authorize_id(SERVER))
        _, theirs = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
        _, dialled = await dial(host, port, source(CLIENT), authorize_id(SERVER))
        for name in ("peercert", "cipher", "compression"):
            assert dialled.get_extra_info(name, "unknown") == theirs.get_extra_info(name, "unknown")
        assert dialled.get_extra_info("peercert")["subjectAltName"] == (("URI", SERVER),)
        assert dialled.get_extra_info("nothing", "unknown") == "unknown"
        ours = [await accepted.get(), await accepted.get()]
        for writer in (dialled, *ours):
            assert isinstance(writer.get_extra_info("sslcontext"), ssl.SSLContext)
            assert writer.get_extra_info("sslcontext").cert_store_stats()["x509"] > 0
            assert writer.get_extra_info("cipher") == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
        assert {writer.get_extra_info("peercert")["subjectAltName"] for writer in ours} == {(("URI", CLIENT),)}
        for writer in (theirs, dialled):
            writer.close()


async def test_a_listener_gives_up_a_client_that_stalls() -> None:
    async with await listen("127.0.0.1", 0, source(SERVER), authorize_any(), echo, timeout=0.05) as listener:
        reader, writer = await asyncio.open_connection(*listener.address)
        client = SlowClient()
        writer.write(client.hello)
        assert "ALERT_UNEXPECTED_MESSAGE" in client.alert_in(await reader.read())
        writer.close()


@pytest.mark.parametrize("turns", range(8))
async def test_a_closing_listener_finishes_no_handshake(turns: int) -> None:
    """At whatever step of its accepting: the handshake is not finished behind the closed door."""
    reached = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(peer_id(writer))

    listener = await start(handler)
    with socket.create_connection(listener.address) as sock:
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.close()
        sock.setblocking(False)
        client = SlowClient()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(sock, client.hello)
                assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    assert not reached


async def test_plaintext_to_a_listener_is_closed_cleanly_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with await start() as listener:
        reader, writer = await asyncio.open_connection(*listener.address)
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + b"x" * TURN)
        assert await reader.read() == b""
        writer.close()
    assert caplog.messages == ["refused: the peer's first bytes are not TLS; mutual TLS is required here"]


async def test_without_a_valid_svid_nobody_is_served_and_nobody_is_dialled() -> None:
    async with await listen("127.0.0.1", 0, Nothing(), authorize_any(), echo) as listener:
        with pytest.raises(PeerError, match="^the peer refused the connection with the alert 'internal error'$"):
            await dial(*listener.address, source(CLIENT), authorize_id(SERVER))
        with pytest.raises(LocalIdentityError, match="the SVID expired"):
            await dial(*listener.address, Nothing(), authorize_id(SERVER))


async def test_an_alert_is_told_although_the_server_has_reset_the_connection_after_it() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        host, port = listener.getsockname()
        dialling = asyncio.create_task(dial(host, port, source(CLIENT), authorize_id(SERVER)))
        sock, _ = await loop.sock_accept(listener)
        sock.setblocking(False)
        await loop.sock_recv(sock, 1)  # the ClientHello has come: what follows is read at once, alert and reset
        sock.send(INTERNAL_ERROR_ALERT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        with pytest.raises(PeerError, match="^the peer refused the connection with the alert 'internal error'$"):
            await dialling


async def test_peer_id_wants_a_stream_of_ours() -> None:
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with pytest.raises(RequestError, match="without a verified peer"):
            peer_id(writer)
        writer.close()
        await writer.wait_closed()


async def test_asyncios_own_tls_over_our_contexts_rotates_and_authorizes() -> None:
    server, client = source(SERVER), source(CLIENT)
    inside = server_context(server, authorize_id(CLIENT))
    outside = client_context(client, authorize_id(SERVER))
    async with await asyncio.start_server(echo_tls, "127.0.0.1", 0, ssl=inside) as listening:
        host, port = listening.sockets[0].getsockname()
        first = await asyncio.open_connection(host, port, ssl=outside, server_hostname="")
        server.now = context_for(OURS, SERVER, generation=2)
        second = await asyncio.open_connection(host, port, ssl=outside, server_hostname="")
        for reader, writer in (first, second):
            assert str(peer_id(writer)) == SERVER
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
        serials = [writer.get_extra_info("ssl_object").peer.serial for _, writer in (first, second)]
        assert serials[0] != serials[1] == server.snapshot().svid.serial
        for _, writer in (first, second):
            writer.close()
            await writer.wait_closed()


async def test_asyncios_own_tls_over_our_contexts_refuses_and_the_alert_arrives() -> None:
    inside = server_context(source(SERVER), authorize_member_of("partner.test"))
    async with await asyncio.start_server(echo_tls, "127.0.0.1", 0, ssl=inside) as listening:
        host, port = listening.sockets[0].getsockname()
        reader, writer = await dial(host, port, source(CLIENT), authorize_id(SERVER))
        with pytest.raises(HandshakeError, match="unknown ca"):
            await reader.read(1)
        writer.close()


async def test_asyncios_own_client_over_our_context_says_why_it_refused() -> None:
    outside = client_context(source(CLIENT), authorize_id("spiffe://example.org/db"))
    async with await start() as listener:
        host, port = listener.address
        with pytest.raises(ssl.SSLCertVerificationError, match="the server is .*; expected: "):
            await asyncio.open_connection(host, port, ssl=outside, server_hostname="")


@pytest.mark.parametrize(("allowed", "answer"), [(SERVER, b"hello"), ("spiffe://example.org/db", None)])
async def test_blocking_sockets_over_our_context(allowed: str, answer: bytes | None) -> None:
    outside = client_context(source(CLIENT), authorize_id(allowed))

    def call(host: str, port: int) -> bytes:
        with socket.create_connection((host, port)) as plain, outside.wrap_socket(plain) as tls:
            tls.sendall(b"hello")
            return tls.recv(5)

    async with await start() as listener:
        if answer is None:
            with pytest.raises(ssl.SSLCertVerificationError, match="the server is .*; expected: "):
                await asyncio.to_thread(call, *listener.address)
        else:
            assert await asyncio.to_thread(call, *listener.address) == answer


FIRST_USES = [
    lambda tls: tls.send(b"hello"),
    lambda tls: tls.write(b"hello"),
    lambda tls: tls.sendall(b"hello"),
    lambda tls: tls.read(1),
    lambda tls: tls.recv(1),
    lambda tls: tls.do_handshake(),
]
FIRST_USES_IDS = ["send", "write", "sendall", "read", "recv", "do_handshake"]


@pytest.mark.parametrize("early", [True, False], ids=["judged early", "judged late"])
@pytest.mark.parametrize("use", FIRST_USES, ids=FIRST_USES_IDS)
async def test_a_blocking_socket_with_its_handshake_put_off_is_judged_before_its_first_byte(
    use: Callable[[ssl.SSLSocket], object], early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not early:
        monkeypatch.setattr("meshtls.tls.context.watch_messages", lambda context, callback: None)
    outside = client_context(source(CLIENT), authorize_id("spiffe://example.org/db"))
    received: list[bytes] = []

    def call(host: str, port: int) -> None:
        with socket.create_connection((host, port), 10) as plain:
            tls = outside.wrap_socket(plain, do_handshake_on_connect=False)
            with tls, pytest.raises(ssl.SSLCertVerificationError, match="the server is .*; expected: "):
                use(tls)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(PeerError, ConnectionError):
            received.append(await reader.read())

    async with await start(take) as listener:
        await asyncio.to_thread(call, *listener.address)
    assert b"".join(received) == b""


@pytest.mark.parametrize("use", FIRST_USES, ids=FIRST_USES_IDS)
async def test_a_blocking_socket_with_its_handshake_put_off_knows_its_peer_after_its_first_use(
    use: Callable[[ssl.SSLSocket], object],
) -> None:
    outside = client_context(source(CLIENT), authorize_id(SERVER))

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        with contextlib.suppress(PeerError, ConnectionError):
            await writer.drain()
            await reader.read()

    def call(host: str, port: int) -> object:
        with (
            socket.create_connection((host, port), 10) as plain,
            outside.wrap_socket(plain, do_handshake_on_connect=False) as tls,
        ):
            use(tls)
            return getattr(tls, "peer", None)

    async with await start(greet) as listener:
        peer = await asyncio.to_thread(call, *listener.address)
    assert isinstance(peer, VerifiedPeer)
    assert str(peer.spiffe_id) == SERVER


async def test_a_client_that_reads_an_alert_closes_its_socket_at_once() -> None:
    inside = server_context(source(SERVER), authorize_id("spiffe://example.org/somebody-else"))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> socket.socket:
            plain, _ = listening.accept()
            tls = inside.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            with pytest.raises(ssl.SSLCertVerificationError):
                tls.do_handshake()
            return tls

        refusing = asyncio.create_task(asyncio.to_thread(refuse))
        host, port = listening.getsockname()
        reader, writer = await dial(host, port, source(CLIENT), authorize_id(SERVER))
        descriptor = writer.get_extra_info("socket").fileno()
        with pytest.raises(HandshakeError, match="refused the connection with the alert"):
            await reader.read(1)
        with await refusing:  # which does not close its own
            for _ in range(2):
                await asyncio.sleep(0)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)


def test_a_blocking_server_over_our_context_refuses_with_an_alert() -> None:
    inside = server_context(source(SERVER), authorize_id("spiffe://example.org/somebody-else"))
    refusals: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            plain, _ = listening.accept()
            with plain:
                try:
                    inside.wrap_socket(plain, server_side=True)
                except ssl.SSLCertVerificationError as error:
                    refusals.append(str(error))

        server = threading.Thread(target=serve)
        server.start()
        outside = client_context(source(CLIENT), authorize_id(SERVER))
        with (
            socket.create_connection(listening.getsockname()) as plain,
            outside.wrap_socket(plain) as tls,
            pytest.raises(ssl.SSLError, match="(?i)unknown.ca"),
        ):
            tls.recv(1)
        server.join()
    assert "is not allowed to reach" in refusals[0]


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda context: context.load_cert_chain("own.pem"), "this context's identity comes from its source"),
        (lambda context: context.load_verify_locations("ca.pem"), "trust bundles come from its source"),
        (lambda context: context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), True), "wanted a client connection"),
    ],
)
def test_settings_that_a_rotating_context_would_ignore_are_errors(
    misuse: Callable[[ssl.SSLContext], object], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        misuse(client_context(source(CLIENT), authorize_any()))


def test_alpn_set_on_a_rotating_context_is_negotiated() -> None:
    outside = client_context(source(CLIENT), authorize_any())
    outside.set_alpn_protocols(["h2", "http/1.1"])
    hello = ssl.MemoryBIO()
    client = outside.wrap_bio(ssl.MemoryBIO(), hello)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert struct.pack("!H", 12) + b"\x02h2\x08http/1.1" in hello.read()


async def echo_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(TURN):
        writer.write(data)
        await writer.drain()
    writer.close()
