"""Ours beside a real SPIRE: from an entry to the workload, many SVIDs of one workload, and server and agent at rest."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from bench.clocks import cpu_seconds, rss_kib, settled_cpu_seconds
from bench.identity.arrival import until
from bench.identity.deployments import Deployment, meshtls_deployment, spire_deployment
from bench.identity.figures import Figure, Progress, Scale, UnmeasuredError, latencies
from bench.identity.site import id_at
from bench.identity.waiting import within
from bench.peers.spire import FAST
from meshtls.workload.x509_source import X509Source

__all__ = ["PART", "measure_beside"]

PART = "beside SPIRE"
_PATIENCE_S = 120.0
_GOLDEN = 0.618034


async def measure_beside(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    """All are up during the whole part, and are measured in turn. Raises MissingError without SPIRE."""
    figures: list[Figure] = []
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        # Ours last, so that nothing has been started where there is no SPIRE.
        spire = await opened(spire_deployment("spire", directory / "spire", None))
        fast = await opened(spire_deployment("spire, 0.5 s", directory / "spire-fast", FAST))
        ours = await opened(meshtls_deployment(directory / "beside"))
        deployments: list[tuple[Deployment, X509Source]] = []
        for deployment in (ours, spire, fast):
            await deployment.create(["/first"])
            deployments.append((deployment, await opened(X509Source(deployment.address))))
            progress(f"{deployment.name}: server, agent and a workload with its SVID")
        for deployment, source in deployments:
            figures += await _arrivals(deployment, source, scale, progress)
        figures += await _many(deployments, scale, progress)
        progress(f"all at rest for {scale.rest_seconds:g} s")
        figures += await _at_rest([one for one, _ in deployments], scale)
    return figures


async def _arrivals(deployment: Deployment, source: X509Source, scale: Scale, progress: Progress) -> list[Figure]:
    calls: list[float] = []
    seconds: list[float] = []

    async def arrival(number: int) -> None:
        path = f"/arrival/{number}"
        began = time.perf_counter()
        ids = await deployment.create([path])
        calls.append(time.perf_counter() - began)
        await until(source, id_at(path), there=True)
        seconds.append(time.perf_counter() - began)
        await deployment.delete(ids)

    count, gap = scale.beside_arrivals, scale.beside_gap
    wanted = f"{deployment.name}: {count} entries made and their SVIDs"
    try:
        async with within(_PATIENCE_S + count * gap, wanted), asyncio.TaskGroup() as group:
            for number, pause in enumerate(_pauses(count, gap)):
                await asyncio.sleep(pause)
                group.create_task(arrival(number))
    except ExceptionGroup as errors:
        raise UnmeasuredError(f"{deployment.name}: {errors.exceptions[0]}") from errors
    progress(f"{deployment.name}: {len(seconds)} arrivals, the median after {statistics.median(seconds):.3f} s")
    await _until_count(deployment, source, 1)
    return [
        *_of(deployment, latencies(PART, "entry to workload", seconds)),
        *_of(deployment, latencies(PART, "the call itself", calls)[:1]),
    ]


def _pauses(count: int, mean: float) -> Iterator[float]:
    """Half to one and a half times the mean, evenly distributed, and so independent of any interval of the server."""
    return (mean * (0.5 + number * _GOLDEN % 1) for number in range(count))


async def _many(deployments: Sequence[tuple[Deployment, X509Source]], scale: Scale, progress: Progress) -> list[Figure]:
    """All but the last round's entries are deleted."""
    count, rounds = scale.beside_svids, scale.beside_rounds
    found: dict[str, list[tuple[float, float, float]]] = {}
    for number in range(rounds):
        for deployment, source in deployments:
            before = await _settled(deployment)
            began = time.perf_counter()
            ids = await deployment.create([f"/many/{number}/{at}" for at in range(count)])
            await _until_count(deployment, source, 1 + count)
            seconds = time.perf_counter() - began
            server, agent = (now - then for now, then in zip(await _settled(deployment), before, strict=True))
            found.setdefault(deployment.name, []).append((seconds, server, agent))
            progress(
                f"[{number + 1}/{rounds}] {deployment.name}: {count} SVIDs after {seconds:.2f} s,"
                f" CPU {server:.2f} + {agent:.2f} s"
            )
            if number + 1 < rounds:
                await deployment.delete(ids)
                await _until_count(deployment, source, 1)
    title = f"{count} SVIDs for one workload"
    names = (title, f"{title}, server's CPU", f"{title}, agent's CPU")
    return [
        Figure(PART, name, statistics.median(values), "s", peer=peer)
        for peer, taken in found.items()
        for name, values in zip(names, zip(*taken, strict=True), strict=True)
    ]


async def _at_rest(deployments: Sequence[Deployment], scale: Scale) -> list[Figure]:
    """With all SVIDs of the last round, and the workload's stream open."""
    for deployment in deployments:
        await _settled(deployment)
    began, before = time.perf_counter(), [_spent(one) for one in deployments]
    await asyncio.sleep(scale.rest_seconds)
    seconds = time.perf_counter() - began
    shares = [
        [1000 * (now - then) / seconds for now, then in zip(_spent(one), was, strict=True)]
        for one, was in zip(deployments, before, strict=True)
    ]
    figures = []
    for deployment, cpu in zip(deployments, shares, strict=True):
        pids = {"server": deployment.server_pid, "agent": deployment.agent_pid}
        for (what, pid), milliseconds in zip(pids.items(), cpu, strict=True):
            figures += [
                Figure(PART, f"{what} at rest, CPU", milliseconds, "ms/s", peer=deployment.name),
                Figure(PART, f"{what} at rest, memory", rss_kib([pid]) / 1024, "MiB RSS", peer=deployment.name),
            ]
    return figures


async def _until_count(deployment: Deployment, source: X509Source, count: int) -> None:
    context = source.snapshot()
    async with within(_PATIENCE_S, f"{deployment.name}: {count} SVIDs of one workload"):
        while len(context.svids) != count:
            context = await source.changed(context.generation)


async def _settled(deployment: Deployment) -> list[float]:
    pids = (deployment.server_pid, deployment.agent_pid)
    return [await asyncio.to_thread(settled_cpu_seconds, [pid]) for pid in pids]


def _spent(deployment: Deployment) -> list[float]:
    return [cpu_seconds([pid]) for pid in (deployment.server_pid, deployment.agent_pid)]


def _of(deployment: Deployment, figures: Sequence[Figure]) -> list[Figure]:
    return [Figure(one.part, one.name, one.value, one.unit, one.note, deployment.name) for one in figures]
