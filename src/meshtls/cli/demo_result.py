"""What the demo saw, step by step. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Demo", "End", "Hop", "Refusal"]


@dataclass(frozen=True, slots=True)
class End:
    """One end of a hop, as the other end verified it; ``seconds_left`` is how long its SVID is still valid."""

    name: str
    spiffe_id: str | None
    serial: str | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Hop:
    """A call from one app to another through both sidecars; ``problem`` is None where all of it happened."""

    caller: End
    callee: End
    tls_version: str | None
    cipher_suite: str | None
    answer: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A caller that was turned away; ``client_saw`` is what it got to hear."""

    title: str
    presented: str
    server: str
    outcome: str
    detail: str
    client_saw: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Demo:
    """All that happened."""

    hops: tuple[Hop, ...]
    refusals: tuple[Refusal, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What did not happen as it should."""
        steps: tuple[Hop | Refusal, ...] = (*self.hops, *self.refusals)
        return tuple(step.problem for step in steps if step.problem)
