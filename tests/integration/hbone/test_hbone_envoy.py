"""The HBONE matrix between a sidecar of ours and Envoy with its defaults, in both roles. See ``matrix``.

Envoy 1.40 has three peculiarities with any peer. It turns a reset into an end. When an app behind it half-closes, it
ends the stream in both directions (RST_STREAM after END_STREAM), so here that app ends last if both half-close. And it
drops, with a reset, the part of a response that does not fit in the windows when the app ends: so the calling sidecar
has a window as large as the largest response, and the defaults are tested with one of 16 MB.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from meshtls.address import Address
from meshtls.sidecar.settings import Limits
from meshtls.spiffeid import SpiffeId
from tests.integration.hbone.matrix import PLAYS, SIZES, World, an_app
from tests.integration.sidecar.mesh import OURS, A, B, side_a, side_b
from tests.support.authority import svid_for
from tests.support.envoy import envoy_binary, started_envoy
from tests.support.envoy_hbone import Files, HboneEntry, hbone_bootstrap

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMITS = Limits(drain=0.1, handshake_timeout=60, connect_timeout=60)
WIDE = Limits(drain=0.1, handshake_timeout=60, connect_timeout=60, tunnel_window=1 << 26)


def files_of(directory: Path, name: str, spiffe_id: SpiffeId) -> Files:
    svid = svid_for(OURS, spiffe_id)
    files = Files(*(directory / f"{name}.{kind}.pem" for kind in ("chain", "key", "roots")))
    files.key.touch(mode=0o600)
    files.key.write_bytes(svid.key_pem())
    files.chain.write_bytes(svid.chain_pem())
    files.roots.write_bytes(OURS.bundle.to_pem())
    return files


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worlds(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, World]]:
    envoy_binary()
    directory = tmp_path_factory.mktemp("envoy")
    caller, called = files_of(directory, "a", A), files_of(directory, "b", B)
    async with an_app() as app, side_b(app.address, tunnel=True, limits=LIMITS) as b:
        ours, theirs = b.inbound.port, app.address.port
        # By its address our sidecar knows itself, too.
        bootstrap = hbone_bootstrap(
            HboneEntry("calls", ours, True, caller, str(B)),
            HboneEntry("churns", ours, True, caller, str(B), requests=3),
            HboneEntry("serves", theirs, False, called, str(A)),
            HboneEntry("sends away", theirs, False, called, str(A), requests=3),
        )
        async with started_envoy(directory, bootstrap) as envoy:
            ports = {
                name: Address("127.0.0.1", await envoy.port(name))
                for name in ("calls", "churns", "serves", "sends away")
            }
            async with (
                side_a(ports["serves"], tunnel=True, limits=WIDE) as a,
                side_a(ports["serves"], tunnel=True, limits=LIMITS) as default,
                side_a(ports["sends away"], tunnel=True, limits=LIMITS) as churned,
            ):
                churned.lines._queue = a.lines._queue
                server = partial(World, app=app, reset_for_called=False, called_half_closes=False)
                yield {
                    "we call": server(a.outbound, ours=(a,), churned=churned.outbound),
                    "by default": server(default.outbound, ours=(default,)),
                    "we serve": World(ports["calls"], app, (b,), churned=ports["churns"], reset_for_caller=False),
                }


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("role", ["we call", "we serve"])
@pytest.mark.parametrize("play", PLAYS)
async def test_every_byte_arrives(worlds: dict[str, World], role: str, play: str, size: int) -> None:
    await PLAYS[play](worlds[role], size)


@pytest.mark.parametrize("play", ["server ends first", "slow reader"])
async def test_an_answer_of_the_default_window_arrives_whole(worlds: dict[str, World], play: str) -> None:
    await PLAYS[play](worlds["by default"], 16_000_000)
