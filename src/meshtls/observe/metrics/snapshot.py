"""The values of all metrics at one moment: what one process sends another, adds up, and renders. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from meshtls.observe.metrics.declaring import Family, Kind, Merge
from meshtls.observe.metrics.label_sets import LabelSets

__all__ = ["Samples", "Snapshot", "decode", "encode", "merge"]


class Samples(msgspec.Struct, frozen=True):
    """One family and its values by label set.

    A counter's, a gauge's and an info's are one number. A histogram's are how many values fell in each bucket, then
    above all of them, then their sum.
    """

    family: Family
    values: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...]


class Snapshot(msgspec.Struct, frozen=True):
    """All families of a program."""

    families: tuple[Samples, ...] = ()

    def lasting(self) -> Snapshot:
        """Only what a process leaves behind when it ends: its counters and histograms."""
        kinds = (Kind.COUNTER, Kind.HISTOGRAM)
        return Snapshot(tuple(one for one in self.families if one.family.kind in kinds))

    def value(self, name: str, *labels: str) -> float | None:
        """The value of the counter, gauge or info with this name and these label values; None where there is none."""
        for one in self.families:
            if one.family.name == name and one.family.kind is not Kind.HISTOGRAM:
                return next((numbers[0] for values, numbers in one.values if values == labels), None)
        return None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Snapshot)
_MERGES: dict[Merge, Callable[[float, float], float]] = {
    Merge.SUM: lambda one, other: one + other,
    Merge.MAX: max,
    Merge.MIN: min,
}


def encode(snapshot: Snapshot) -> bytes:
    return _ENCODER.encode(snapshot)


def decode(data: bytes) -> Snapshot:
    """Decode what another process of this program encoded. Raises msgspec.DecodeError."""
    return _DECODER.decode(data)


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One of several processes: counters and histograms are added, gauges as their declaration says.

    The bounds on labels hold for the whole. Of two declarations with one name and different contents, the first counts.
    """
    merged: dict[str, tuple[Family, LabelSets[list[float]]]] = {}
    for snapshot in snapshots:
        for one in snapshot.families:
            family, sets = merged.setdefault(one.family.name, (one.family, LabelSets(one.family, list)))
            if family != one.family:
                continue
            operation = _MERGES[family.merge]
            for values, numbers in one.values:
                into = sets.child(values)
                into[:] = map(operation, into, numbers) if into else numbers
    return Snapshot(
        tuple(
            Samples(family, tuple((values, tuple(numbers)) for values, numbers in sets.children.items()))
            for family, sets in merged.values()
        )
    )
