"""The result of the demo, step by step, and its output as text (rich) or JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.text import Text

from meshtls.printable import printable_json
from meshtls.scalars import count_of

__all__ = ["Demo", "End", "Hop", "Refusal", "as_json", "duration", "show"]


@dataclass(frozen=True, slots=True)
class End:
    """One end of a hop, as the other end verified it; ``seconds_left`` is the remaining lifetime of its SVID."""

    name: str
    spiffe_id: str | None
    serial: str | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Hop:
    """A call from one app to another through both sidecars; ``problem`` is None if it succeeded."""

    caller: End
    callee: End
    tls_version: str | None
    cipher_suite: str | None
    answer: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A caller that was refused; ``client_saw`` is the error at its end."""

    title: str
    presented: str
    server: str
    outcome: str
    detail: str
    client_saw: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class Demo:
    """The whole walk."""

    hops: tuple[Hop, ...]
    refusals: tuple[Refusal, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """The steps that did not go as expected."""
        steps: tuple[Hop | Refusal, ...] = (*self.hops, *self.refusals)
        return tuple(step.problem for step in steps if step.problem)


def as_json(demo: Demo) -> str:
    """One JSON document: ``ok``, ``hops``, ``refusals``, ``problems``."""
    parts = {"hops": [asdict(hop) for hop in demo.hops], "refusals": [asdict(one) for one in demo.refusals]}
    return printable_json(json.dumps({"ok": not demo.problems, **parts, "problems": list(demo.problems)}, indent=2))


def show(demo: Demo, console: Console) -> None:
    """Print every hop and refusal, then the problems, or a summary if there are none."""
    for hop in demo.hops:
        console.print(Text(f"{hop.caller.name} calls {hop.callee.name}", style="bold green"))
        for name, end in (("caller", hop.caller), ("callee", hop.callee)):
            left = duration(end.seconds_left)
            _print_row(console, name, f"{end.spiffe_id}, SVID {end.serial}, {left} left")
        _print_row(console, "over", f"{hop.tls_version}, {hop.cipher_suite}")
        _print_row(console, "answer", hop.answer)
        console.print()
    for refusal in demo.refusals:
        console.print(Text(f"Refused: {refusal.title}", style="bold yellow"))
        _print_row(console, "presented", refusal.presented)
        _print_row(console, "to", refusal.server)
        _print_row(console, "verdict", f"{refusal.outcome}: {refusal.detail}")
        _print_row(console, "it saw", refusal.client_saw)
        console.print()
    for problem in demo.problems:
        console.print(Text(f"Failed: {problem}", style="bold red"))
    if not demo.problems:
        calls, callers = count_of(len(demo.hops), "call"), count_of(len(demo.refusals), "caller")
        summary = f"{calls} served over mutual TLS, {callers} refused."
        console.print(Text(summary, style="bold"))


def duration(seconds: float | None) -> str:
    """A duration such as ``59m 58s``; "unknown" for None."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    first = next((place for place, (number, _) in enumerate(parts) if number), 2)
    return " ".join(f"{number}{unit}" for number, unit in parts[first:])


def _print_row(console: Console, name: str, value: str) -> None:
    console.print(Text.assemble("  ", (f"{name:<10}", "dim"), value))
