"""Iterates over rounds, workloads and peers, and records every measurement or its error."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.certificates import make_certs
from bench.load import Generator, LoadError
from bench.pair import pair_of
from bench.peers.base import Certs, Peer
from bench.report import Cell, PeerInfo, Report, WorkloadInfo, summarize, this_machine
from bench.workloads import Scale, Workload

__all__ = ["Progress", "measure_all"]

Progress = Callable[[Cell], None]


def measure_all(
    peers: Sequence[Peer],
    workloads: Sequence[Workload],
    scale: Scale,
    *,
    rounds: int,
    progress: Progress,
    infos: Sequence[PeerInfo],
    in_python: bool = False,
) -> Report:
    """Measure each peer in each workload ``rounds`` times; every measurement starts a new pair."""
    machine, started = this_machine(), datetime.now(UTC).isoformat(timespec="seconds")
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory(prefix="meshtls-bench-") as name:
        directory = Path(name)
        generator = Generator.in_python(directory) if in_python else Generator.build(directory)
        certs = make_certs(directory)
        for number, workload, peer in _interleaved(peers, workloads, rounds):
            cell = _measure(peer, workload, number, scale, certs, generator)
            progress(cell)
            cells.append(cell)
    return Report(
        started=started,
        machine=machine,
        generator=generator.name,
        scale=scale,
        peers=list(infos),
        workloads=[WorkloadInfo(workload.name, workload.title, workload.unit) for workload in workloads],
        cells=cells,
        summary=summarize(cells),
    )


def _interleaved(
    peers: Sequence[Peer], workloads: Sequence[Workload], rounds: int
) -> Iterator[tuple[int, Workload, Peer]]:
    # So other load affects all peers alike, and no peer is always the first.
    for number in range(rounds):
        first = number % len(peers)
        for workload in workloads:
            for peer in (*peers[first:], *peers[:first]):
                if peer.supports(workload.setup):
                    yield number, workload, peer


def _measure(peer: Peer, workload: Workload, number: int, scale: Scale, certs: Certs, generator: Generator) -> Cell:
    with tempfile.TemporaryDirectory(prefix="meshtls-bench-pair-") as name:
        try:
            with pair_of(peer, workload.setup, certs, generator, Path(name)) as pair:
                measured = workload.measure(pair, generator, scale)
        except LoadError as error:
            return Cell(peer.name, workload.name, number, error=str(error))
    load = measured.load
    return Cell(peer.name, workload.name, number, measured.value, load.p50_ms, load.p99_ms, load.seconds, load.units)
