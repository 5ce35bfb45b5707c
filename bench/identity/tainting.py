"""From the command that taints an authority to the replacement of every SVID that hangs on it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench.clocks import cpu_seconds
from bench.identity.figures import Figure, Progress, Scale, UnmeasuredError
from bench.identity.site import Place, RunningServer, agent_of, entry, opened_server
from meshtls.errors import MeshtlsError
from meshtls.serverapi.values import AuthorityStatus

__all__ = ["measure_taint"]

_LOOK_S = 0.1
_SAY_S = 5.0
_PATIENCE_S = 300.0


async def measure_taint(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    """One agent with an entry for each workload; server and agent are processes, the store is SQLite."""
    count = scale.workloads
    async with opened_server(Place.make(directory / "taint")) as server:
        token = await server.admin.create_join_token()
        entries = [
            entry(f"/workload/{number}", token.agent_id, f"unix:uid:{10_000 + number}") for number in range(count)
        ]
        for start in range(0, count, 500):
            await server.admin.create_entries(entries[start : start + 500])
        async with agent_of(server, token, (await server.admin.bundle()).to_pem()):
            [old] = [one.id for one in await server.admin.authorities() if one.kind == "x509"]
            await _until(server, old, progress, at_least=count)
            progress(f"{count:,} workloads have an SVID")
            await server.admin.prepare_authority("x509")
            await _activate(server)
            before, began = cpu_seconds([server.pid]), time.perf_counter()
            await server.admin.taint_authority("x509", old)
            await _until(server, old, progress, at_most=0)
            seconds, spent = time.perf_counter() - began, cpu_seconds([server.pid]) - before
            progress(f"{count:,} replaced in {seconds:.1f} s")
    part = "taint"
    name = f"tainted to all replaced, {count:,} workloads"
    return [
        Figure(part, name, seconds, "s", "keys, CSRs, SVIDs, the record; the agent's and the server's own, too"),
        Figure(part, f"{name}, server's CPU", spent, "s"),
    ]


async def _activate(server: RunningServer) -> None:
    """As soon as the agent has confirmed the bundle."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            await server.admin.activate_authority("x509")
        except MeshtlsError:
            if time.monotonic() > deadline:
                raise
        else:
            return
        await asyncio.sleep(_LOOK_S)


async def _until(
    server: RunningServer, authority_id: str, progress: Progress, *, at_least: int = 0, at_most: int = 1 << 30
) -> None:
    """Wait until this many SVIDs in use hang on the authority."""
    deadline = time.monotonic() + _PATIENCE_S
    said = time.monotonic()
    while True:
        [status] = [one for one in await server.admin.authorities() if one.id == authority_id]
        if at_least <= _in_use(status) <= at_most:
            return
        if time.monotonic() > deadline:
            wanted = f"at least {at_least:,}" if at_least else f"at most {at_most:,}"
            got = f"{_in_use(status):,} within {_PATIENCE_S:g} s"
            raise UnmeasuredError(f"authority {authority_id}: wanted {wanted} SVIDs in use, got {got}")
        if time.monotonic() > said + _SAY_S:
            said = time.monotonic()
            progress(f"{_in_use(status):,} SVIDs in use hang on authority {authority_id}")
        await asyncio.sleep(_LOOK_S)


def _in_use(status: AuthorityStatus) -> int:
    return sum(one.count for one in status.holders)
