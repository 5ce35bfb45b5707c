"""``meshtls capture stats``: totals."""

from __future__ import annotations

from pathlib import Path

import click

from meshtls.capture.analysis.figures import Figures
from meshtls.capture.analysis.oddities import oddities
from meshtls.cli.capture.reading import Captures, capture_options
from meshtls.cli.options import output_option
from meshtls.cli.output import Lines, Output

__all__ = ["stats"]

_TABLES = ("protocol", "version", "suite", "group", "mutual", "resumed", "outcome")


@click.command()
@click.argument("files", metavar="FILE|-...", nargs=-1, required=True)
@capture_options
@output_option
def stats(files: tuple[str, ...], keylog: Path | None, bundle: Path | None, out: Output) -> int:
    """Print totals over all connections: versions, suites, groups, mutual TLS, times, overhead, top talkers.

    Sums with estimates in them have a mark, as in `meshtls capture analyze`: "~", "<=" or ">=".
    """
    captures, figures = Captures(out, keylog, bundle), Figures()
    for name in files:
        for one in captures.read(name):
            figures.add(one)
    record = {"packets": captures.packets} | figures.record()
    if out.as_json:
        out.record(record)
        return captures.exit_code
    times = figures.handshake_ms
    words = dict(record)
    words["handshake_ms"] = f"p50 {times.p50:.2f}, p90 {times.p90:.2f}, p99 {times.p99:.2f}" if times else ""
    marks = figures.marks
    del words["estimated"], words["at_most"]  # the marks say it
    words["application_bytes"] = f"{marks.amount}{figures.application_bytes}"
    ratio = f"{marks.ratio}{figures.overhead:.3f}" if figures.overhead is not None else ""
    words["overhead"] = f"{ratio} bytes for each useful byte" if ratio else ""
    for name in _TABLES:
        words[name] = [
            f"{key}: {count} ({100 * count / figures.connections:.1f} %)" for key, count in figures.most(name)
        ]
    words["top_talkers"] = Lines(f"{ends} {count} bytes" for ends, count in figures.most("top_talkers"))
    out.record(words)
    for note in oddities(figures.cut_bytes, figures.conflicts, figures.strange):
        out.notice(note)
    return captures.exit_code
