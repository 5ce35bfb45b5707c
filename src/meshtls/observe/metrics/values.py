"""The values of metrics, and ``Metrics``, which holds those of one program. Pure.

On the hot path, hold a bound child: ``requests = metrics.counter(REQUESTS).labels("inbound")`` once, then
``requests.inc()``. A child costs no lock: one operation on it is not divided between threads by CPython.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TypeVar

from meshtls.errors import MeshtlsError
from meshtls.observe.metrics.declaring import Family, Kind, Label, counter
from meshtls.observe.metrics.label_sets import LabelSets
from meshtls.observe.metrics.snapshot import Samples, Snapshot

__all__ = [
    "OVERFLOWS",
    "Count",
    "Counter",
    "Distribution",
    "Gauge",
    "Histogram",
    "Info",
    "Level",
    "Metrics",
]

OVERFLOWS = counter(
    "meshtls_metrics_other_total",
    "Lookups of label sets above the bounds of a metric, which are counted under the value other.",
    Label("metric", most=1000),
)


class Count:
    """One label set of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """``amount`` is not negative."""
        self.value += amount


class Level:
    """One label set of a gauge."""

    __slots__ = ("_read", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._read: Callable[[], float | None] | None = None

    def set(self, value: float) -> None:
        self.value = value

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        self.value -= amount

    def read_from(self, read: Callable[[], float | None]) -> None:
        """Ask ``read`` at each scrape. None, or a MeshtlsError, leaves the sample out."""
        self._read = read

    def now(self) -> float | None:
        if self._read is None:
            return self.value
        try:
            return self._read()
        except MeshtlsError:
            return None


class Distribution:
    """One label set of a histogram."""

    __slots__ = ("_buckets", "counts", "sum")

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self._buckets = buckets
        #: How many values fell in each bucket, and in the last one those above all.
        self.counts = [0] * (len(buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """``value`` is in the unit of the family, and not negative."""
        self.counts[bisect_left(self._buckets, value)] += 1
        self.sum += value


class Counter:
    """A counter's children by their labels."""

    kind = Kind.COUNTER

    def __init__(self, family: Family) -> None:
        self.family = family
        self.sets = LabelSets(family, Count)
        if not family.labels:
            self.sets.child(())

    def labels(self, *values: str) -> Count:
        """The child with these values, in the order of the declaration. Raises ValueError for another number."""
        return self.sets.child(values)

    def inc(self, amount: float = 1) -> None:
        """Add to a counter without labels."""
        self.sets.child(()).value += amount

    def samples(self) -> Samples:
        children = list(self.sets.children.items())
        return Samples(self.family, tuple((values, (child.value,)) for values, child in children))


class Gauge:
    """A gauge's children by their labels."""

    kind = Kind.GAUGE

    def __init__(self, family: Family) -> None:
        self.family = family
        self.sets = LabelSets(family, Level)

    def labels(self, *values: str) -> Level:
        """As ``Counter.labels``."""
        return self.sets.child(values)

    def set(self, value: float) -> None:
        """Set a gauge without labels."""
        self.sets.child(()).value = value

    def read_from(self, read: Callable[[], float | None]) -> None:
        """Read a gauge without labels, as ``Level.read_from``."""
        self.sets.child(()).read_from(read)

    def clear(self) -> None:
        """Drop every child, such as before the ones that there are now are set in ``Metrics.before_scrape``."""
        self.sets.clear()

    def samples(self) -> Samples:
        children = [(values, child.now()) for values, child in list(self.sets.children.items())]
        return Samples(self.family, tuple((values, (float(now),)) for values, now in children if now is not None))


class Histogram:
    """A histogram's children by their labels."""

    kind = Kind.HISTOGRAM

    def __init__(self, family: Family) -> None:
        self.family = family
        self.sets = LabelSets(family, lambda: Distribution(family.buckets))
        if not family.labels:
            self.sets.child(())

    def labels(self, *values: str) -> Distribution:
        """As ``Counter.labels``."""
        return self.sets.child(values)

    def observe(self, value: float) -> None:
        """Add to a histogram without labels."""
        self.sets.child(()).observe(value)

    def samples(self) -> Samples:
        children = list(self.sets.children.items())
        return Samples(self.family, tuple((values, (*child.counts, child.sum)) for values, child in children))


class Info:
    """An info's label sets."""

    kind = Kind.INFO

    def __init__(self, family: Family) -> None:
        self.family = family
        self.sets = LabelSets(family, Count)

    def tell(self, *values: str) -> None:
        """These are the facts from now on, in the order of the declared labels."""
        self.sets.clear()
        self.sets.child(values).value = 1

    def samples(self) -> Samples:
        return Samples(self.family, tuple((values, (1,)) for values in list(self.sets.children)))


_Metric = Counter | Gauge | Histogram | Info
_M = TypeVar("_M", Counter, Gauge, Histogram, Info)


class Metrics:
    """The metrics of one program. A family that is asked for twice is the same one."""

    def __init__(self) -> None:
        self._metrics: dict[str, _Metric] = {}
        self._taken: dict[str, Family] = {}
        self._before: tuple[Callable[[], None], ...] = ()
        self._overflows = self.counter(OVERFLOWS)

    def counter(self, family: Family) -> Counter:
        """Raises ValueError where ``family`` is of another kind, or its name is another's."""
        return self._of(Counter, family)

    def gauge(self, family: Family) -> Gauge:
        """As ``counter``."""
        return self._of(Gauge, family)

    def histogram(self, family: Family) -> Histogram:
        """As ``counter``."""
        return self._of(Histogram, family)

    def info(self, family: Family) -> Info:
        """As ``counter``."""
        return self._of(Info, family)

    def before_scrape(self, refresh: Callable[[], None]) -> None:
        """Call ``refresh`` before each snapshot: it sets what is only known by asking."""
        self._before += (refresh,)

    def snapshot(self) -> Snapshot:
        """The values now, which ``merge`` adds to those of other processes."""
        for refresh in self._before:
            refresh()
        for metric in list(self._metrics.values()):
            if metric.sets.overflows:
                self._overflows.labels(metric.family.name).value = metric.sets.overflows
        return Snapshot(tuple(metric.samples() for metric in list(self._metrics.values())))

    def _of(self, kind: type[_M], family: Family) -> _M:
        found = self._metrics.get(family.name)
        if found is not None and found.family == family and isinstance(found, kind):
            return found
        if family.kind is not kind.kind:
            raise ValueError(f"metric {family.name}: wanted a {kind.kind.value}, got a {family.kind.value}")
        names = {family.base, *family.sample_names}
        for name in names:
            if name in self._taken:
                raise ValueError(f"metric {family.name}: its name clashes with that of {self._taken[name].name}")
        self._taken |= dict.fromkeys(names, family)
        metric = self._metrics[family.name] = kind(family)
        return metric

    def __repr__(self) -> str:
        series = sum(len(metric.sets.children) for metric in self._metrics.values())
        return f"<Metrics [{len(self._metrics)} families, {series} series]>"
