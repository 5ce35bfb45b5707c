"""Rounds of all programs over all captures, which take turns, and their table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from bench.capture_programs import ANALYSIS, SCAPY, TSHARK, CaptureError, CaptureProgram, cpu_seconds
from bench.capture_rates import Median, line_rate, median_of
from bench.capture_traffic import MIXES, Written, write_capture
from bench.peers.base import Certs
from bench.report import Machine, this_machine

__all__ = ["CaptureReport", "Measured", "capture_table", "measure_captures"]

#: Gbit/s.
_LINES = (1, 10)


class Capture(msgspec.Struct, frozen=True):
    """A file that was made."""

    mix: str
    packets: int
    connections: int
    mean_bytes: float
    #: Packets per second of a full line, by its Gbit/s.
    line_rates: dict[int, float]


class Measured(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run: packets for each second of CPU, the start of the program taken off; or an error."""

    program: str
    mix: str
    round: int
    packets_per_second: float | None = None
    start_seconds: float | None = None
    error: str | None = None


class CaptureReport(msgspec.Struct, frozen=True):
    """All of a run."""

    machine: Machine
    captures: list[Capture]
    programs: dict[str, str]
    cells: list[Measured]

    def rates(self, program: str, mix: str) -> dict[int, float]:
        """Packets per second, by the round."""
        found = (one for one in self.cells if (one.program, one.mix) == (program, mix))
        return {one.round: one.packets_per_second for one in found if one.packets_per_second is not None}

    def ratio(self, program: str, mix: str) -> Median | None:
        """How many times the packets of another program our analysis reads, of the pairs of the same round."""
        ours, theirs = self.rates(ANALYSIS, mix), self.rates(program, mix)
        pairs = [ours[number] / theirs[number] for number in ours if number in theirs]
        return median_of(pairs) if pairs else None


def measure_captures(
    programs: Sequence[CaptureProgram],
    *,
    mixes: Sequence[str] = tuple(MIXES),
    rounds: int,
    packets: int,
    certs: Certs,
    directory: Path,
    progress: Callable[[Measured], None],
) -> CaptureReport:
    """Make the captures, and let each program read each of them ``rounds`` times."""
    machine = this_machine()
    files = {mix: directory / f"{number}.pcap" for number, mix in enumerate(mixes)}
    written = {mix: write_capture(files[mix], MIXES[mix], packets, certs) for mix in mixes}
    empty = directory / "empty.pcap"
    write_capture(empty, MIXES[mixes[0]], 0, certs)
    cells: list[Measured] = []
    starts: dict[tuple[int, str], float] = {}
    for number, mix, program in _turns(programs, mixes, rounds):
        try:
            start = starts.get((number, program.name)) or cpu_seconds(program, empty, 1)
            starts[number, program.name] = start
            cell = _measured(program, mix, number, files[mix], start, written[mix].packets)
        except CaptureError as error:
            cell = Measured(program.name, mix, number, error=str(error))
        progress(cell)
        cells.append(cell)
    captures = [_capture(mix, one) for mix, one in written.items()]
    return CaptureReport(machine, captures, {one.name: one.version for one in programs}, cells)


def _turns(
    programs: Sequence[CaptureProgram], mixes: Sequence[str], rounds: int
) -> Iterator[tuple[int, str, CaptureProgram]]:
    """Other load affects all alike, and no program is always the first."""
    for number in range(rounds):
        first = number % len(programs)
        for mix in mixes:
            for program in (*programs[first:], *programs[:first]):
                yield number, mix, program


def _measured(program: CaptureProgram, mix: str, number: int, capture: Path, start: float, packets: int) -> Measured:
    most = max(1, packets // 10) if program.part else packets
    spent = cpu_seconds(program, capture, most) - start
    return Measured(program.name, mix, number, most / spent if spent > 0 else None, start)


def _capture(mix: str, written: Written) -> Capture:
    rates = {line: line_rate(written.sizes, line) for line in _LINES}
    return Capture(mix, written.packets, written.connections, written.wire_bytes / written.packets, rates)


# -- the table --


def capture_table(report: CaptureReport) -> str:
    """Packets and MB for each second of CPU, the line rates, and our analysis divided by others, as Markdown."""
    lines = [
        f"| packets/s of a core | {' | '.join(one.mix for one in report.captures)} |",
        f"|---|{'---:|' * len(report.captures)}",
        _row("packets in the capture", (f"{one.packets:,}" for one in report.captures)),
        _row("connections", (f"{one.connections:,}" for one in report.captures)),
        _row("bytes of a frame, on average", (f"{one.mean_bytes:.0f}" for one in report.captures)),
    ]
    lines += [_row(program, (_rate(report, program, one) for one in report.captures)) for program in report.programs]
    lines += [
        _row(f"line of {line} Gbit/s, full", (_short(one.line_rates[line]) for one in report.captures))
        for line in _LINES
    ]
    for program in (TSHARK, SCAPY):
        if program in report.programs:
            cells = [report.ratio(program, one.mix) for one in report.captures]
            lines.append(_row(f"{ANALYSIS} / {program}", (_times(one) for one in cells)))
    lines += _notes(report)
    return "\n".join(lines)


def _row(title: str, cells: Iterable[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _rate(report: CaptureReport, program: str, capture: Capture) -> str:
    rates = list(report.rates(program, capture.mix).values())
    if not rates:
        return "failed"
    found = median_of(rates)
    span = f"{_short(found.low)} to {_short(found.high)}"
    return f"{_short(found.value)} ({span}), {found.value * capture.mean_bytes / 1e6:.0f} MB/s"


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate < 10_000 else f"{rate / 1000:,.0f} k"


def _times(found: Median | None) -> str:
    return "-" if found is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _notes(report: CaptureReport) -> Iterator[str]:
    rounds = max((one.round for one in report.cells), default=0) + 1
    confidence = median_of([0.0] * rounds).confidence
    between = f"an interval with a confidence of {100 * confidence:.0f} %" if rounds > 1 else "nothing: one round"
    yield f"\nmedians of {rounds} rounds; in brackets {between}"
    starts = _starts(report)
    yield "CPU-s to start, taken off: " + ", ".join(f"{name} {spent:.2f}" for name, spent in starts.items())
    versions = [version for version in report.programs.values() if version]
    if versions:
        yield f"versions: {', '.join(versions)}"
    yield from (f"failed: {one.error}" for one in report.cells if one.error)


def _starts(report: CaptureReport) -> Mapping[str, float]:
    found = {
        name: [one.start_seconds for one in report.cells if one.program == name and one.start_seconds is not None]
        for name in report.programs
    }
    return {name: median_of(values).value for name, values in found.items() if values}
