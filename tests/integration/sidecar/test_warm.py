"""Connections that are handshaken ahead: served at once, never when what let them in holds no more."""

from __future__ import annotations

import asyncio
import errno

import pytest

from meshtls.identity.issuer import LocalIssuer
from meshtls.identity.rotating import RotatingSource
from meshtls.policy.authorizer import Decision, Target
from meshtls.sidecar.warm import WarmPool, WarmState
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
    patient,
    rest,
    side_a,
    side_b,
)
from tests.support.clock import ManualClock
from tests.support.waiting import SECONDS, until


def pool_of(node: Node) -> WarmPool:
    pool = node.sidecar.listeners.outbound[0].handler.warm
    assert pool is not None
    return pool


async def test_a_warm_connection_is_used_and_another_is_made() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound, warm=2) as a:
        pool = pool_of(a)
        await until(lambda: len(pool) == 2)
        assert repr(pool) == "<WarmPool [2 of 2, full]>"
        await until(lambda: app.connections == 2)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            await until(lambda: len(pool) == 2)
        line = await a.lines.next()
        assert (line["outcome"], line["destination_id"], line["handshake_ms"]) == ("OK", str(B), None)
        assert app.connections == 3
        taken = await b.lines.next()
        assert (taken["outcome"], taken["bytes_in"]) == ("OK", 4)


async def test_a_warm_connection_without_a_descriptor_is_only_a_failed_try(monkeypatch: pytest.MonkeyPatch) -> None:
    failures, add = iter([OSError(errno.EMFILE, "Too many open files")]), WarmPool._add

    async def once_without_descriptors(pool: WarmPool) -> None:
        for failure in failures:
            raise failure
        await add(pool)

    monkeypatch.setattr(WarmPool, "_add", once_without_descriptors)
    clock = ManualClock()
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound, warm=1, clock=clock) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert (len(pool_of(a)), pool_of(a).state) == (0, WarmState.RETRYING)
        clock.advance(60)
        await until(lambda: len(pool_of(a)) == 1)


async def test_an_app_that_speaks_before_a_client_connects_is_heard() -> None:
    async with an_app(b"welcome") as app, side_b(app.address) as b, side_a(b.inbound, warm=1) as a:
        pool = pool_of(a)
        await until(lambda: bool(pool.ready) and pool.ready[0].kept > 0)
        async with connected(a.outbound) as streams:
            assert await asyncio.wait_for(streams[0].readexactly(7), SECONDS) == b"welcome"
            assert await echoed(streams) == b"ping"
        assert (await a.lines.next())["handshake_ms"] is None


async def test_warm_connections_are_closed_when_the_sidecar_drains() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound, warm=3) as a:
        await until(lambda: len(pool_of(a)) == 3)
        await a.sidecar.drain()
        assert (len(pool_of(a)), pool_of(a).state) == (0, WarmState.CLOSED)
        assert [await b.lines.outcome() for _ in range(3)] == ["OK"] * 3


async def test_a_warm_connection_of_an_older_generation_is_not_served() -> None:
    source = RotatingSource(LocalIssuer(OURS, A))
    async with source, an_app() as app, side_b(app.address) as b, side_a(b.inbound, source, warm=1) as a:
        await until(lambda: len(pool_of(a)) == 1)
        await source.rotate()
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        line = await a.lines.next()
    assert (line["outcome"], line["generation"]) == ("OK", 2)
    assert line["handshake_ms"] is not None


async def test_a_warm_connection_whose_peer_has_gone_is_not_served() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound, warm=1) as a:
        pool = pool_of(a)
        await until(lambda: len(pool) == 1)
        first = pool.ready[0]
        b.sidecar.abort()
        assert await b.lines.outcome() == "DRAINED"
        await until(lambda: len(pool) == 1 and pool.ready[0] is not first)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert await a.lines.outcome() == "OK"


async def test_a_warm_connection_that_is_too_old_is_not_served() -> None:
    clock, limits = ManualClock(), patient(idle_timeout=100)
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound, clock=clock, limits=limits, warm=1) as a:
        pool = pool_of(a)
        await until(lambda: len(pool) == 1)
        clock.advance(50)
        first = pool.ready[0]
        assert pool.is_good(first)
        clock.advance(1)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert (await a.lines.next())["handshake_ms"] is not None
        assert first not in pool.ready


async def test_a_warm_connection_whose_peer_is_not_allowed_any_more_is_not_served() -> None:
    """Nothing changes an outbound's peer while it runs; were it so, the pool would ask as a new connection does."""
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound, warm=1) as a:
        pool = pool_of(a)
        await until(lambda: len(pool) == 1)

        def nobody(peer: VerifiedPeer, target: Target) -> Decision:
            return Decision(False, "nobody is allowed")

        pool._contexts.current()._precheck = nobody
        assert pool.take() is None
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await rest(streams)
        line = await a.lines.next()
        assert (line["outcome"], line["detail"]) == ("POLICY_DENIED", "nobody is allowed")


async def test_an_unreachable_peer_is_tried_again_after_a_pause() -> None:
    clock = ManualClock()
    async with (
        an_app() as app,
        side_b(app.address) as b,
        side_a(b.inbound, peer=OTHER, clock=clock, warm=1) as a,
    ):
        await clock.until_sleepers()
        assert clock.wakes_in == (1.0,)
        clock.advance(1)
        await clock.until_sleepers()
        assert clock.wakes_in == (2.0,)
        assert len(pool_of(a)) == 0
