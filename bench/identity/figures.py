"""The results of a run: figures, each with its unit and a note for the reader. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from bench.report import Machine

__all__ = [
    "FULL",
    "QUICK",
    "Figure",
    "IdentityReport",
    "MissingError",
    "Progress",
    "Scale",
    "UnmeasuredError",
    "latencies",
    "quantile",
]

Progress = Callable[[str], None]


class UnmeasuredError(Exception):
    """A part could not be completed."""


class MissingError(Exception):
    """A part needs something that is not installed here; says what."""


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the table. Figures of one name and several peers are one line of the comparison."""

    part: str
    name: str
    value: float
    unit: str
    note: str = ""
    peer: str = ""


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The scale of each part.

    ``entries`` are the sizes of the server's store that are compared. ``live_connections`` are all those of the revoked
    identity, with ``sidecars``; it is revoked ``revocations`` times. ``signature_seconds`` are of CPU, for each figure.

    Beside SPIRE: ``beside_arrivals`` entries, one each ``beside_gap`` seconds on average; ``beside_rounds`` times
    ``beside_svids`` entries at once; then all rest for ``rest_seconds``.
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
    signature_seconds: float
    beside_arrivals: int
    beside_gap: float
    beside_svids: int
    beside_rounds: int
    rest_seconds: float


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
    signature_seconds=3.0,
    beside_arrivals=60,
    beside_gap=1.0,
    beside_svids=500,
    beside_rounds=3,
    rest_seconds=30.0,
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
    signature_seconds=0.5,
    beside_arrivals=10,
    beside_gap=0.5,
    beside_svids=50,
    beside_rounds=1,
    rest_seconds=5.0,
)


class IdentityReport(msgspec.Struct, frozen=True):
    """The whole report, as written to JSON.

    ``failed`` has the error of each part without figures, ``missing`` what a part needs that is not installed, and
    ``versions`` those of the peers.
    """

    started: str
    machine: Machine
    scale: Scale
    figures: list[Figure]
    failed: dict[str, str]
    missing: dict[str, str]
    versions: dict[str, str]

    @property
    def compared(self) -> list[Figure]:
        """The figures that have a peer."""
        return [one for one in self.figures if one.peer]

    @property
    def peers(self) -> list[str]:
        """The peers in the order of the comparison's columns."""
        return list(dict.fromkeys(one.peer for one in self.compared))


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies: 0.5 for the median. Raises ValueError without values."""
    if not values:
        raise ValueError("wanted at least one value, got none")
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def latencies(part: str, name: str, seconds: Sequence[float], note: str = "") -> list[Figure]:
    """Median and 99th percentile of these, in ms."""
    shares = (("p50", 0.5), ("p99", 0.99))
    return [Figure(part, f"{name}, {text}", 1000 * quantile(seconds, share), "ms", note) for text, share in shares]
