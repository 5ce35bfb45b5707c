"""Memory and descriptors of every process of the mesh, sampled while the load runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.mesh import Mesh
from tests.soak.plateau import Bound, Sample, growth
from tests.soak.programs import Program
from tests.soak.violations import Violations

__all__ = ["Held", "Resources", "Trend"]

_EVERY_S = 0.5
_MIB = float(1 << 20)
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: An idle process has as many descriptors as when it became ready, plus a few that its first work opens.
_IDLE_MORE = 16
_RSS, _DESCRIPTORS = "memory", "descriptors"
_BOUNDS = {_RSS: Bound(absolute=8.0, share=0.1), _DESCRIPTORS: Bound(absolute=24.0, share=0.25)}
_UNITS = {_RSS: "MiB", _DESCRIPTORS: ""}


@dataclass(frozen=True, slots=True)
class Held:
    """The present resources of a process; memory in MiB (resident set size)."""

    memory: float
    descriptors: int


@dataclass(frozen=True, slots=True)
class Trend:
    """One quantity of one process over its longest life. ``growth`` is after the warm-up; None for too short a life."""

    process: str
    quantity: str
    seconds: float
    first: float
    last: float
    highest: float
    growth: float | None
    allowed: float


@dataclass(slots=True)
class Resources:
    mesh: Mesh
    violations: Violations
    #: By process, life and quantity.
    samples: dict[tuple[str, int, str], list[Sample]] = field(default_factory=dict)
    _idle: dict[str, int] = field(default_factory=dict)

    def note_idle(self) -> None:
        """Record the resources of each process before any load."""
        for program in self.mesh.programs:
            if held := held_by(program):
                self._idle[program.name] = held.descriptors

    def sample(self) -> None:
        now = time.monotonic()
        for program in self.mesh.programs:
            if held := held_by(program):
                for quantity, value in ((_RSS, held.memory), (_DESCRIPTORS, float(held.descriptors))):
                    key = program.name, program.life, quantity
                    self.samples.setdefault(key, []).append(Sample(now - program.began, value))

    def above_idle(self) -> list[str]:
        """Processes that hold more descriptors than when they were idle."""
        found = []
        for program in self.mesh.programs:
            held, idle = held_by(program), self._idle[program.name]
            if held and held.descriptors > idle + _IDLE_MORE:
                found.append(f"{program.name} has {held.descriptors} descriptors without load, and had {idle}")
        return found

    def judge(self) -> list[Trend]:
        """The trends; a growth above its bound is recorded as a violation."""
        trends = list(self._trends())
        for one in trends:
            if one.growth is None:
                self.violations.add(
                    "not tested", f"{one.process} lived {one.seconds:.0f} s at most: too short to judge"
                )
            elif one.growth > one.allowed:
                self.violations.add(
                    f"{one.quantity} grows",
                    f"{one.process}: by {one.growth:.1f} {_UNITS[one.quantity]} after the warm-up; it lived"
                    f" {one.seconds:.0f} s, allowed are {one.allowed:.1f}",
                )
        return trends

    def _trends(self) -> Iterator[Trend]:
        for quantity, bound in _BOUNDS.items():
            for program in self.mesh.programs:
                lives = [
                    taken for (name, _, what), taken in self.samples.items() if (name, what) == (program.name, quantity)
                ]
                longest = max(lives, key=lambda taken: taken[-1].seconds - taken[0].seconds)
                values = [sample.value for sample in longest]
                seconds = longest[-1].seconds - longest[0].seconds
                yield Trend(
                    program.name,
                    quantity,
                    seconds,
                    values[0],
                    values[-1],
                    max(values),
                    growth(longest),
                    bound.allows(longest),
                )


def held_by(program: Program) -> Held | None:
    """The resources of this process; None if it does not run."""
    if program.pid is None:
        return None
    place = Path(f"/proc/{program.pid}")
    try:
        pages = int((place / "statm").read_text().split()[1])
        return Held(pages * _PAGE / _MIB, len(os.listdir(place / "fd")))
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # being killed at this moment
        return None
