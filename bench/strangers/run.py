"""Iterates over rounds, strangers and peers: first the cost of strangers, then the waits of others beside them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import msgspec

from bench.certificates import make_certs
from bench.identity.figures import UnmeasuredError
from bench.load import Generator, LoadError
from bench.pair import logged
from bench.peers.base import Certs, Side
from bench.report import PeerInfo, this_machine
from bench.strangers.attacks import Attack, Ended, Stranger, foreign_certificates
from bench.strangers.costs import costs_of
from bench.strangers.figures import Cell, Scale, StrangerInfo, StrangersReport, summarize
from bench.strangers.friend import FriendError, FriendProcess, friend_of
from bench.strangers.targets import Contender, Ground, Listener, Opener
from bench.strangers.worst import chain_named, dearest_at_first, dearest_sustained
from meshtls.errors import MeshtlsError

__all__ = ["Progress", "measure_all"]

Progress = Callable[[str], None]
_LIMIT_S = 300.0
_WARM = 4


class ServedError(Exception):
    """A stranger was not refused, or a friendly client not served: the figures would be meaningless."""


_FAILURES = (ServedError, FriendError, LoadError, UnmeasuredError, MeshtlsError, OSError, ValueError, EOFError)


@dataclass(frozen=True, slots=True)
class _Bench:
    """Shared by all measurements of a run."""

    scale: Scale
    certs: Certs
    foreign: Certs
    generator: Generator
    progress: Progress
    sources: Iterator[int]

    @asynccontextmanager
    async def opened(self, opener: Opener) -> AsyncIterator[tuple[Attack, FriendProcess]]:
        """A listener that serves a friendly client, and strangers with an address that was not used before."""
        with tempfile.TemporaryDirectory(prefix="meshtls-bench-") as name:
            directory = Path(name)
            try:
                async with opener(Ground(directory, self.certs, self.generator)) as target:
                    with friend_of(target.friend, directory / "friend.out") as friend:
                        await friend.line()
                        yield Attack(target, self.scale, self.foreign.sides[Side.CLIENT], self._source()), friend
            except _FAILURES as error:
                raise ServedError(f"{str(error) or type(error).__name__}\n{logged(directory)}".strip()) from error

    @asynccontextmanager
    async def opened_for_chains(self, opener: Opener) -> AsyncIterator[Attack]:
        async with self.opened(opener) as (attack, _):
            yield attack

    def _source(self) -> str:
        # Not the friendly client's address, since a server may have limits per address; new for each case, since
        # thousands of connections would exhaust the ports.
        number = next(self.sources)
        return f"127.0.{1 + number // 250 % 250}.{2 + number % 250}"


async def measure_all(
    contenders: Sequence[Contender],
    strangers: Sequence[Stranger],
    scale: Scale,
    *,
    rounds: int,
    progress: Progress,
    infos: Sequence[PeerInfo],
) -> StrangersReport:
    """Measure each stranger at each peer with such a listener; every measurement starts a new one."""
    machine, started = this_machine(), datetime.now(UTC).isoformat(timespec="seconds")
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory(prefix="meshtls-bench-") as name:
        directory = Path(name)
        for part in ("ours", "theirs"):
            (directory / part).mkdir()
        bench = _Bench(
            scale=scale,
            certs=make_certs(directory / "ours"),
            foreign=make_certs(directory / "theirs"),
            generator=Generator.build(directory),
            progress=progress,
            sources=count(),
        )
        chosen = await _chosen(bench, contenders, strangers)
        for number in range(rounds):
            first = number % len(contenders)
            for stranger in strangers:
                for contender in (*contenders[first:], *contenders[:first]):
                    if opener := contender.openers.get(stranger.listener):
                        chain = chosen.get((contender.name, stranger.name), "")
                        cell = await _measured(bench, contender, opener, stranger, number, chain)
                        progress(_said(cell, rounds))
                        cells.append(cell)
    return StrangersReport(
        started=started,
        machine=machine,
        scale=scale,
        peers=list(infos),
        strangers=[StrangerInfo(one.name, one.title, one.listener.value) for one in strangers],
        cells=cells,
        summary=summarize(cells),
    )


async def _chosen(
    bench: _Bench, contenders: Sequence[Contender], strangers: Sequence[Stranger]
) -> Mapping[tuple[str, str], str]:
    """The costliest chain of each peer, for each stranger that presents it."""
    found: dict[tuple[str, str], str] = {}
    for stranger in (one for one in strangers if one.chosen_chain):
        for contender in contenders:
            if opener := contender.openers.get(stranger.listener):
                name = await _dearest(bench, opener, stranger)
                bench.progress(f"{stranger.name:<20} {contender.name:<10} presents: {name}")
                found[contender.name, stranger.name] = name
    return found


async def _dearest(bench: _Bench, opener: Opener, stranger: Stranger) -> str:
    def opening() -> AbstractAsyncContextManager[Attack]:
        return bench.opened_for_chains(opener)

    if stranger.burst:
        return await dearest_at_first(opening)
    return await dearest_sustained(opening, bench.scale.sweep)


async def _measured(
    bench: _Bench, contender: Contender, opener: Opener, stranger: Stranger, number: int, chain: str
) -> Cell:
    cell = Cell(contender.name, stranger.name, number, chain=chain)
    try:
        async with asyncio.timeout(_LIMIT_S), bench.opened(opener) as (attack, friend):
            if chain:
                attack = replace(attack, chain=chain_named(chain, attack.target))
            return await _measure(cell, attack, friend, stranger)
    except _FAILURES as error:
        return msgspec.structs.replace(cell, error=str(error) or type(error).__name__)


async def _measure(cell: Cell, attack: Attack, friend: FriendProcess, stranger: Stranger) -> Cell:
    wanted = stranger.count(attack.scale)
    warm_up = foreign_certificates if stranger.listener is Listener.MTLS else stranger.storm
    _refused(await warm_up(attack, _WARM))
    async with friend.asking() as calm:
        await asyncio.sleep(0 if stranger.burst else attack.scale.calm_seconds)
    if calm.waits.failed:
        raise ServedError(f"a friendly client was not served before the strangers: {calm.waits.error}")
    async with costs_of(attack.target.pids) as costs:
        ended = _refused(await stranger.storm(attack, wanted))
    came = len(ended)
    cell = msgspec.structs.replace(
        cell,
        strangers=came,
        cut=sum(one.cut for one in ended),
        cpu_ms=1000 * costs.cpu_s / came,
        sent_bytes=sum(one.received for one in ended) / came,
        received_bytes=sum(one.sent for one in ended) / came,
        memory_kib=costs.grown_kib / came,
    )
    async with friend.asking() as after:
        await asyncio.sleep(0)
    if after.waits.failed == after.waits.calls:
        raise ServedError(f"a friendly client was not served after the strangers: {after.waits.error}")
    if stranger.burst:
        return cell
    async with friend.asking() as beside:
        until = time.monotonic() + attack.scale.beside_seconds
        while True:
            _refused(await stranger.storm(attack, wanted))
            if time.monotonic() > until:
                break
    waits = beside.waits
    if waits.failed == waits.calls:
        raise ServedError(f"no friendly client was served beside the strangers: {waits.error}")
    return msgspec.structs.replace(
        cell,
        wait_s=waits.longest_s,
        calm_wait_s=calm.waits.longest_s,
        friends=waits.calls,
        friends_failed=waits.failed,
        friend_error=waits.error,
    )


def _refused(ended: list[Ended]) -> list[Ended]:
    served = sum(one.served for one in ended)
    if served:
        raise ServedError(f"{served} of {len(ended)} strangers were served")
    return ended


def _said(cell: Cell, rounds: int) -> str:
    place = f"round {cell.round + 1} of {rounds}  {cell.stranger:<20} {cell.peer:<10}"
    if cell.error is not None or cell.cpu_ms is None:
        return f"{place} FAILED: {cell.error}"
    waited = "" if cell.wait_s is None else f", a friend waited {cell.wait_s:.2f} s at most"
    if cell.friends_failed:
        waited += f", {cell.friends_failed} of {cell.friends} failed: {cell.friend_error}"
    return f"{place} {cell.cpu_ms:.3g} CPU-ms{waited}"
