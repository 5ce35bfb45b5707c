"""Traces, baggage and hops in tunnels: both ends log them, a gateway passes them on, and they decide nothing."""

from __future__ import annotations

import asyncio

import pytest

from meshtls.address import Address
from meshtls.policy.authorizer import authorize_one_of
from meshtls.sidecar.settings import InboundConfig, OutboundConfig, SidecarConfig
from meshtls.svid.context import ConstantSource
from meshtls.wire.http2.frames import Kind
from meshtls.wire.http2.headers import NO_TABLE, connect_block
from meshtls.wire.origin import Origin
from tests.integration.sidecar.mesh import A, B, an_app, as_b, connected, echoed, rest, running, side_a, side_b
from tests.integration.sidecar.tunnel.test_tunnel_endings import END_HEADERS, a_client
from tests.support.ports import free_ports
from tests.support.waiting import SECONDS

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_both_sides_log_the_same_trace_and_the_claimed_source() -> None:
    async with (
        an_app() as app,
        side_b(app.address, tunnel=True) as b,
        side_a(b.inbound, tunnel=True) as a,
    ):
        traces = set()
        for _ in range(2):
            async with connected(a.outbound) as streams:
                assert await echoed(streams) == b"ping"
                streams[1].write_eof()
                assert await rest(streams) == b""
            sent, came = await a.lines.next(), await b.lines.next()
            for key in ("traceparent", "baggage", "forwarded"):
                assert sent[key] == came[key]
            assert (came["baggage"], came["forwarded"]) == (
                "k8s.namespace.name=default,service.name=a",
                "for=127.0.0.1",
            )
            traces.add(came["traceparent"])
        assert len(traces) == 2


async def test_a_gateway_forwards_the_headers_it_received_and_adds_its_hop() -> None:
    way = Address("127.0.0.1", free_ports(1)[0])
    anywhere = Address("127.0.0.1", 0)
    async with an_app() as app, side_b(app.address, tunnel=True, allow=(B,)) as last:
        config = SidecarConfig(
            name="gateway",
            spiffe_id=B,
            inbound=(InboundConfig(listen=anywhere, app=way, allow=(A,), tunnel=True),),
            outbound=(OutboundConfig(listen=way, to=last.inbound, peer=B, tunnel=True),),
        )
        async with running(config, ConstantSource(as_b())) as gateway, a_client(gateway.inbound) as peer:
            origin = Origin(TRACE, b"service.name=first", b"for=192.0.2.1")
            peer.says(Kind.HEADERS, END_HEADERS, 1, NO_TABLE + connect_block(str(way).encode(), origin))
            peer.says(Kind.DATA, 1, 1, b"ping")
            async with asyncio.timeout(SECONDS):
                kinds = [(await peer.next())[0] for _ in range(2)]
            assert kinds == [Kind.HEADERS, Kind.DATA]
            line = await last.lines.next()
            assert line["source_id"] == str(B), "the identity is that of the certificate"
            assert (line["traceparent"], line["baggage"]) == (TRACE.decode(), "service.name=first")
            assert line["forwarded"] == "for=192.0.2.1,for=127.0.0.1"


@pytest.mark.parametrize("allowed", [True, False])
async def test_no_claim_lets_anybody_in(allowed: bool) -> None:
    """Neither a baggage nor the headers of other proxies."""
    claims = b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in (
            (b"x-forwarded-client-cert", b"URI=" + str(B).encode()),
            (b"x-istio-source", b"waypoint"),
            (b"baggage", b"k8s.namespace.name=kube-system"),
        )
    )
    async with an_app() as app, side_b(app.address, tunnel=True) as b, a_client(b.inbound) as peer:
        peer.says(Kind.HEADERS, END_HEADERS, 1, NO_TABLE + connect_block(b"elsewhere:1"))
        await peer.next()
        assert await b.lines.outcome() == "POLICY_DENIED"
        if not allowed:
            # The tunnel was let in; whether its next stream may is asked anew, of the certificate's ID.
            b.sidecar.listeners.inbound[0].gate.replace(authorize_one_of(B))
        peer.says(Kind.HEADERS, END_HEADERS, 3, connect_block(str(app.address).encode()) + claims)
        line = None if allowed else await b.lines.next()
        peer.says(Kind.DATA, 1, 3, b"")
        line = line or await b.lines.next()
        assert (line["outcome"], line["source_id"]) == ("OK" if allowed else "POLICY_DENIED", str(A))
        assert line["baggage"] == "k8s.namespace.name=kube-system"
        assert app.connections == allowed


@pytest.mark.parametrize("hostile", [b"a=\x1b]0;owned\x07", b"a=\x7f", b"\xff\xfe", b"x" * 5000])
async def test_a_hostile_claim_is_dropped_and_its_stream_is_served(hostile: bytes) -> None:
    async with an_app() as app, side_b(app.address, tunnel=True) as b, a_client(b.inbound) as peer:
        origin = Origin(b"not a trace", hostile, hostile)
        peer.says(Kind.HEADERS, END_HEADERS, 1, NO_TABLE + connect_block(str(app.address).encode(), origin))
        peer.says(Kind.DATA, 1, 1, b"ping")
        async with asyncio.timeout(SECONDS):
            assert [(await peer.next())[0] for _ in range(2)] == [Kind.HEADERS, Kind.DATA]
        line = await b.lines.next()
        assert (line["outcome"], line["traceparent"], line["baggage"], line["forwarded"]) == ("OK", None, None, None)
