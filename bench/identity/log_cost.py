"""What the transparency log and the audit trail cost: of issuing, of a million leaves, and of reading them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from sqlalchemy import insert

from bench.identity.figures import Figure, Progress, Scale, latencies
from meshtls.ca.tlog.proofs import inclusion_ranges, tiles_for
from meshtls.ca.tlog.tiles import entry_tiles
from meshtls.clock import SystemClock
from meshtls.identity.request import new_key, request_for
from meshtls.server.access import Caller, Role
from meshtls.server.config import parse_config
from meshtls.server.core import Core
from meshtls.server.ledger import Ledger
from meshtls.server.log_resources import resource
from meshtls.server.operations.svids import mint_x509
from meshtls.server.startup import opened_core
from meshtls.server.store import schema
from meshtls.server.store.issuances import _row
from meshtls.spiffeid import SpiffeId

__all__ = ["measure_log_cost"]

_PART = "log and audit"
_ADMIN = Caller(Role.ADMIN, "uid 0", credential="the admin socket")
_BATCH = 1000
_TOGETHER = 32


async def measure_log_cost(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    """Issuing with and without log and audit, in turns; then a large log."""
    with TemporaryDirectory(dir=directory) as name:
        text = f"trust_domain: bench.test\nbind_port: 0\ndata_dir: {name}/server\n"
        async with opened_core(parse_config("bench", text), SystemClock()) as (core, _):
            figures = [*await _issuing(core, scale, progress, 1), *await _issuing(core, scale, progress, _TOGETHER)]
            return [*figures, *await _large(core, scale, progress)]


async def _issuing(core: Core, scale: Scale, progress: Progress, together: int) -> list[Figure]:
    web = SpiffeId(core.hub.trust_domain, "/web")
    requests = [request_for(new_key()) for _ in range(together)]

    async def mint() -> None:
        await asyncio.gather(*(mint_x509(core, _ADMIN, web, csr) for csr in requests))

    count = max(1, scale.mint_batch // together)
    ratios, walls, cpus = [], [], []
    for number in range(scale.mint_rounds):
        on, off = await _in_turns(count, mint)
        ratios.append((on[0] / off[0], on[1] / off[1]))
        walls.append(1000 * on[0] / count / together)
        cpus.append(1000 * on[1] / count / together)
        wall, cpu = ratios[-1]
        progress(f"[{number + 1}/{scale.mint_rounds}] {together} at once: wall {wall:.3f}, CPU {cpu:.3f} of none")
    name = f"an SVID signed and recorded, {together} at once"
    return [
        Figure(_PART, f"{name}, wall", statistics.median(walls), "ms"),
        Figure(_PART, f"{name}, CPU", statistics.median(cpus), "ms"),
        Figure(_PART, f"{name}, wall against none", statistics.median(wall for wall, _ in ratios), "x"),
        Figure(_PART, f"{name}, CPU against none", statistics.median(cpu for _, cpu in ratios), "x"),
    ]


async def _in_turns(count: int, mint: Callable[[], Awaitable[None]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds of wall clock and of CPU with log and audit, and without both, in turns."""
    spent = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for turn in range(2 * count):
        with_log = turn % 2 == 0
        wall, cpu = time.perf_counter(), time.process_time()
        if with_log:
            await mint()
        else:
            with mock.patch.object(Ledger, "commit", _record_only):
                await mint()
        spent[with_log][0] += time.perf_counter() - wall
        spent[with_log][1] += time.process_time() - cpu
    return (spent[True][0], spent[True][1]), (spent[False][0], spent[False][1])


async def _record_only(ledger: Any, _act: object, issued: Sequence[Any]) -> None:
    """A transaction for each call, with nothing but the record of issuances, as SQLAlchemy inserts it."""
    rows = [_row(one.record) for one in issued]
    async with ledger._database.write() as tx:
        await tx.execute(insert(schema.issuances), rows)


async def _large(core: Core, scale: Scale, progress: Progress) -> list[Figure]:
    entry = (
        b'{"kind":"x509-svid","spiffe_id":"spiffe://bench.test/ns/some/sa/workload","serial":"%032x","digest":"%064x"}'
    )
    appending = []
    for start in range(0, scale.log_leaves, _BATCH):
        began = time.perf_counter()
        async with core.database.write() as tx:
            await core.log.append(tx, [entry % (start + at, start + at) for at in range(_BATCH)])
        appending.append(time.perf_counter() - began)
        if start % (scale.log_leaves // 10) == 0:
            progress(f"{start:,} leaves")
    signing, proving, tails, single = [], [], [], []
    for number in range(50):
        async with core.database.write() as tx:
            began = time.perf_counter()
            await core.log.append(tx, [entry % (number, number)])
            single.append(time.perf_counter() - began)
        began = time.perf_counter()
        checkpoint = await core.log.publish()
        signing.append(time.perf_counter() - began)
        began = time.perf_counter()
        ranges = inclusion_ranges(number * (checkpoint.size // 50), checkpoint.size)
        for tile in tiles_for(ranges, checkpoint.size):
            await resource(core, tile.path)
        proving.append(time.perf_counter() - began)
        began = time.perf_counter()
        newest = next(entry_tiles(checkpoint.size - 1, checkpoint.size))
        await resource(core, newest.path)
        tails.append(time.perf_counter() - began)
    size = f"{scale.log_leaves:,} leaves"
    return [
        *latencies(_PART, f"{_BATCH} appended and committed, to {size}", appending),
        *latencies(_PART, f"one appended to {size}, without the commit", single),
        *latencies(_PART, f"checkpoint of {size}", signing, "with its consistency proof"),
        *latencies(_PART, f"the tiles of an inclusion proof in {size}", proving),
        *latencies(_PART, f"the newest entries of {size}", tails),
    ]
