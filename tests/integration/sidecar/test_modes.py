"""STRICT, PERMISSIVE and DISABLE: what each does with plaintext, with TLS and with silence."""

from __future__ import annotations

import asyncio
import socket

import pytest

from meshtls.clock import SystemClock
from meshtls.errors import HandshakeError, RequestError
from meshtls.observe.events import Direction
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.settings import Limits, Mode
from meshtls.tls.context import TlsOptions
from meshtls.wire.http2.frames import PREFACE, Kind, frame
from tests.integration.sidecar.mesh import A, B, an_app, as_a, connected, echoed, patient, rest, side_a, side_b
from tests.integration.sidecar.raw_peer import RawPeer
from tests.support.tls import SlowClient, engine_of
from tests.support.waiting import SECONDS, until


async def test_plaintext_to_strict_is_closed_cleanly_and_never_reaches_the_app() -> None:
    async with an_app() as app, side_b(app.address) as b:
        async with connected(b.inbound) as streams:
            streams[1].write(b"GET / HTTP/1.1\r\n\r\n")
            assert await rest(streams) == b""
        line = await b.lines.next()
    assert (line["outcome"], line["verdict"], line["source_id"]) == ("PLAINTEXT_REFUSED", "denied", None)
    assert line["security"] == "plaintext"
    assert line["detail"] == (
        "wanted a TLS ClientHello, got plaintext that starts with b'GET / HTTP/1.1\\r\\n';"
        " send it through a sidecar, or set mode PERMISSIVE"
    )
    assert app.connections == 0


async def test_a_peer_that_gives_up_after_its_client_hello_is_no_plaintext_caller() -> None:
    close_notify = bytes.fromhex("15 03 01 00 02 01 00")
    async with an_app() as app, side_b(app.address) as b, connected(b.inbound) as streams:
        streams[1].write(SlowClient().hello + close_notify)
        line = await b.lines.next()
    assert line["outcome"] == "HANDSHAKE_FAILED"
    afterwards = "the peer gave up, or broke the protocol, after its handshake had begun"
    assert line["detail"] in [  # of OpenSSL 3.0, and of 3.6
        f"TLS failed: wrong version number: {afterwards}",
        f"TLS failed: record layer failure: {afterwards}",
    ]
    assert app.connections == 0


@pytest.mark.parametrize(
    ("first", "alert"),
    [
        (b"\x17\x03\x03\x00\x05hello", b"\x15\x03\x03\x00\x02\x02\x0a"),
        (b"\x80\x2e\x01\x00\x02", b"\x15\x03\x03\x00\x02\x02\x46"),
    ],
    ids=["application data", "a ClientHello of SSL 2.0"],
)
async def test_a_record_that_cannot_be_first_is_answered_with_an_alert(first: bytes, alert: bytes) -> None:
    async with an_app() as app, side_b(app.address) as b, connected(b.inbound) as streams:
        streams[1].write(first)
        assert await rest(streams) == alert
        assert await b.lines.outcome() == "PLAINTEXT_REFUSED"


