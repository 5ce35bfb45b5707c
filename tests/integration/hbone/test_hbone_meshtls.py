"""The HBONE matrix between two of our sidecars, which cover both roles at once. See ``matrix``."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshtls.sidecar.settings import Limits
from tests.integration.hbone.matrix import PLAYS, SIZES, World, an_app
from tests.integration.sidecar.mesh import side_a, side_b

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    limits = Limits(drain=0.1, handshake_timeout=60, connect_timeout=60)
    async with (
        an_app() as app,
        side_b(app.address, tunnel=True, limits=limits) as b,
        side_a(b.inbound, tunnel=True, limits=limits) as a,
    ):

        def drain() -> None:
            for server in list(b.sidecar.listeners.inbound[0].handler.tunnels.live):
                server.drain()

        yield World(a.outbound, app, (a, b), tell_to_go=drain)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("play", PLAYS)
async def test_every_byte_arrives(world: World, play: str, size: int) -> None:
    await PLAYS[play](world, size)
