"""A server with many entries: its start, its memory, one agent's sync, and one change with few and with many agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path

from bench.certificates import TRUST_DOMAIN
from bench.clocks import cpu_seconds, pss_kib, settled_cpu_seconds
from bench.identity.figures import Figure, Progress, Scale, UnmeasuredError, latencies
from bench.identity.site import Place, RunningServer, entry, id_at, opened_server
from bench.identity.waiting import within
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import MeshtlsError
from meshtls.identity.request import new_key, request_for
from meshtls.registration import Entry, EntryFilter
from meshtls.server.config import load_config
from meshtls.server.startup import opened_database
from meshtls.server.store import entries
from meshtls.serverapi.channels import attest_channel, mutual_channel
from meshtls.serverapi.node import AttestationClient, NodeClient
from meshtls.serverapi.values import SyncUpdate
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.svid.x509 import X509Svid

__all__ = ["measure_registry"]

_OF_A_NODE = 100
_BATCH = 5000
_PATIENCE_S = 60.0


class _Listener:
    """An attested agent of one node with its sync open."""

    def __init__(self, node: int, client: NodeClient) -> None:
        self.node = node
        self.client = client
        self.updates: AsyncGenerator[SyncUpdate] = client.sync()

    async def first(self) -> tuple[Entry, ...]:
        """All entries that the agent may serve."""
        return (await self._next()).entries

    async def hears(self, key: str) -> None:
        """Wait for the update with this entry."""
        while all(one.id != key for one in (await self._next()).entries):
            pass

    async def _next(self) -> SyncUpdate:
        async with within(_PATIENCE_S, f"an update of the sync of node {self.node}"):
            return await anext(self.updates)


async def measure_registry(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    """The same on a store of each size; a figure that grows from one to the next depends on the entries."""
    figures: list[Figure] = []
    for count in scale.entries:
        place = Place.make(directory / f"registry-{count}")
        seconds = await _fill(place, count)
        progress(f"{count:,} entries put into SQLite in {seconds:.1f} s")
        async with opened_server(place) as server:
            progress(f"{count:,} entries: server answers after {server.seconds:.2f} s")
            figures += await _measure(server, count, scale, progress)
    return figures


async def _fill(place: Place, count: int) -> float:
    began = time.perf_counter()
    config = load_config(place.config())
    config.data_dir.mkdir(mode=0o700)
    waiting = _entries(count)
    async with opened_database(config) as database:
        while batch := list(islice(waiting, _BATCH)):
            async with database.write() as tx:
                await entries.insert_entries(tx, batch)
    return time.perf_counter() - began


def _entries(count: int) -> Iterator[Entry]:
    for number in range(count):
        node, place = divmod(number, _OF_A_NODE)
        yield entry(f"/node-{node}/workload-{place}", id_at(f"/node/{node}"), f"unix:uid:{10_000 + place}")


async def _measure(server: RunningServer, count: int, scale: Scale, progress: Progress) -> list[Figure]:
    part = f"server, {count:,} entries"
    await asyncio.to_thread(settled_cpu_seconds, [server.pid])
    memory = pss_kib([server.pid])
    figures = [
        Figure(part, "start-up", server.seconds, "s", "from the process's start to its first answer"),
        Figure(part, "start-up, CPU", server.cpu_seconds, "s"),
        Figure(part, "memory", memory / 1024, "MiB PSS"),
    ]
    bundle = await server.admin.bundle()
    nodes = min(scale.listeners, count // _OF_A_NODE)
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(_listening(server, 0, bundle))
        figures += await _first_sync(part, server, listener)
        figures += await _signing(part, server, listener, scale)
        figures += await _changes(part, server, listener, 1, scale)
        for node in range(1, nodes):
            other = await stack.enter_async_context(_listening(server, node, bundle))
            await other.first()
        figures += await _changes(part, server, listener, nodes, scale)
    progress(f"{count:,} entries: {nodes} agents' syncs and {2 * scale.changes} changes done")
    return figures


@asynccontextmanager
async def _listening(server: RunningServer, node: int, bundle: TrustBundle) -> AsyncGenerator[_Listener]:
    token = await server.admin.create_join_token(spiffe_id=id_at(f"/node/{node}"))
    key = new_key()
    anonymous = attest_channel("127.0.0.1", server.place.attest_port, bundle)
    try:
        attested = await AttestationClient(anonymous).with_token(token.token, request_for(key))
    finally:
        anonymous.close()
    svid = X509Svid.from_chain(attested.chain, key)
    source = ConstantSource(X509Context(1, (svid,), BundleSet([attested.bundle])))
    channel = mutual_channel("127.0.0.1", server.place.port, source, TRUST_DOMAIN)
    listener = _Listener(node, NodeClient(channel))
    try:
        await listener.client.bundle()  # connects, so that only the next call is measured
        yield listener
    finally:
        await listener.updates.aclose()
        channel.close()


async def _first_sync(part: str, server: RunningServer, listener: _Listener) -> list[Figure]:
    before, began = await _rested_cpu(server), time.perf_counter()
    told = await listener.first()
    seconds = time.perf_counter() - began
    spent = await _rested_cpu(server) - before
    if len(told) < _OF_A_NODE:
        raise UnmeasuredError(f"wanted the {_OF_A_NODE} entries of the node, got {len(told)}")
    return [
        Figure(part, f"an agent's first sync of {len(told)} entries", 1000 * seconds, "ms"),
        Figure(part, "the same, server's CPU", 1000 * spent, "ms"),
    ]


async def _signing(part: str, server: RunningServer, listener: _Listener, scale: Scale) -> list[Figure]:
    own = EntryFilter(parent_id=id_at(f"/node/{listener.node}"))
    requests = [(one.id, request_for(new_key())) async for one in server.admin.entries(own)]
    before, signed = cpu_seconds([server.pid]), 0
    for _ in range(max(1, scale.changes // 10)):
        answers = await listener.client.sign_x509(requests)
        signed += len(answers)
        for refusal in (answer for answer in answers if isinstance(answer, MeshtlsError)):
            raise refusal
    spent = await _rested_cpu(server) - before
    return [Figure(part, "an SVID over the API, server's CPU", 1e6 * spent / signed, "µs", "signed and on record")]


async def _changes(part: str, server: RunningServer, listener: _Listener, listening: int, scale: Scale) -> list[Figure]:
    seconds = []
    before = await _rested_cpu(server)
    for number in range(scale.changes):
        wanted = entry(f"/changed-{listening}/{number}", id_at(f"/node/{listener.node}"))
        began = time.perf_counter()
        [made] = await server.admin.create_entries([wanted])
        await listener.hears(made.id)
        seconds.append(time.perf_counter() - began)
    spent = await _rested_cpu(server) - before
    name = f"a change, {listening} agent{'s' if listening > 1 else ''} listening"
    return [
        *latencies(part, name, seconds, "from the call to the agent")[:1],
        Figure(part, f"{name}, server's CPU", 1000 * spent / scale.changes, "ms"),
    ]


async def _rested_cpu(server: RunningServer) -> float:
    return await asyncio.to_thread(settled_cpu_seconds, [server.pid])