async def test_the_same_plaintext_to_permissive_reaches_the_app_without_an_identity() -> None:
    async with an_app() as app, side_b(app.address, mode=Mode.PERMISSIVE) as b:
        async with connected(b.inbound) as streams:
            assert await echoed(streams, b"GET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
        line = await b.lines.next()
    assert (line["outcome"], line["source_id"], line["destination_id"]) == ("OK", None, str(B))
    assert (line["tls_version"], line["local_serial"], line["handshake_ms"]) == (None, None, None)
    assert app.connections == 1


async def test_tls_to_permissive_is_mutual_tls() -> None:
    async with an_app() as app, side_b(app.address, mode=Mode.PERMISSIVE) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert (await b.lines.next())["source_id"] == str(A)


async def test_tls_to_permissive_from_a_peer_that_is_not_listed_is_denied() -> None:
    async with an_app() as app, side_b(app.address, mode=Mode.PERMISSIVE, allow=()) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
        assert await b.lines.outcome() == "POLICY_DENIED"
    assert app.connections == 0


async def test_an_app_that_speaks_first_is_heard_through_permissive_after_the_detect_timeout() -> None:
    limits = patient(detect_timeout=0.05)
    async with (
        an_app(b"220 ready\r\n") as app,
        side_b(app.address, mode=Mode.PERMISSIVE, limits=limits) as b,
        connected(b.inbound) as streams,
        asyncio.timeout(SECONDS),
    ):
        assert await streams[0].readline() == b"220 ready\r\n"
        assert await echoed(streams) == b"ping"


async def test_first_bytes_that_come_one_by_one_are_all_passed_on() -> None:
    limits = Limits(detect_timeout=0.05, handshake_timeout=0.05)
    async with (
        an_app() as app,
        side_b(app.address, mode=Mode.PERMISSIVE, limits=limits) as b,
        connected(b.inbound) as streams,
    ):
        assert await echoed(streams, b"\x16") == b"\x16"  # held back as a possible ClientHello, until the timeouts
        assert await echoed(streams, b"\x03more") == b"\x03more"


#: So short that every client is late.
LATE = patient(detect_timeout=0.001)


@pytest.mark.parametrize("split", [0, 1, 2, 3])
async def test_a_late_client_hello_is_still_mutual_tls_and_no_byte_of_it_reaches_the_app(split: int) -> None:
    async with (
        an_app() as app,
        side_b(app.address, mode=Mode.PERMISSIVE, limits=LATE) as b,
        connected(b.inbound) as late,
    ):
        await until(lambda: app.connections == 1)  # dialled, for it might have spoken first
        peer = RawPeer(engine_of(as_a(), server_side=False), late)
        assert peer.engine.handshake() is None
        hello = peer.engine.outgoing()
        for part in (hello[:split], hello[split:]):
            late[1].write(part)
            await late[1].drain()
            await asyncio.sleep(0)
        await peer.shake()
        peer.send(b"ping")
        assert await peer.receive() == b"ping"
        assert (app.connections, app.received) == (1, 4)
        late[1].close()
        line = await b.lines.next()
    assert (line["source_id"], line["tls_version"], line["bytes_in"]) == (str(A), "TLSv1.3", 4)


async def test_a_late_client_hello_of_a_tunnel_resets_the_connection_that_was_made_to_the_app() -> None:
    async with (
        an_app() as app,
        side_b(app.address, mode=Mode.PERMISSIVE, limits=LATE, tunnel=True) as b,
        connected(b.inbound) as late,
    ):
        await until(lambda: app.connections == 1)
        peer = RawPeer(engine_of(as_a(), server_side=False, options=TlsOptions(alpn=("h2",))), late)
        await peer.shake()
        peer.send(PREFACE + frame(Kind.SETTINGS, 0, 0, b""))
        assert await peer.receive()
        assert await asyncio.wait_for(app.ended.get(), SECONDS) == "reset"
        assert (len(b.sidecar.registry), app.received) == (1, 0)


async def test_a_late_client_hello_of_a_peer_that_is_not_listed_is_denied_and_the_app_gets_no_byte_of_it() -> None:
    async with (
        an_app() as app,
        side_b(app.address, mode=Mode.PERMISSIVE, allow=(), limits=LATE) as b,
        connected(b.inbound) as late,
    ):
        await until(lambda: app.connections == 1)
        peer = RawPeer(engine_of(as_a(), server_side=False), late)
        await peer.shake()  # a TLS 1.3 client has done its part before it is judged
        with pytest.raises(HandshakeError, match="^the peer refused the connection with the alert"):
            await peer.receive()
        assert await b.lines.outcome() == "POLICY_DENIED"
        assert await asyncio.wait_for(app.ended.get(), SECONDS) == "reset"
    assert app.received == 0


async def test_late_plaintext_is_still_plaintext() -> None:
    async with (
        an_app() as app,
        side_b(app.address, mode=Mode.PERMISSIVE, limits=LATE) as b,
        connected(b.inbound) as streams,
    ):
        await until(lambda: app.connections == 1)
        assert await echoed(streams) == b"ping"
        assert app.connections == 1


async def test_a_client_hello_after_the_apps_greeting_goes_to_the_app() -> None:
    async with (
        an_app(b"220 ready\r\n") as app,
        side_b(app.address, mode=Mode.PERMISSIVE, limits=LATE) as b,
        connected(b.inbound) as streams,
    ):
        assert await asyncio.wait_for(streams[0].readline(), SECONDS) == b"220 ready\r\n"
        assert await echoed(streams, b"\x16\x03\x01\x00\x05hello") == b"\x16\x03\x01\x00\x05hello"


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.DISABLE])
async def test_a_connection_on_which_neither_side_speaks_ends_at_the_idle_timeout(mode: Mode) -> None:
    limits = patient(detect_timeout=0.001, idle_timeout=0.1)
    async with an_app() as app, side_b(app.address, mode=mode, limits=limits) as b, connected(b.inbound) as streams:
        with pytest.raises(ConnectionResetError):
            await rest(streams)
        line = await b.lines.next()
    assert (line["outcome"], line["detail"]) == ("IDLE_TIMEOUT", "no byte moved for 0.1 s")


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.DISABLE])
async def test_a_silent_connection_takes_no_slot_of_active_ones(mode: Mode) -> None:
    limits = patient(connections=1, detect_timeout=0.001, idle_timeout=0.5)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        other = Connection("b", B, Direction.INBOUND, ours, "127.0.0.1:1", SystemClock())
        async with an_app() as app, side_b(app.address, mode=mode, limits=limits) as b:
            try:
                async with connected(b.inbound) as streams:
                    await until(lambda: app.connections == 1)
                    b.sidecar.registry.enter(other, lambda ended: None)  # the one that may be proven is
                    with pytest.raises(ConnectionResetError):
                        await rest(streams)
                    line = await b.lines.next()
            finally:
                b.sidecar.registry.leave(other)
    assert (line["outcome"], line["detail"]) == ("IDLE_TIMEOUT", "no byte moved for 0.5 s")


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.DISABLE])
async def test_a_client_that_ends_without_sending_ends_the_apps_connection(mode: Mode) -> None:
    async with an_app() as app, side_b(app.address, mode=mode, limits=LATE) as b, connected(b.inbound) as streams:
        await until(lambda: app.connections == 1)
        streams[1].write_eof()
        assert await rest(streams) == b""
        assert await asyncio.wait_for(app.ended.get(), SECONDS) == "EOF"
        assert await b.lines.outcome() == "OK"


async def test_disable_passes_plaintext_and_tls_bytes_as_they_come() -> None:
    async with an_app() as app, side_b(app.address, mode=Mode.DISABLE, allow=()) as b:
        async with connected(b.inbound) as streams:
            assert await echoed(streams, b"\x16\x03\x01\x00\x05hello") == b"\x16\x03\x01\x00\x05hello"
        assert await b.lines.outcome() == "OK"
        with pytest.raises(RequestError, match="mode DISABLE takes plaintext, which proves no identity"):
            b.sidecar.set_allow(0, [A])


async def test_an_empty_allow_list_allows_nobody() -> None:
    async with an_app() as app, side_b(app.address, allow=()) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
        assert (await b.lines.next())["detail"] == f"peer {A} is not allowed to reach {B}; allowed: nobody"
