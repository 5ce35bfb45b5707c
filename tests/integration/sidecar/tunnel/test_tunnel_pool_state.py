"""What the next connection of an app finds in the pool of tunnels: its state, as ``repr`` shows it."""

from __future__ import annotations

import pytest

from meshtls.sidecar.tunnel.pool import PoolState, TunnelPool
from tests.integration.sidecar.mesh import B, Node, an_app, connected, echoed, side_a, side_b


def pool_of(node: Node) -> TunnelPool:
    pool = node.sidecar.listeners.outbound[0].handler.tunnels
    assert pool is not None
    return pool


@pytest.mark.parametrize(("tunnel", "state"), [(True, PoolState.OPEN), (False, PoolState.PLAIN)])
async def test_a_pool_is_empty_until_a_peer_takes_a_tunnel_or_says_that_it_takes_none(
    tunnel: bool, state: PoolState
) -> None:
    async with an_app() as app, side_b(app.address, tunnel=tunnel) as b, side_a(b.inbound, tunnel=True) as a:
        assert pool_of(a).state is PoolState.EMPTY
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            assert pool_of(a).state is state
            assert repr(pool_of(a)).startswith(f"<TunnelPool {B} {b.inbound} [{state.value}] [")


async def test_a_pool_whose_tunnels_are_drained_is_full_until_the_next_is_dialled() -> None:
    async with (
        an_app() as app,
        side_b(app.address, tunnel=True) as b,
        side_a(b.inbound, tunnel=True) as a,
        connected(a.outbound) as first,
    ):
        pool = pool_of(a)
        assert await echoed(first) == b"ping"
        pool.drain()
        assert "[full]" in repr(pool)
        async with connected(a.outbound) as second:
            assert await echoed(second) == b"ping"
            assert "[open]" in repr(pool)
