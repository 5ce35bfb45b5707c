"""The eight workloads, each with its unit, its setup and its measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from bench.clocks import pss_kib, settled_cpu_seconds
from bench.load import Generator, Job, LoadResult
from bench.pair import Pair
from bench.peers.base import Setup, Side

__all__ = ["FULL", "QUICK", "WORKLOADS", "Measurement", "Scale", "Workload"]

_MESSAGE_BYTES = 64
_HANDSHAKE_CONCURRENCY = 8
_BULK_BESIDE = 4
_LIMIT_S = 60.0


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The scale of each workload, for one measurement of one peer."""

    bulk_bytes: int
    connections: int
    messages: int
    idle: int
    beside_seconds: float


FULL = Scale(bulk_bytes=1_000_000_000, connections=1000, messages=60_000, idle=3000, beside_seconds=4.0)
QUICK = Scale(bulk_bytes=160_000_000, connections=150, messages=8_000, idle=400, beside_seconds=0.7)


@dataclass(frozen=True, slots=True)
class Measurement:
    """``value`` is in the workload's unit, and lower is better; latencies are of connections or round trips."""

    value: float
    load: LoadResult


@dataclass(frozen=True, slots=True)
class Workload:
    """``measure`` takes a warm pair of ``setup``."""

    name: str
    title: str
    unit: str
    setup: Setup
    measure: Callable[[Pair, Generator, Scale], Measurement]


def _cpu(
    job: Callable[[Scale], Job], cost: Callable[[float, LoadResult], float]
) -> Callable[[Pair, Generator, Scale], Measurement]:
    def measure(pair: Pair, generator: Generator, scale: Scale) -> Measurement:
        with generator.open(job(scale), pair.entry) as load:
            before = settled_cpu_seconds(pair.pids)
            result = load.go()
            spent = settled_cpu_seconds(pair.pids) - before
        return Measurement(cost(spent, result), result)

    return measure


def _idle(pair: Pair, generator: Generator, scale: Scale) -> Measurement:
    settled_cpu_seconds(pair.pids)
    before = pss_kib(pair.pids)
    with generator.open(Job("idle", scale.idle), pair.entry) as load:
        settled_cpu_seconds(pair.pids)
        grown = pss_kib(pair.pids) - before
        result = load.go()
    return Measurement(grown / result.units / len(Side), result)


def _beside(pair: Pair, generator: Generator, scale: Scale) -> Measurement:
    ping = Job("pingpong", 1, 1_000_000, (_MESSAGE_BYTES, scale.beside_seconds))
    with (
        generator.open(Job("bulk", _BULK_BESIDE, None, (0,)), pair.entry) as bulk,
        generator.open(ping, pair.entry) as small,
    ):
        bulk.begin()
        result = small.go()
    return Measurement(result.p50_ms or 0.0, result)


def _bulk(streams: int) -> Callable[[Scale], Job]:
    return lambda scale: Job("bulk", streams, None, (scale.bulk_bytes // streams,))


def _connect(scale: Scale) -> Job:
    return Job("connect", _HANDSHAKE_CONCURRENCY, scale.connections)


def _pingpong(scale: Scale) -> Job:
    return Job("pingpong", 64, scale.messages, (_MESSAGE_BYTES, _LIMIT_S))


def _per_gb(spent: float, result: LoadResult) -> float:
    return spent / (result.bytes / 1e9)


def _per_unit(scale: float) -> Callable[[float, LoadResult], float]:
    return lambda spent, result: spent * scale / result.units


_CONNECTION_COST = _cpu(_connect, _per_unit(1e3))

WORKLOADS = (
    Workload("bulk-1", "bulk, 1 stream", "CPU-s/GB", Setup.FULL, _cpu(_bulk(1), _per_gb)),
    Workload("bulk-8", "bulk, 8 streams", "CPU-s/GB", Setup.FULL, _cpu(_bulk(8), _per_gb)),
    Workload("handshake", "new connection, full handshake", "CPU-ms", Setup.FULL, _CONNECTION_COST),
    Workload("resumed", "new connection, resumed", "CPU-ms", Setup.RESUMED, _CONNECTION_COST),
    Workload("tunnel", "new connection through a tunnel", "CPU-ms", Setup.TUNNEL, _CONNECTION_COST),
    Workload("pingpong", "ping-pong, 64 connections", "CPU-µs", Setup.FULL, _cpu(_pingpong, _per_unit(1e6))),
    Workload("idle", "memory of an idle connection", "KiB PSS a side", Setup.FULL, _idle),
    Workload("beside", "ping-pong beside 4 bulk streams", "ms p50", Setup.FULL, _beside),
)
