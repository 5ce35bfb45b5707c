"""``meshtls policy replay``: whose verdict would change under proposed policies, and which callers use plaintext."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from meshtls.cli.options import output_option
from meshtls.cli.output import Output, Record, Terminal, tell
from meshtls.cli.policy.logs import LogLines
from meshtls.cli.policy.options import POLICIES, labels_option, mesh_options
from meshtls.policy.files import read_documents
from meshtls.policy.istio.model import Labels, MeshOptions
from meshtls.policy.recorded import Skipped
from meshtls.policy.replay import Change, Group, Proposal, Replay, Report
from meshtls.printable import printable
from meshtls.spiffeid import SpiffeId

__all__ = ["replay"]

_MOST_NAMED = 5
_TITLES = {
    Change.DENIED: "Newly denied: allowed when recorded, and denied by these policies",
    Change.ALLOWED: "Newly allowed: denied when recorded, and allowed by these policies",
    Change.UNCERTAIN: "Uncertain: it depends on what the access log does not have, on labels that were not given"
    " (--labels), or on a CUSTOM policy's provider",
    Change.DRY_RUN_DENIED: "Dry run: allowed, and would be denied with the dry-run policies in force",
    Change.DRY_RUN_ALLOWED: "Dry run: denied, and would be allowed with the dry-run policies in force",
}


@click.command()
@click.argument("logs", metavar="ACCESS_LOG...", type=click.Path(path_type=Path, allow_dash=True), nargs=-1)
@click.option(
    "--policies", type=POLICIES, multiple=True, required=True, help="A file or directory of policies; may be repeated."
)
@click.option(
    "--strict-mtls", is_flag=True, help="Judge as if every port was STRICT, whatever the PeerAuthentications say."
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Rows of each table, as text.")
@labels_option
@mesh_options
@output_option
def replay(
    logs: tuple[Path, ...],
    policies: tuple[Path, ...],
    strict_mtls: bool,
    limit: int,
    labels: dict[SpiffeId, Labels],
    mesh: MeshOptions,
    out: Output,
) -> int:
    """Judge the traffic in the ACCESS_LOGs of sidecars by other policies, and list whose verdict would change.

    A log may be compressed by gzip; - is standard input. Dry-run policies are judged beside those in force.
    Exit code: 0 if no verdict changes, 1 if one does or may, 2 for errors, also if no line was judged.
    """
    if not logs:
        raise click.UsageError("wanted at least one ACCESS_LOG; - is standard input")
    found = Replay(
        Proposal(
            documents=read_documents(policies),
            labels=labels,
            mesh=mesh,
            strict=strict_mtls,
        )
    )
    lines = LogLines(logs)
    for line in lines:
        found.add(line)
    report = found.report()
    if not report.judged:
        raise lines.nothing_judged()
    if out.as_json:
        out.record(_record(report, lines))
    else:
        _tell(report, lines, limit)
    return 1 if report.changes else 0


def _record(report: Report, lines: LogLines) -> Record:
    callers = sum(one.count for one in report.plaintext_callers)
    return {
        "lines": _counts(lines),
        "judged": report.judged,
        "unchanged": report.unchanged,
        "first": report.first,
        "last": report.last,
        **{change.value: [_group(one) for one in report.of(change)] for change in Change},
        "strict": {
            "ready": not callers,
            "plaintext": callers,
            "callers": [msgspec.to_builtins(one) for one in report.plaintext_callers],
        },
        "selectors_without_labels": [
            {"policy": policy, "destination": destination} for policy, destination in report.unselected
        ],
    }


def _group(group: Group) -> Record:
    fields: Record = msgspec.to_builtins(group)
    return {name: value for name, value in fields.items() if name != "change"}


def _counts(lines: LogLines) -> Record:
    return {
        "read": lines.read,
        "broken": lines.counts[Skipped.BROKEN],
        "outbound": lines.counts[Skipped.OUTBOUND],
        "not_judged": lines.counts[Skipped.NOT_JUDGED],
        "first_broken": lines.broken,
    }


def _tell(report: Report, lines: LogLines, limit: int) -> None:
    tell(*_summary(report, lines))
    console = Terminal(highlight=False)
    for change, title in _TITLES.items():
        groups = report.of(change)
        if not groups:
            continue
        tell("", f"{title} ({sum(one.count for one in groups)})")
        console.print(_groups_table(groups[:limit]))
        if len(groups) > limit:
            tell(f"and {len(groups) - limit} more rows; --limit or --output json shows them")
    tell("", *_can_go_strict(report))
    if report.plaintext_callers:
        table = _table("count", "from", "to", "port", "proposed mode", "last")
        for caller in report.plaintext_callers[:limit]:
            port = "" if caller.port is None else str(caller.port)
            table.add_row(
                str(caller.count), Text(printable(caller.address)), caller.destination, port, caller.mode,
                caller.last,
            )  # fmt: skip
        console.print(table)


def _summary(report: Report, lines: LogLines) -> Iterator[str]:
    skipped = ", ".join(f"{lines.counts[one]} {one.value}" for one in Skipped if lines.counts[one])
    yield f"{lines.read} lines read" + (f", of these {skipped}" if skipped else "")
    if lines.broken:
        yield f"broken: {'; '.join(lines.broken)}" + (
            " ..." if lines.counts[Skipped.BROKEN] > len(lines.broken) else ""
        )
    period = f"from {report.first} to {report.last}"
    yield f"{report.judged} verdicts judged again, {period}: {report.unchanged} stay as they are"
    if report.unselected:
        policies = _some({policy for policy, _ in report.unselected})
        destinations = _some({destination for _, destination in report.unselected})
        yield (
            f"not applied: {policies}, which have a selector: the labels of {destinations} are not known; give them"
            " with --labels"
        )


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:_MOST_NAMED]) + (" ..." if len(names) > _MOST_NAMED else "")


def _groups_table(groups: tuple[Group, ...]) -> Table:
    table = _table("count", "source", "destination", "request", "why")
    for one in groups:
        request = " ".join(filter(None, (one.method, one.path))) or "connection"
        port = f" port {one.port}" if one.port is not None else ""
        named = " ".join(filter(None, (one.policy, f"rule {one.rule}" if one.rule is not None else "")))
        why = f"{named}: {one.clause}" if named and one.clause else named or one.reason
        table.add_row(
            str(one.count), one.source, one.destination, Text(printable(f"{request}{port}")), Text(printable(why))
        )
    return table


def _can_go_strict(report: Report) -> Iterator[str]:
    count = sum(one.count for one in report.plaintext_callers)
    if not count:
        yield f"Can it go STRICT? Yes, by these {report.judged} lines: no plaintext was allowed."
    else:
        number = len(report.plaintext_callers)
        callers = f"{number} callers" if number > 1 else "1 caller"
        yield f"Can it go STRICT? No: {callers} came in plaintext, {count} times. STRICT would refuse them:"


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
    return table
