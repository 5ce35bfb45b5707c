"""What must not happen and did. Pure."""

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
    """All are counted; of each check the first twenty are kept in words."""

    def __init__(self) -> None:
        self.found: list[Violation] = []
        self.counts: Counter[str] = Counter()

    def add(self, check: str, detail: str) -> None:
        self.counts[check] += 1
        if self.counts[check] <= _KEPT:
            self.found.append(Violation(check, detail))

    def lines(self) -> list[str]:
        """Each violation that was kept, and how many more there were of its check."""
        more = [f"{check}: {count - _KEPT} more" for check, count in self.counts.items() if count > _KEPT]
        return [*map(str, self.found), *more]
