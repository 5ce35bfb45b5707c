"""``meshtls capture diff``: two captures side by side."""

from __future__ import annotations

from pathlib import Path

import click

from meshtls.capture.analysis.comparing import MARKED, MOST_CONVERSATIONS, Conversations, Pair, compared
from meshtls.cli.capture.reading import Captures, capture_options, counted
from meshtls.cli.options import output_option
from meshtls.cli.output import Output, tell

__all__ = ["diff"]


@click.command()
@click.argument("before")
@click.argument("after")
@capture_options
@output_option
def diff(before: str, after: str, keylog: Path | None, bundle: Path | None, out: Output) -> int:
    """Compare two captures: conversations that appeared or vanished, and each figure that changed.

    A conversation has the SPIFFE IDs of both sides and the server's port, where both captures show them, and else the
    client's host and the server's address and port; and the server name. The figures of several connections of one are
    averaged. Means with estimates in them have a mark, as in `meshtls capture analyze`: "~", "<=" or ">=".
    """
    captures = Captures(out, keylog, bundle)
    conversations = [Conversations(captures.read(one)) for one in (before, after)]
    pairs = list(compared(*conversations))
    left_out = sum(one.left_out for one in conversations)
    if left_out:
        out.notice(f"{counted(left_out)} not compared: each capture has room for {MOST_CONVERSATIONS} conversations")
    if out.as_json:
        out.records("conversations", [_record(one) for one in pairs])
        return captures.exit_code
    for one in pairs:
        tell(*_lines(one))
    if not pairs:
        tell("no connections")
    return captures.exit_code


def _record(pair: Pair) -> dict[str, object]:
    client, server, name = pair.conversation
    changes: dict[str, object] = {}
    for one in pair.changes:
        change: dict[str, object] = {"before": one.before, "after": one.after}
        if one.name in MARKED:
            change["estimated"] = dict(zip(("before", "after"), map(bool, one.marks), strict=True))
        changes[one.name] = change
    return {
        "client": client,
        "server": server,
        "server_name": name,
        "matched_by": pair.matched_by,
        "connections_before": pair.before,
        "connections_after": pair.after,
        "changes": changes,
    }


def _lines(pair: Pair) -> list[str]:
    client, server, name = pair.conversation
    title = f"{client} -> {server}{f' ({name})' if name else ''}"
    if not pair.before:
        return [f"+ {title}: appeared, {counted(pair.after)}"]
    if not pair.after:
        return [f"- {title}: vanished, {counted(pair.before)}"]
    if not pair.changes:
        return [f"= {title}: as before (matched by {pair.matched_by})"]
    return [
        f"~ {title}: changed (matched by {pair.matched_by})",
        *(
            f"    {one.name:<18} {_text(one.before, one.marks[0])} -> {_text(one.after, one.marks[1])}"
            for one in pair.changes
        ),
    ]


def _text(value: object, mark: str) -> str:
    return "-" if value is None or value == "" else f"{mark}{value}"
