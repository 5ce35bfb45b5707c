"""What a check found. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from meshtls.cli.marks import Mark

__all__ = ["Checks", "Finding", "Group", "failed", "passed", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` says what was checked as a statement that should hold; ``reason`` why it does not, or what was seen."""

    check: str
    mark: Mark
    reason: str = ""
    advice: str = ""


#: The findings of one group, in order. A group ends at a failure without which the next checks have no meaning.
Checks = AsyncIterator[Finding]


@dataclass(slots=True)
class Group:
    """What was checked of one thing."""

    name: str
    findings: list[Finding] = field(default_factory=list)


def passed(check: str, seen: str = "") -> Finding:
    return Finding(check, Mark.PASSED, seen)


def warning(check: str, reason: str, advice: str = "") -> Finding:
    return Finding(check, Mark.WARNING, reason, advice)


def failed(check: str, reason: str, advice: str = "") -> Finding:
    return Finding(check, Mark.FAILED, reason, advice)
