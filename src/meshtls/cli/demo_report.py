"""A Demo for people (rich, plain where the output is no terminal) and for programs (JSON)."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from meshtls.cli.demo_result import Demo, End, Hop, Refusal
from meshtls.printable import printable_json

__all__ = ["as_json", "duration", "show"]


def as_json(demo: Demo) -> str:
    """One JSON document: ``ok``, ``hops``, ``refusals``, ``problems``."""
    parts = {"hops": [asdict(hop) for hop in demo.hops], "refusals": [asdict(one) for one in demo.refusals]}
    return printable_json(json.dumps({"ok": not demo.problems, **parts, "problems": list(demo.problems)}, indent=2))


def show(demo: Demo, console: Console) -> None:
    """Print every hop and refusal, and then whether all went as it should."""
    for hop in demo.hops:
        _show_hop(hop, console)
    for refusal in demo.refusals:
        _show_refusal(refusal, console)
    for problem in demo.problems:
        console.print(Text(f"Failed: {problem}", style="bold red"))
    if not demo.problems:
        summary = f"{len(demo.hops)} calls served over mutual TLS, {len(demo.refusals)} callers refused."
        console.print(Text(summary, style="bold"))


def duration(seconds: float | None) -> str:
    """``59m 58s``; "unknown" for None."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    first = next((place for place, (number, _) in enumerate(parts) if number), 2)
    return " ".join(f"{number}{unit}" for number, unit in parts[first:])


def _show_hop(hop: Hop, console: Console) -> None:
    console.print(Text(f"{hop.caller.name} calls {hop.callee.name}", style="bold green"))
    _row(console, "caller", _end(hop.caller))
    _row(console, "callee", _end(hop.callee))
    _row(console, "over", f"{hop.tls_version}, {hop.cipher_suite}")
    _row(console, "answer", hop.answer)
    console.print()


def _show_refusal(refusal: Refusal, console: Console) -> None:
    console.print(Text(f"Refused: {refusal.title}", style="bold yellow"))
    _row(console, "presented", refusal.presented)
    _row(console, "to", refusal.server)
    _row(console, "verdict", f"{refusal.outcome}: {refusal.detail}")
    _row(console, "it heard", refusal.client_saw)
    console.print()


def _end(end: End) -> str:
    return f"{end.spiffe_id}, SVID {end.serial}, {duration(end.seconds_left)} left"


def _row(console: Console, name: str, value: str) -> None:
    console.print(Text.assemble("  ", (f"{name:<10}", "dim"), value))
