"""Envoy and our sidecar as peers, with identities from one agent: by SDS and by the Workload API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.observe.events import ConnectionResult, Outcome
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, Limits, OutboundConfig, SidecarConfig
from meshtls.spiffeid import SpiffeId
from meshtls.workload.x509_source import X509Source
from tests.integration.agent.test_sds_envoy import APP, ENVOY, HELLO, Line, echo, mesh_at, plain, refused
from tests.support.agent import Mesh, short_directory
from tests.support.envoy import Door, running_envoy

FREE = Address("127.0.0.1", 0)
Results = asyncio.Queue[ConnectionResult]


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@asynccontextmanager
async def app() -> AsyncIterator[int]:
    """The port of a plaintext app that echoes lines."""
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def our_sidecar(source: X509Source, results: Results, **doors: object) -> AsyncIterator[Sidecar]:
    limits = Limits(handshake_timeout=60, connect_timeout=60)
    config = SidecarConfig(name="ours", spiffe_id=SpiffeId.parse(APP), limits=limits, **doors)  # type: ignore[arg-type]  # by name
    async with Sidecar(config, source, on_result=results.put_nowait) as sidecar:
        yield sidecar


async def rotated(mesh: Mesh, source: X509Source) -> None:
    before = source.snapshot().generation
    mesh.clock.advance(1801)
    await source.changed(before)


async def to_ours(sidecar: Sidecar) -> Line:
    address = sidecar.outbound[0].address
    return Line(*await asyncio.open_connection(address.host, address.port))


async def test_our_sidecar_reaches_an_app_behind_envoy_also_after_a_rotation(directory: Path) -> None:
    results = Results()
    async with app() as port, mesh_at(directory) as mesh, X509Source(mesh.agent.address) as source:
        socket = mesh.agent.endpoint.socket_path
        async with running_envoy(directory, socket, [Door("in", port, "in", (APP,))]) as envoy:
            to = Address("127.0.0.1", await envoy.port("in"))
            outbound = (OutboundConfig(listen=FREE, to=to, peer=SpiffeId.parse(ENVOY)),)
            async with our_sidecar(source, results, outbound=outbound) as sidecar:
                old = await to_ours(sidecar)
                assert await old.echoed() == HELLO
                await rotated(mesh, source)
                new = await to_ours(sidecar)
                assert (await new.echoed(), await old.echoed()) == (HELLO, HELLO)
                for line in (new, old):
                    await line.close()
                ended = [await results.get() for _ in range(2)]
    assert {str(result.destination_id) for result in ended} == {ENVOY}
    assert len({result.local_serial for result in ended}) == 2


async def test_our_sidecar_refuses_an_envoy_of_another_id(directory: Path) -> None:
    results = Results()
    async with app() as port, mesh_at(directory) as mesh, X509Source(mesh.agent.address) as source:
        socket = mesh.agent.endpoint.socket_path
        async with running_envoy(directory, socket, [Door("in", port, "in", (APP,))]) as envoy:
            to = Address("127.0.0.1", await envoy.port("in"))
            outbound = (OutboundConfig(listen=FREE, to=to, peer=SpiffeId.parse("spiffe://example.org/db")),)
            async with our_sidecar(source, results, outbound=outbound) as sidecar:
                assert await refused(await to_ours(sidecar))
                assert (await results.get()).outcome is Outcome.POLICY_DENIED


@pytest.mark.parametrize(("allowed", "outcome"), [(ENVOY, Outcome.OK), ("spiffe://example.org/db", None)])
async def test_envoy_reaches_an_app_behind_our_sidecar_where_it_is_allowed(
    directory: Path, allowed: str, outcome: Outcome | None
) -> None:
    results = Results()
    async with app() as port, mesh_at(directory) as mesh, X509Source(mesh.agent.address) as source:
        inbound = (InboundConfig(listen=FREE, app=Address("127.0.0.1", port), allow=(SpiffeId.parse(allowed),)),)
        async with our_sidecar(source, results, inbound=inbound) as sidecar:
            door = Door("out", sidecar.inbound[0].address.port, "out", (APP,))
            async with running_envoy(directory, mesh.agent.endpoint.socket_path, [door]) as envoy:
                if outcome is None:
                    assert await refused(await plain(envoy, "out"))
                    assert (await results.get()).outcome is Outcome.POLICY_DENIED
                    return
                old = await plain(envoy, "out")
                assert await old.echoed() == HELLO
                await rotated(mesh, source)
                new = await plain(envoy, "out")
                assert (await new.echoed(), await old.echoed()) == (HELLO, HELLO)
                for line in (new, old):
                    await line.close()
                ended = [await results.get() for _ in range(2)]
    assert {str(result.source_id) for result in ended} == {ENVOY}
    assert len({result.local_serial for result in ended}) == 2
