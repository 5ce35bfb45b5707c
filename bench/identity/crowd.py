"""An agent with many workloads: its memory, and the time until every workload has its next SVID."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.clocks import cpu_seconds, pss_kib, settled_cpu_seconds
from bench.identity.figures import Figure, Progress, Scale, UnmeasuredError
from bench.identity.site import allow_descriptors, last_line
from bench.identity.waiting import within
from bench.processes import started
from meshtls.workload.x509_source import X509Source

__all__ = ["measure_crowd"]

_AT_ONCE = 50
_PATIENCE_S = 120.0
# Two for each connection of the agent, and some for itself.
_DESCRIPTORS = 4096


async def measure_crowd(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    """Memory without workloads, with an SVID for each, with a stream for each; then all are rotated at once."""
    allow_descriptors(_DESCRIPTORS)
    path, log, count = directory / "crowd.sock", directory / "crowd.out", scale.workloads
    part = f"agent, {count:,} workloads"
    with started([sys.executable, "-m", "bench.identity.crowd_agent", str(path)], log, piped=True) as agent:
        await _heard(agent, log)
        empty = await _settled_pss(agent)
        signed_in = await _ask(agent, log, f"fill {count}")
        filled = await _settled_pss(agent)
        progress(f"{count:,} SVIDs signed in {signed_in:.2f} s")
        async with _sources(f"unix://{path}", count) as sources:
            streaming = await _settled_pss(agent)
            progress(f"{count:,} streams open")
            seconds, spent = await _rotate(agent, log, sources)
            progress(f"{count:,} workloads rotated in {seconds:.2f} s")
    return [
        Figure(part, "memory, empty", empty / 1024, "MiB PSS", "embedded CA in the process"),
        Figure(part, "memory, all SVIDs held", filled / 1024, "MiB PSS"),
        Figure(part, "memory, all streams open", streaming / 1024, "MiB PSS"),
        Figure(part, "memory of one workload", (streaming - empty) / count, "KiB PSS", "SVID, connection and stream"),
        Figure(part, "all signed at the start", signed_in, "s", "keys, CSRs, leaves and their checks"),
        Figure(part, "all rotated", seconds, "s", "until the last workload has its next SVID"),
        Figure(part, "all rotated, agent's CPU", spent, "s"),
    ]


@asynccontextmanager
async def _sources(address: str, count: int) -> AsyncIterator[list[X509Source]]:
    sources = [X509Source(address) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for start in range(0, count, _AT_ONCE):
            batch = sources[start : start + _AT_ONCE]
            await asyncio.gather(*(stack.enter_async_context(source) for source in batch))
        yield sources


async def _rotate(agent: subprocess.Popen[str], log: Path, sources: list[X509Source]) -> tuple[float, float]:
    contexts = [source.snapshot() for source in sources]
    if len({context.svid.spiffe_id for context in contexts}) != len(sources):
        raise UnmeasuredError("wanted a SPIFFE ID of its own for each workload")
    before, began = cpu_seconds([agent.pid]), time.perf_counter()
    await _ask(agent, log, "rotate")
    pairs = zip(sources, contexts, strict=True)
    async with within(_PATIENCE_S, f"the next SVIDs of {len(sources):,} workloads"):
        later = await asyncio.gather(*(source.changed(context.generation) for source, context in pairs))
    seconds = time.perf_counter() - began
    if any(new.svid.serial == old.svid.serial for new, old in zip(later, contexts, strict=True)):
        raise UnmeasuredError("a workload got an update and still has its old SVID")
    return seconds, cpu_seconds([agent.pid]) - before


async def _ask(agent: subprocess.Popen[str], log: Path, line: str) -> float:
    if agent.stdin is not None:
        agent.stdin.write(f"{line}\n")
        agent.stdin.flush()
    return await _heard(agent, log)


async def _heard(agent: subprocess.Popen[str], log: Path) -> float:
    async with within(_PATIENCE_S, "an answer of the agent"):
        line = await asyncio.to_thread(agent.stdout.readline) if agent.stdout is not None else ""
    if not line:
        raise UnmeasuredError(f"the agent ended: {last_line(log)}")
    return float(json.loads(line)["seconds"])


async def _settled_pss(agent: subprocess.Popen[str]) -> int:
    await asyncio.to_thread(settled_cpu_seconds, [agent.pid])
    return pss_kib([agent.pid])
