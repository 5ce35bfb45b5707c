"""HTTP inside of real TLS, and a tunnel of two sidecars: what is read is what was sent, and what tshark reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import hpack
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.address import Address
from meshtls.capture.application import Conversation, Spoken
from meshtls.capture.events import MessageSeen
from meshtls.capture.exchange import HttpExchange
from meshtls.capture.keylog import KeyLog
from meshtls.capture.outside import Answer, outside_view
from meshtls.sidecar.settings import InboundConfig, SidecarConfig
from meshtls.svid.context import ConstantSource
from meshtls.wire.http2.frames import END_HEADERS, PREFACE, Kind, frame
from meshtls.wire.side import Side
from meshtls.wire.tls import certificates_of_message
from tests.integration.sidecar.mesh import ANYWHERE, A, B, as_a, as_b, connected, running, side_a
from tests.support.capture import captured, columns
from tests.support.tls_wire import Wire, contexts, play, relayed

REQUEST = b"GET /orders?id=7 HTTP/1.1\r\nHost: shop.test\r\nAuthorization: Bearer hidden\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\norders"


def only(talk: Conversation) -> HttpExchange:
    (one,) = talk.exchanges
    return one


def inside(talk: Conversation) -> Conversation:
    assert talk.inside is not None
    return talk.inside


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("cut", [0, 1])
def test_a_request_inside_of_tls_is_read(version: int, cut: int, tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    wire = Wire(*contexts(tmp_path, keylog, version=version))
    assert wire.shake() == {}
    wire.send(Side.CLIENT, REQUEST)
    wire.send(Side.SERVER, RESPONSE)
    wire.close()
    talk = Conversation(KeyLog(keylog.read_bytes()))
    play(talk, wire.flights, cut=cut)
    assert (talk.spoken, inside(talk).spoken, list(talk.all_troubles())) == (Spoken.TLS, Spoken.HTTP1, [])
    one = only(inside(talk))
    assert (one.method, one.path, one.status, one.response_bytes, one.end) == (
        "GET",
        "/orders?(4 bytes)",
        200,
        6,
        "complete",
    )
    # Without the key the same connection shows nothing of it.
    talk = Conversation()
    play(talk, wire.flights)
    assert (talk.spoken, talk.inside) == (Spoken.TLS, None)


def test_tls_inside_of_a_tunnel_inside_of_tls_is_read(tmp_path: Path) -> None:
    keylog = tmp_path / "keys.log"
    outer, inner = (Wire(*contexts(tmp_path, keylog, mutual=True, version=3)) for _ in range(2))
    assert (outer.shake(), inner.shake()) == ({}, {})
    inner.send(Side.CLIENT, REQUEST)
    inner.send(Side.SERVER, RESPONSE)
    connect = hpack.Encoder().encode([(":method", "CONNECT"), (":authority", "10.0.0.1:8443")])
    outer.send(Side.CLIENT, PREFACE + frame(Kind.HEADERS, END_HEADERS, 1, connect))
    outer.send(Side.SERVER, frame(Kind.SETTINGS, 0, 0, b"") + frame(Kind.HEADERS, END_HEADERS, 1, b"\x88"))
    for side, data in inner.flights:
        outer.send(side, frame(Kind.DATA, 0, 1, data))
    talk = Conversation(KeyLog(keylog.read_bytes()))
    play(talk, outer.flights)
    assert list(talk.all_troubles()) == []
    assert [one.spoken for one in talk.walk()] == [Spoken.TLS, Spoken.HTTP2, Spoken.TLS, Spoken.HTTP1]
    *_, innermost = talk.walk()
    assert (only(innermost).path, only(innermost).status) == ("/orders?(4 bytes)", 200)


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(RESPONSE)
    await writer.drain()
    writer.close()


async def test_a_tunnel_of_two_sidecars_is_read_as_tshark_reads_it(tmp_path: Path) -> None:
    keylog, capture = tmp_path / "keys.log", tmp_path / "a.pcap"
    identities = {Side.CLIENT: as_a(), Side.SERVER: as_b()}
    app = await asyncio.start_server(_answers, "127.0.0.1", 0)
    async with app:
        door = InboundConfig(listen=ANYWHERE, app=Address(*app.sockets[0].getsockname()[:2]), allow=(A,), tunnel=True)
        config = SidecarConfig(name="b", spiffe_id=B, inbound=(door,), insecure_keylog_file=keylog)
        async with running(config, ConstantSource(identities[Side.SERVER])) as node:
            port = node.inbound.port
            async with (
                captured(port, capture),
                relayed(port) as (relay, flights),
                side_a(
                    Address("127.0.0.1", relay), identities[Side.CLIENT], tunnel=True, destination=node.inbound
                ) as a,
                connected(a.outbound) as (reader, writer),
            ):
                writer.write(REQUEST)
                assert await reader.readexactly(len(RESPONSE)) == RESPONSE
    talk = Conversation(KeyLog(keylog.read_bytes()))
    play(talk, flights)
    assert list(talk.all_troubles()) == []
    assert [one.spoken for one in talk.walk()] == [Spoken.TLS, Spoken.HTTP2, Spoken.HTTP1]

    # The handshake: the messages, and the certificates of both.
    assert talk.tls is not None
    seen = [one for one in talk.tls.events if isinstance(one, MessageSeen)]
    ours = {side: [one.kind for one in seen if one.side is side] for side in Side}
    rows = await columns(capture, port, keylog, "tls.handshake.type", "tcp.srcport", "tls.handshake.type")
    theirs: dict[Side, list[int]] = {side: [] for side in Side}
    for source, kinds in rows:
        theirs[Side.SERVER if int(source) == port else Side.CLIENT] += map(int, kinds.split(","))
    assert ours == theirs
    view = outside_view(talk.tls)
    assert (view.mutual, view.resumed) == (Answer.YES, Answer.NO)
    chains = {one.side: certificates_of_message(0x0304, one.data, limit=4) for one in seen if one.kind == 11}
    for side, identity in identities.items():
        assert chains[side][0] == identity.svid.leaf.public_bytes(Encoding.DER)

    # The tunnel, and the request in it.
    http = inside(talk)
    connect = only(http)
    heads = await columns(
        *(capture, port, keylog, "http2.headers.method || http2.headers.status"),
        *("http2.headers.method", "http2.headers.authority", "http2.headers.status"),
    )
    assert [*map(list, zip(*heads, strict=True))] == [["CONNECT", ""], [connect.authority, ""], ["", "200"]]
    assert (connect.method, connect.status) == ("CONNECT", 200)
    rows = await columns(capture, port, keylog, "http2.data.data", "tcp.srcport", "http2.data.data")
    sent = dict.fromkeys(Side, 0)
    for source, data in rows:
        # An empty frame, which ends a stream, has no data to show.
        parts = [part for part in data.split(",") if part != "<MISSING>"]
        sent[Side.SERVER if int(source) == port else Side.CLIENT] += sum(map(len, map(bytes.fromhex, parts)))
    assert sent == {Side.CLIENT: connect.request_bytes, Side.SERVER: connect.response_bytes}
    assert isinstance(connect.tunnel, Conversation)
    request = only(connect.tunnel)
    assert (request.method, request.authority, request.path) == ("GET", "shop.test", "/orders?(4 bytes)")
    assert (request.status, request.response_bytes) == (200, 6)
    assert "hidden" not in repr(list(talk.walk())) + repr(request)
