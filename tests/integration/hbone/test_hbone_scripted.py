"""The HBONE matrix between a sidecar and a peer of raw frames, in both roles. See ``matrix`` and ``scripted``."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from meshtls.sidecar.settings import Limits
from tests.integration.hbone.matrix import PLAYS, SIZES, World, an_app
from tests.integration.hbone.scripted import Ways, scripted_client, scripted_server
from tests.integration.sidecar.mesh import side_a, side_b

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMITS = Limits(drain=0.1, handshake_timeout=60, connect_timeout=60)
Both = dict[str, tuple[World, Ways]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worlds() -> AsyncIterator[Both]:
    calling, serving = Ways(), Ways()
    async with (
        an_app() as app,
        scripted_server(app.address, serving) as server,
        scripted_server(app.address, Ways(streams=3)) as churning,
        side_b(app.address, tunnel=True, limits=LIMITS) as b,
        side_a(server, tunnel=True, limits=LIMITS) as a,
        side_a(churning, tunnel=True, limits=LIMITS) as churned,
        scripted_client(b.inbound, str(app.address), calling) as client,
        scripted_client(b.inbound, str(app.address), Ways(streams=3)) as leaving,
    ):
        churned.lines._queue = a.lines._queue
        yield {
            "we call": (World(a.outbound, app, (a,), churned=churned.outbound), serving),
            "we serve": (World(client.address, app, (b,), churned=leaving.address), calling),
        }


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("role", ["we call", "we serve"])
@pytest.mark.parametrize("play", PLAYS)
async def test_every_byte_arrives(worlds: Both, role: str, play: str, size: int) -> None:
    world, ways = worlds[role]
    ways.resets_with_no_error = play in ("server ends first", "slow reader")
    await PLAYS[play](world, size)
