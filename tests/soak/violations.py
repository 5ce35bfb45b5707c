"""Violations of the soak run's checks. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

__all__ = ["Violation", "Violations"]

_KEPT = 20


@dataclass(frozen=True, slots=True)
class Violation:
    """``check`` is its name in the report."""

    check: str
    detail: str

    def __str__(self) -> str:
        return f"{self.check}: {self.detail}"


class Violations:
    """All violations are counted; the texts of the first twenty of each check are kept."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self.counts: Counter[str] = Counter()

    def add(self, check: str, detail: str) -> None:
        self.counts[check] += 1
        if self.counts[check] <= _KEPT:
            self.found.append(Violation(check, detail))

    def lines(self) -> list[str]:
        """Each kept violation, and the number of further ones of its check."""
        more = [f"{check}: {count - _KEPT} more" for check, count in self.counts.items() if count > _KEPT]
        return [*map(str, self.found), *more]
