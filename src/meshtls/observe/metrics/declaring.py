"""What a metric is, before it has a value: its name, type, labels and bounds, checked as it is declared. Pure.

Declarations are constants of modules, so that the reference page is generated from them. The values are a ``Metrics``'s
(``values``), of which a process may have several.

Names follow the Prometheus data model without the colon, which is for recording rules, and OpenMetrics 1.0: a counter
ends with ``_total``, an info with ``_info``, and a unit is the end of the name.
"""

from __future__ import annotations

import re
from enum import Enum
from itertools import pairwise
from math import isfinite

import msgspec

__all__ = [
    "OTHER",
    "Family",
    "Kind",
    "Label",
    "Merge",
    "counter",
    "gauge",
    "histogram",
    "info",
]

#: The value of a label whose own would be one too many.
OTHER = "other"
#: Label sets of a family, and values of a label, unless the declaration says another number.
_MOST_SERIES, _MOST_VALUES = 1000, 200

_NAME = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")
#: Those that a sample of a histogram or a summary has itself.
_TAKEN_LABELS = ("le", "quantile")


class Kind(Enum):
    """The type of a metric, as in OpenMetrics 1.0, section 4.4."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


class Merge(Enum):
    """How the values of several processes become one. Counters and histograms are always added."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


class Label(msgspec.Struct, frozen=True):
    """A label and its bound: at most ``most`` values of it are told apart, the others are ``other``.

    ``values``: all that it can have; then it keeps its value even in a family that has too many label sets.
    """

    name: str
    values: tuple[str, ...] = ()
    most: int = _MOST_VALUES


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. ``most`` bounds its label sets, ``buckets`` are a histogram's upper bounds without +Inf.

    Made by ``counter``, ``gauge``, ``histogram`` and ``info``, which raise ValueError for what scrapers would refuse.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()
    merge: Merge = Merge.SUM
    most: int = _MOST_SERIES

    @property
    def base(self) -> str:
        """The name without ``_total`` or ``_info``: that of the family in OpenMetrics."""
        return self.name.removesuffix(_SUFFIXES.get(self.kind, ""))

    @property
    def sample_names(self) -> tuple[str, ...]:
        """The names of its samples, in both formats."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}{suffix}" for suffix in ("_bucket", "_count", "_sum"))
        return (self.name,)

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(f"metric {self.name}: {problem}")


_SUFFIXES = {Kind.COUNTER: "_total", Kind.INFO: "_info"}


def counter(name: str, help: str, *labels: Label | str, unit: str = "", most: int = _MOST_SERIES) -> Family:  # noqa: A002
    """What only grows. ``name`` ends with ``_total``. Raises ValueError."""
    return Family(name=name, kind=Kind.COUNTER, help=help, labels=_labels(labels), unit=unit, most=most)


def gauge(
    name: str,
    help: str,  # noqa: A002
    *labels: Label | str,
    unit: str = "",
    merge: Merge = Merge.SUM,
    most: int = _MOST_SERIES,
) -> Family:
    """What goes up and down. ``merge``: how those of several processes become one. Raises ValueError."""
    return Family(name=name, kind=Kind.GAUGE, help=help, labels=_labels(labels), unit=unit, merge=merge, most=most)


def histogram(
    name: str,
    help: str,  # noqa: A002
    *labels: Label | str,
    buckets: tuple[float, ...],
    unit: str = "",
    most: int = _MOST_SERIES,
) -> Family:
    """How many values are at most each of ``buckets``, which ascend and do not name +Inf. Raises ValueError."""
    return Family(
        name=name, kind=Kind.HISTOGRAM, help=help, labels=_labels(labels), unit=unit, buckets=buckets, most=most
    )


def info(name: str, help: str, *labels: Label | str) -> Family:  # noqa: A002
    """Facts as labels, with the value 1. ``name`` ends with ``_info``. Raises ValueError."""
    return Family(name=name, kind=Kind.INFO, help=help, labels=_labels(labels), merge=Merge.MAX)


def _labels(given: tuple[Label | str, ...]) -> tuple[Label, ...]:
    return tuple(Label(one) if isinstance(one, str) else one for one in given)


def _problems(family: Family) -> list[str]:
    found = []
    suffix = _SUFFIXES.get(family.kind)
    if not _NAME.fullmatch(family.name):
        found.append("wanted a name of letters, digits and underscores that begins with no digit")
    if suffix is None:
        found += [
            f"wanted a name without {one}, got a {family.kind.value}"
            for one in ("_total", "_info", "_created", "_bucket", "_count", "_sum")
            if family.name.endswith(one)
        ]
    elif not family.name.endswith(suffix) or family.name == suffix:
        found.append(f"wanted a name that ends with {suffix}, as each {family.kind.value}'s does")
    if not family.help:
        found.append("wanted a text that says what it is, got none")
    if family.unit and not family.base.endswith(f"_{family.unit}"):
        found.append(f"wanted the unit {family.unit} at the end of the name")
    if family.unit and family.kind is Kind.INFO:
        found.append("wanted no unit: an info has none")
    if family.most < 1 or any(label.most < 1 for label in family.labels):
        found.append("wanted room for at least one value")
    names = [label.name for label in family.labels]
    found += [
        f"wanted another label than {name!r}: letters, digits and underscores, no leading __, and not le or quantile"
        for name in names
        if not _NAME.fullmatch(name) or name.startswith("__") or name in _TAKEN_LABELS
    ]
    if len(set(names)) < len(names):
        found.append(f"wanted each label once, got {', '.join(names)}")
    buckets = family.buckets
    ascend = bool(buckets) and all(map(isfinite, buckets)) and all(low < high for low, high in pairwise(buckets))
    if family.kind is Kind.HISTOGRAM and not ascend:
        found.append(f"wanted finite buckets that ascend, got {buckets}")
    return found
