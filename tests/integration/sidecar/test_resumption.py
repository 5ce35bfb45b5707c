"""Two sidecars that resume TLS sessions: what resumes, what ends a session, and that no app has to notice."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

import pytest

from meshtls.address import Address
from meshtls.identity.issuer import LocalIssuer
from meshtls.identity.rotating import RotatingSource
from meshtls.policy.authorizer import Authorizer, Decision, Target
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from tests.integration.sidecar.mesh import (
    OTHER,
    OURS,
    A,
    B,
    Node,
    an_app,
    connected,
    echoed,
    rest,
    side_a,
    side_b,
)
from tests.support.authority import context_for


@dataclass
class Seen:
    """What both logs say of one connection."""

    outcomes: tuple[str, str]
    resumed: tuple[bool, bool]


WELL = ("OK", "OK")


async def once(a: Node, b: Node) -> Seen:
    """One connection of the app through both; what was seen of it."""
    async with connected(a.outbound) as streams:
        assert await echoed(streams) == b"ping"
    lines = await a.lines.next(), await b.lines.next()
    return Seen((lines[0]["outcome"], lines[1]["outcome"]), (lines[0]["resumed"], lines[1]["resumed"]))


async def test_connections_after_the_first_are_resumed() -> None:
    async with (
        an_app() as app,
        side_b(app.address, resumption=True) as b,
        side_a(b.inbound, resumption=True) as a,
    ):
        assert [(await once(a, b)) for _ in range(3)] == [
            Seen(WELL, (False, False)),
            Seen(WELL, (True, True)),
            Seen(WELL, (True, True)),
        ]


@pytest.mark.parametrize(("theirs", "ours"), [(True, False), (False, True), (False, False)])
async def test_a_tunnel_needs_both_sides_to_enable_it(theirs: bool, ours: bool) -> None:
    async with an_app() as app, side_b(app.address, resumption=theirs) as b, side_a(b.inbound, resumption=ours) as a:
        assert [(await once(a, b)).resumed for _ in range(2)] == [(False, False), (False, False)]


@pytest.mark.parametrize("side", ["a", "b"])
async def test_a_rotation_on_either_side_ends_the_session_and_the_next_one_resumes_again(side: str) -> None:
    as_a, as_b = RotatingSource(LocalIssuer(OURS, A)), RotatingSource(LocalIssuer(OURS, B))
    async with (
        as_a,
        as_b,
        an_app() as app,
        side_b(app.address, resumption=True, source=as_b) as b,
        side_a(b.inbound, as_a, resumption=True) as a,
    ):
        assert [(await once(a, b)).resumed[0] for _ in range(2)] == [False, True]
        await (as_a if side == "a" else as_b).rotate()
        assert [(await once(a, b)).resumed[0] for _ in range(2)] == [False, True]


async def test_a_resumed_peer_that_policy_forbids_meanwhile_is_refused_and_then_shakes_hands_in_full() -> None:
    async with (
        an_app() as app,
        side_b(app.address, resumption=True) as b,
        side_a(b.inbound, resumption=True) as a,
    ):
        await once(a, b)
        assert (await once(a, b)).resumed == (True, True)
        b.sidecar.set_allow(0, [OTHER])
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):  # and no empty answer
                await echoed(streams)
        line = await b.lines.next()
        assert (line["outcome"], line["resumed"]) == ("POLICY_DENIED", True)
        assert line["detail"] == f"peer {A} is not allowed to reach {B}; allowed: {OTHER}"
        line = await a.lines.next()
        assert (line["outcome"], line["resumed"]) == ("HANDSHAKE_FAILED", True)
        assert line["detail"] == "the peer refused the connection with the alert 'unexpected message'"
        b.sidecar.set_allow(0, [A])
        assert [(await once(a, b)).resumed[0] for _ in range(2)] == [False, True]
    assert app.connections == 4


@pytest.mark.parametrize("tunnel", [False, True])
async def test_every_verdict_is_about_the_apps_port_resumed_or_not(tunnel: bool) -> None:
    asked: list[Target] = []

    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        asked.append(target)
        return Decision(True, "asked")

    async with an_app() as app, side_b(app.address, resumption=True, tunnel=tunnel) as b:
        b.sidecar.set_authorizer(0, decide)
        resumed = []
        for _ in range(2):
            async with side_a(b.inbound, resumption=True, tunnel=tunnel) as a:
                resumed += [(await once(a, b)).resumed[1] for _ in range(2)]
        b.sidecar.set_authorizer(0, decide)  # asks about what is there
    assert resumed == ([False] * 4 if tunnel else [False, True] * 2)
    assert set(asked) == {Target(B, app.address.port)}


async def test_a_tunnels_peer_that_is_verified_anew_is_judged_by_the_apps_port() -> None:
    asked: list[Target] = []

    def decide(peer: VerifiedPeer, target: Target) -> Decision:
        asked.append(target)
        return Decision(True, "asked")

    async with (
        RotatingSource(LocalIssuer(OURS, B)) as source,
        an_app() as app,
        side_b(app.address, tunnel=True, source=source) as b,
        side_a(b.inbound, tunnel=True) as a,
    ):
        b.sidecar.set_authorizer(0, decide)
        await once(a, b)
        before = len(asked)
        await source.rotate()
        await once(a, b)
    assert len(asked) >= before + 2, "the peer anew, and the stream"
    assert set(asked) == {Target(B, app.address.port)}


async def test_a_policy_by_port_holds_for_a_resumed_connection_and_ends_it_when_it_changes() -> None:
    async with an_app() as app, side_b(app.address, resumption=True) as b, side_a(b.inbound, resumption=True) as a:

        def only(port: int | None) -> Authorizer:
            return lambda peer, target: Decision(target.port == port, f"port {target.port}")

        b.sidecar.set_authorizer(0, only(app.address.port))
        assert [(await once(a, b)).resumed[1] for _ in range(2)] == [False, True]
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            assert b.sidecar.set_authorizer(0, only(None)) == 1
            with pytest.raises(ConnectionResetError):
                await rest(streams)
        line = await b.lines.the("POLICY_DENIED")
        assert (line["resumed"], line["detail"]) == (True, f"port {app.address.port}")


async def test_more_clients_resume_than_chains_are_remembered() -> None:
    ids = [SpiffeId.parse(f"spiffe://example.org/c{number}") for number in range(3)]
    async with (
        an_app() as app,
        side_b(app.address, allow=tuple(ids), resumption=True) as b,
        contextlib.AsyncExitStack() as stack,
    ):
        b.sidecar.listeners.inbound[0].handler._contexts.current()._verifier._size = 1
        sides = [
            await stack.enter_async_context(side_a(b.inbound, context_for(OURS, one), resumption=True)) for one in ids
        ]
        first, *others = [[await once(a, b) for a in sides] for _ in range(3)]
    assert first == [Seen(WELL, (False, False))] * 3
    assert others == [[Seen(WELL, (True, True))] * 3] * 2


@dataclass
class Wire:
    """Lies between the sidecars and passes everything on, but breaks off the next ``cuts`` connections."""

    to: Address
    cuts: int = 0
    cut: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut < self.cuts:
            self.cut += 1
            await reader.read(1)
            writer.transport.abort()
            return
        far = await asyncio.open_connection(self.to.host, self.to.port)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass_on(reader, far[1]))
            group.create_task(_pass_on(far[0], writer))
        writer.close()
        far[1].close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.write_eof()


@pytest.mark.parametrize(("cuts", "outcome"), [(1, "OK"), (2, "HANDSHAKE_FAILED")])
async def test_a_failed_resumption_is_tried_in_full_before_the_app_sees_an_error(cuts: int, outcome: str) -> None:
    async with an_app() as app, side_b(app.address, resumption=True) as b:
        wire = Wire(b.inbound)
        async with await asyncio.start_server(wire.serve, "127.0.0.1", 0) as server:
            between = Address(*server.sockets[0].getsockname())
            async with side_a(between, resumption=True) as a:
                assert [(await once(a, b)).resumed[0] for _ in range(2)] == [False, True]
                wire.cuts = cuts
                async with connected(a.outbound) as streams:
                    with contextlib.suppress(ConnectionError):
                        await echoed(streams)
                line = await a.lines.next()
        assert (line["outcome"], line["resumed"], wire.cut) == (outcome, False, cuts)


async def test_a_full_handshake_that_fails_is_not_tried_again() -> None:
    wire = Wire(Address("127.0.0.1", 1), cuts=10)
    async with await asyncio.start_server(wire.serve, "127.0.0.1", 0) as server:
        between = Address(*server.sockets[0].getsockname())
        async with side_a(between, resumption=True) as a, connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
            assert await a.lines.outcome() == "HANDSHAKE_FAILED"
    assert wire.cut == 1
