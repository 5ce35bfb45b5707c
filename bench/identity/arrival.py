"""From the call that makes an entry to the SVID in a workload's hands, in real time."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.certificates import TRUST_DOMAIN
from bench.identity.figures import Figure, Progress, Scale, latencies
from bench.identity.site import Place, agent_of, entry, opened_server
from meshtls.agent.embedded import EmbeddedUpstream
from meshtls.agent.service import Agent, Endpoint
from meshtls.ca.authority import Authority
from meshtls.clock import SystemClock
from meshtls.registration import Entry, agent_id
from meshtls.spiffeid import SpiffeId
from meshtls.workload.x509_source import X509Source

__all__ = ["measure_embedded_arrival", "measure_server_arrival", "until"]

_PART = "arrival"

Create = Callable[[Entry], Awaitable[str]]
Delete = Callable[[str], Awaitable[None]]


async def measure_embedded_arrival(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    """CA, agent and workload in this process; the Workload API's socket is between the last two."""
    clock, parent = SystemClock(), agent_id(TRUST_DOMAIN, "join_token", "bench")
    upstream = EmbeddedUpstream(Authority.create(TRUST_DOMAIN, clock), clock, [entry("/first", parent)])

    async def create(wanted: Entry) -> str:
        return upstream.put_entry(wanted).id

    async def delete(key: str) -> None:
        upstream.remove_entry(key)

    async with Agent(Endpoint(directory / "agent.sock"), upstream, clock) as agent:
        await agent.ready()
        async with X509Source(agent.address) as source:
            seconds = await _arrivals(source, parent, create, delete, scale.arrivals)
    progress(f"embedded CA: {len(seconds)} arrivals")
    return latencies(_PART, "entry to workload, embedded CA", seconds)


async def measure_server_arrival(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    """Server, agent and workload in separate processes; the server's store is SQLite."""
    async with opened_server(Place.make(directory / "arrival")) as server:
        token = await server.admin.create_join_token()

        async def create(wanted: Entry) -> str:
            return (await server.admin.create_entries([wanted]))[0].id

        async def delete(key: str) -> None:
            await server.admin.delete_entries([key])

        await create(entry("/first", token.agent_id))
        bundle = await server.admin.bundle()
        async with (
            agent_of(server, token, bundle.to_pem()) as agent,
            X509Source(agent.address) as source,
        ):
            seconds = await _arrivals(source, token.agent_id, create, delete, scale.arrivals)
    progress(f"server: {len(seconds)} arrivals")
    return latencies(_PART, "entry to workload, server and agent", seconds)


async def _arrivals(source: X509Source, parent: SpiffeId, create: Create, delete: Delete, count: int) -> list[float]:
    seconds = []
    for number in range(count):
        wanted = entry(f"/arrival/{number}", parent)
        began = time.perf_counter()
        key = await create(wanted)
        await until(source, wanted.spiffe_id, there=True)
        seconds.append(time.perf_counter() - began)
        await delete(key)
        await until(source, wanted.spiffe_id, there=False)
    return seconds


async def until(source: X509Source, spiffe_id: SpiffeId, *, there: bool) -> None:
    """Wait until the source has an SVID of this identity, or has none."""
    context = source.snapshot()
    while any(svid.spiffe_id == spiffe_id for svid in context.svids) is not there:
        context = await source.changed(context.generation)
