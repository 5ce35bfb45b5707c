"""What a check found. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple

from meshtls.cli.marks import Mark

__all__ = ["Checks", "Claim", "Finding", "Group", "failed", "passed", "warning"]


class Claim(NamedTuple):
    """What is checked. ``holds`` is a statement that should hold, and ``broken`` what is said where it does not."""

    holds: str
    broken: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. ``check`` says what was checked as a statement that should hold; ``reason`` why it does
    not, or what was seen.

    ``problem`` is the statement of what is wrong; empty where the check passed.
    """

    check: str
    mark: Mark
    reason: str = ""
    advice: str = ""
    problem: str = ""


#: The findings of one group, in order. A group ends at a failure without which the next checks have no meaning.
Checks = AsyncIterator[Finding]


@dataclass(slots=True)
class Group:
    """What was checked of one thing."""

    name: str
    findings: list[Finding] = field(default_factory=list)


def passed(claim: Claim, seen: str = "") -> Finding:
    return Finding(claim.holds, Mark.PASSED, seen)


def warning(claim: Claim, reason: str, advice: str = "") -> Finding:
    return Finding(claim.holds, Mark.WARNING, reason, advice, claim.broken)


def failed(claim: Claim, reason: str, advice: str = "") -> Finding:
    return Finding(claim.holds, Mark.FAILED, reason, advice, claim.broken)
