"""A running sidecar that is configured anew: what changes at once, what goes on, and what is ended."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import msgspec
import pytest

from meshtls.address import Address
from meshtls.errors import ConfigError, RequestError
from meshtls.sidecar.changes import Changes
from meshtls.sidecar.settings import InboundConfig, Mode, OutboundConfig, SidecarConfig
from meshtls.sidecar.states import ListenerState
from meshtls.sidecar.tunnel.pool import PoolState
from meshtls.sidecar.view import Policy
from meshtls.workload.address import parse_address
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    OTHER,
    OURS,
    A,
    B,
    Node,
    Streams,
    an_app,
    connected,
    echoed,
    patient,
    rest,
    side_a,
    side_b,
)
from tests.support.authority import context_for
from tests.support.clock import ManualClock
from tests.support.loop_clock import LoopClock
from tests.support.ports import free_ports
from tests.support.waiting import until


def changed(node: Node, **keys: Any) -> SidecarConfig:
    """Its configuration with these keys of its one inbound."""
    config = node.sidecar.config
    (inbound,) = config.inbound
    return msgspec.structs.replace(config, inbound=(msgspec.structs.replace(inbound, **keys),))


async def is_cut(streams: Streams) -> bool:
    try:
        return await rest(streams) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("tunnel", [False, True])
async def test_an_allow_list_ends_what_it_forbids_and_leaves_the_others_and_may_be_changed_back(tunnel: bool) -> None:
    async with (
        an_app() as app,
        side_b(app.address, allow=(A, OTHER), tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        side_a(b.inbound, context_for(OURS, OTHER), tunnel=tunnel) as other,
        connected(a.outbound) as forbidden,
        connected(other.outbound) as allowed,
    ):
        assert await echoed(forbidden) == await echoed(allowed) == b"ping"
        before = b.sidecar.config
        told = b.sidecar.reload(changed(b, allow=(OTHER,)))
        assert told.taken == (f"inbound {ANYWHERE} (allow)",)
        # A tunnel is a connection besides its streams.
        assert (told.restart, told.ended) == ((), 2 if tunnel else 1)
        assert await is_cut(forbidden)
        assert (await b.lines.the("POLICY_DENIED"))["source_id"] == str(A)
        assert await echoed(allowed) == b"ping"
        async with connected(a.outbound) as streams:
            assert await is_cut(streams)
        assert b.sidecar.reload(before).taken == told.taken
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert b.sidecar.reload(changed(b, allow=())).ended
        assert await is_cut(allowed)


async def test_a_configuration_that_is_the_same_changes_nothing() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, connected(a.outbound) as streams:
        assert await echoed(streams) == b"ping"
        handler = b.sidecar.listeners.inbound[0].handler
        assert b.sidecar.reload(b.sidecar.config) == Changes()
        assert b.sidecar.listeners.inbound[0].handler is handler
        assert await echoed(streams) == b"ping"


def takes_streams(node: Node) -> bool:
    """It has a tunnel that may be given another stream."""
    pool = node.sidecar.listeners.outbound[0].handler.tunnels
    return pool is not None and pool.state is PoolState.OPEN


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_listener_takes_its_new_app_for_new_connections_and_live_ones_keep_the_old(tunnel: bool) -> None:
    async with (
        an_app() as old,
        an_app() as new,
        side_b(old.address, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        connected(a.outbound) as before,
    ):
        assert await echoed(before) == b"ping"
        address = b.inbound
        assert b.sidecar.reload(changed(b, app=new.address)).taken == (f"inbound {ANYWHERE} (app)",)
        assert b.inbound == address
        await until(lambda: not takes_streams(a))
        async with connected(a.outbound) as after:
            assert await echoed(after) == b"ping"
        assert await echoed(before) == b"ping"
        assert (old.connections, new.connections) == (1, 1)
        # The policy is that of the listener, for what lives of its older configuration, too.
        assert b.sidecar.reload(changed(b, allow=())).ended
        assert await is_cut(before)


async def test_plaintext_ends_where_a_listener_takes_mutual_tls_only_from_now_on() -> None:
    async with (
        an_app() as app,
        side_b(app.address, mode=Mode.PERMISSIVE) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as mutual,
        connected(b.inbound) as plain,
    ):
        assert await echoed(mutual) == await echoed(plain) == b"ping"
        assert b.sidecar.reload(changed(b, mode=Mode.STRICT)).ended == 1
        assert await is_cut(plain)
        line = await b.lines.the("POLICY_DENIED")
        assert line["detail"] == "plaintext proves no identity, and this listener requires mutual TLS"
        assert await echoed(mutual) == b"ping"
        async with connected(b.inbound) as refused:
            refused[1].write(b"GET / HTTP/1.1\r\n\r\n")
            assert await is_cut(refused)
        await b.lines.the("PLAINTEXT_REFUSED")


async def test_a_listener_that_is_removed_before_it_accepts_is_closed() -> None:
    async with an_app() as app, side_b(app.address) as b:
        config = b.sidecar.config
        more = msgspec.structs.replace(config, inbound=(*config.inbound, config.inbound[0]))
        b.sidecar.reload(more)
        added = b.sidecar.inbound[1]
        b.sidecar.reload(config)
        await until(lambda: added.state is ListenerState.CLOSED)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(added.address.host, added.address.port)
        async with connected(b.inbound) as still:
            assert still


async def test_listeners_are_added_and_removed_and_connections_of_a_removed_one_get_the_drain_time() -> None:
    clock, limits = ManualClock(), patient(drain=7)
    async with (
        an_app() as app,
        side_b(app.address, limits=limits, clock=clock) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as lasting,
    ):
        assert await echoed(lasting) == b"ping"
        gone, config = b.inbound, b.sidecar.config
        place = Address("127.0.0.1", free_ports(1)[0])
        new = InboundConfig(listen=place, app=app.address, allow=(A,))
        told = b.sidecar.reload(msgspec.structs.replace(config, inbound=(new,)))
        assert told.taken == (f"inbound {place} (new)", f"inbound {ANYWHERE} (removed)")
        async with side_a(place) as other, connected(other.outbound) as streams:
            assert await echoed(streams) == b"ping"
        await until(lambda: refuses(gone))
        assert await echoed(lasting) == b"ping"
        await clock.until_sleepers()
        clock.advance(7)
        assert await is_cut(lasting)
        assert (await b.lines.the("DRAINED"))["detail"] == "its listener was removed 7 s ago"


def refuses(address: Address) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address.host, address.port)) != 0


async def test_an_address_that_cannot_be_bound_changes_nothing() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, connected(a.outbound) as streams:
        assert await echoed(streams) == b"ping"
        config = b.sidecar.config
        free, taken = msgspec.structs.replace(config.inbound[0], allow=()), app.address
        inbound = (free, InboundConfig(listen=taken, app=app.address, allow=(A,)))
        with pytest.raises(
            ConfigError, match=rf"^b: inbound\[1\].listen: wanted to listen on {taken}: Address already"
        ):
            b.sidecar.reload(msgspec.structs.replace(config, inbound=inbound, limits=patient(connections=1)))
        assert b.sidecar.config is config
        assert (len(b.sidecar.inbound), b.sidecar.registry.limit) == (1, config.limits.connections)
        async with connected(a.outbound) as more:
            assert await echoed(more) == b"ping"
        assert await echoed(streams) == b"ping"


async def test_reloaded_limits_apply_at_once() -> None:
    clock = LoopClock()
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, connected(a.outbound) as streams:
        assert await echoed(streams) == b"ping"
        before = b.sidecar.config.limits
        limits = msgspec.structs.replace(before, connections=1, unproven=5, idle_timeout=100)
        told = b.sidecar.reload(msgspec.structs.replace(b.sidecar.config, limits=limits))
        assert told.taken == ("limits.connections", "limits.unproven", "limits.idle_timeout")
        async with connected(a.outbound) as too_many:
            assert await is_cut(too_many)
        assert (await b.lines.the("CONNECTION_LIMIT"))["detail"] == "connection limit reached (limits.connections=1)"
        b.sidecar.reload(msgspec.structs.replace(b.sidecar.config, limits=patient(idle_timeout=100)))
        async with connected(a.outbound) as idle:
            assert await echoed(idle) == b"ping"
            clock.put_forward(101)
            assert await is_cut(idle)
        assert (await b.lines.the("IDLE_TIMEOUT"))["detail"] == "no byte moved for 100 s"
        assert await echoed(streams) == b"ping"


@pytest.mark.parametrize("tunnel", [False, True])
async def test_an_outbound_with_a_new_peer_ends_connections_to_the_old_one(tunnel: bool) -> None:
    async with (
        an_app() as app,
        side_b(app.address, tunnel=tunnel) as b,
        side_b(app.address, tunnel=tunnel, source=None, allow=(A,)) as unused,
        side_a(b.inbound, tunnel=tunnel) as a,
        connected(a.outbound) as first,
    ):
        assert await echoed(first) == b"ping"
        async with connected(a.outbound) as second:  # of a tunnel, a stream that has no verdict of its own
            assert await echoed(second) == b"ping"
            config = a.sidecar.config
            way = msgspec.structs.replace(config.outbound[0], peer=OTHER)
            assert a.sidecar.reload(msgspec.structs.replace(config, outbound=(way,))).ended == 2
            assert await is_cut(first)
            assert await is_cut(second)
        assert [await a.lines.outcome() for _ in range(2)] == ["POLICY_DENIED", "POLICY_DENIED"]
        async with connected(a.outbound) as refused:
            assert await is_cut(refused)
        # And back, to another address of the same peer.
        way = msgspec.structs.replace(config.outbound[0], to=unused.inbound)
        told = a.sidecar.reload(msgspec.structs.replace(config, outbound=(way,)))
        assert told.taken == (f"outbound {ANYWHERE} (to, peer)",)
        async with connected(a.outbound) as again:
            assert await echoed(again) == b"ping"
            back = a.sidecar.reload(config)
            assert back.taken == (f"outbound {ANYWHERE} (to)",)
            assert await echoed(again) == b"ping"
        assert (await unused.lines.next())["source_id"] == str(A)


async def test_warm_connections_of_an_older_configuration_are_replaced() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound, warm=2) as a:
        old = a.sidecar.listeners.outbound[0].handler.warm
        assert old is not None
        await until(lambda: len(old) == 2)
        config = a.sidecar.config
        way = msgspec.structs.replace(config.outbound[0], warm=1)
        a.sidecar.reload(msgspec.structs.replace(config, outbound=(way,)))
        new = a.sidecar.listeners.outbound[0].handler.warm
        assert new is not None
        await until(lambda: len(new) == 1 and len(old) == 0)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"


async def test_a_key_that_needs_a_restart_is_reported_and_stays_as_it_is() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a:
        wanted = msgspec.structs.replace(changed(b, allow=(A, B)), spiffe_id=A, workers=3)
        told = b.sidecar.reload(wanted)
        assert told.restart == ("spiffe_id", "workers")
        assert (b.sidecar.config.spiffe_id, b.sidecar.config.workers) == (B, 1)
        assert b.sidecar.config.inbound[0].allow == (A, B)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"


async def test_a_reloaded_grace_period_applies_to_a_pending_withdrawal() -> None:
    async with an_app() as app, side_b(app.address) as b:
        watching = b.sidecar._withdrawal
        b.sidecar.reload(msgspec.structs.replace(b.sidecar.config, limits=patient(withdrawal_grace=1)))
        assert b.sidecar._withdrawal is not watching
        b.sidecar.reload(b.sidecar.config)
        await asyncio.sleep(0)
        assert watching is not None
        assert watching.done()


@pytest.mark.parametrize("tunnel", [False, True])
async def test_an_outbound_listener_that_is_added_serves_and_one_that_is_removed_refuses_and_then_ends_what_lives(
    tunnel: bool,
) -> None:
    clock, limits = ManualClock(), patient(drain=7)
    async with (
        an_app() as app,
        side_b(app.address, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel, limits=limits, clock=clock) as a,
        connected(a.outbound) as lasting,
    ):
        assert await echoed(lasting) == b"ping"
        gone, config = a.outbound, a.sidecar.config
        place = Address("127.0.0.1", free_ports(1)[0])
        new = msgspec.structs.replace(config.outbound[0], listen=place)
        told = a.sidecar.reload(msgspec.structs.replace(config, outbound=(new,)))
        assert told.taken == (f"outbound {place} (new)", f"outbound {ANYWHERE} (removed)")
        async with connected(place) as streams:
            assert await echoed(streams) == b"ping"
        await until(lambda: refuses(gone))
        assert await echoed(lasting) == b"ping"
        await clock.until_sleepers()
        clock.advance(7)
        assert await is_cut(lasting)
        assert (await a.lines.the("DRAINED"))["detail"] == "its listener was removed 7 s ago"


async def test_an_outbound_address_that_cannot_be_bound_leaves_the_inbound_listeners_as_they_are() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, connected(a.outbound) as streams:
        assert await echoed(streams) == b"ping"
        view = b.sidecar.view
        free = Address("127.0.0.1", free_ports(1)[0])
        added = InboundConfig(listen=free, app=app.address, allow=(A,))
        taken = OutboundConfig(listen=app.address, to=app.address, peer=A, tunnel=True)
        wanted = msgspec.structs.replace(b.sidecar.config, inbound=(added,), outbound=(taken,))
        with pytest.raises(
            ConfigError,
            match=r"^b: outbound\[0\].listen: wanted to listen on .*: Address already in use, by this process$",
        ):
            b.sidecar.reload(wanted)
        assert b.sidecar.view is view
        assert refuses(free)
        async with connected(a.outbound) as more:
            assert await echoed(more) == b"ping"
        assert await echoed(streams) == b"ping"


async def test_a_view_is_served_whatever_fills_it_and_an_older_one_or_another_trust_is_refused() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, connected(a.outbound) as streams:
        assert await echoed(streams) == b"ping"
        view = b.sidecar.view
        assert view.generation == 1
        nobody = msgspec.structs.replace(view, generation=5, policies=(Policy(),))
        assert b.sidecar.apply(nobody) == 1
        assert await is_cut(streams)
        assert b.sidecar.view is nobody
        assert b.sidecar.config.inbound[0].allow == ()
        with pytest.raises(RequestError, match=r"^wanted a view newer than generation 5, got 5$"):
            b.sidecar.apply(msgspec.structs.replace(view, generation=5))
        with pytest.raises(RequestError, match=r"^wanted the trust of the view in use: another needs a restart$"):
            b.sidecar.apply(msgspec.structs.replace(view, generation=6, trust=parse_address("unix:///other.sock")))
        assert b.sidecar.apply(msgspec.structs.replace(view, generation=6)) == 0
        async with connected(a.outbound) as again:
            assert await echoed(again) == b"ping"


async def test_a_sidecar_that_drains_takes_no_new_configuration_and_binds_nothing() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a, connected(a.outbound) as streams:
        assert await echoed(streams) == b"ping"
        draining = asyncio.create_task(b.sidecar.drain(60))
        await until(lambda: refuses(b.inbound))
        place = Address("127.0.0.1", free_ports(1)[0])
        added = InboundConfig(listen=place, app=app.address, allow=(A,))
        inbound = (*b.sidecar.config.inbound, added)
        with pytest.raises(ConfigError, match=r"^b: no new configuration is taken: it is draining$"):
            b.sidecar.reload(msgspec.structs.replace(b.sidecar.config, inbound=inbound))
        assert refuses(place)
        assert await echoed(streams) == b"ping"
        streams[1].close()
        await draining
