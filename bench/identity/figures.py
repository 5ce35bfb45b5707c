"""The results of a run: figures, each with its unit and a note for the reader. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from bench.report import Machine

__all__ = ["FULL", "QUICK", "Figure", "IdentityReport", "Progress", "Scale", "UnmeasuredError", "latencies", "quantile"]

Progress = Callable[[str], None]


class UnmeasuredError(Exception):
    """A part could not be completed."""


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the table."""

    part: str
    name: str
    value: float
    unit: str
    note: str = ""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The scale of each part.

    ``entries`` are the sizes of the server's store that are compared. ``live_connections`` are all those of the revoked
    identity, with ``sidecars``; it is revoked ``revocations`` times.
    """

    mint_rounds: int
    mint_batch: int
    mint_seconds: float
    arrivals: int
    workloads: int
    entries: tuple[int, ...]
    listeners: int
    changes: int
    log_leaves: int
    sidecars: int
    live_connections: int
    revocations: int


FULL = Scale(
    mint_rounds=20,
    mint_batch=500,
    mint_seconds=5.0,
    arrivals=300,
    workloads=1000,
    entries=(1000, 100_000),
    listeners=100,
    changes=100,
    log_leaves=1_000_000,
    sidecars=100,
    live_connections=1000,
    revocations=5,
)
QUICK = Scale(
    mint_rounds=5,
    mint_batch=100,
    mint_seconds=1.0,
    arrivals=30,
    workloads=100,
    entries=(1000, 10_000),
    listeners=20,
    changes=20,
    log_leaves=20_000,
    sidecars=10,
    live_connections=100,
    revocations=3,
)


class IdentityReport(msgspec.Struct, frozen=True):
    """The whole report, as written to JSON. ``failed`` has the error of each part without figures."""

    started: str
    machine: Machine
    scale: Scale
    figures: list[Figure]
    failed: dict[str, str]


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies: 0.5 for the median. Raises ValueError without values."""
    if not values:
        raise ValueError("wanted at least one value, got none")
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def latencies(part: str, name: str, seconds: Sequence[float], note: str = "") -> list[Figure]:
    """Median and 99th percentile of these, in ms."""
    shares = (("p50", 0.5), ("p99", 0.99))
    return [Figure(part, f"{name}, {text}", 1000 * quantile(seconds, share), "ms", note) for text, share in shares]
