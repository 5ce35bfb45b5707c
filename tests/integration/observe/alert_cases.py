"""A case of an alert: series that make it fire, and twins that differ in one thing and do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FROM", "WHERE", "Case", "series"]

#: Which process the series of all cases are of.
WHERE = {"job": "mesh", "instance": "node:9"}
#: The same in a message.
FROM = "mesh at node:9"


def series(name: str, **labels: str) -> str:
    """The name of a series of that process."""
    given = ",".join(f'{label}="{value}"' for label, value in {**WHERE, **labels}.items())
    return f"{name}{{{given}}}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One alert.

    - ``values``: the values of each series, a minute apart, in promtool's notation.
    - ``twins``: what else they are where the alert does not fire, by the reason.
    - ``labels``: those of the alert beside its severity, and beside ``whose``.
    - ``at``: minutes after the first value.
    """

    severity: str
    values: Mapping[str, str]
    twins: Mapping[str, Mapping[str, str]]
    summary: str
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)
    whose: Mapping[str, str] = field(default_factory=WHERE.copy)
    at: int = 30
