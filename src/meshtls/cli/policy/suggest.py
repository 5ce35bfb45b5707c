"""``meshtls policy suggest``: writes the least policies that allow what access logs have as allowed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import yaml

from meshtls.cli.options import output_option
from meshtls.cli.output import Output
from meshtls.cli.policy.logs import LogLines
from meshtls.cli.policy.options import labels_option
from meshtls.policy.istio.model import Labels
from meshtls.policy.recorded import Skipped
from meshtls.policy.suggest import LeftOut, Suggestion, Suggestions
from meshtls.printable import printable
from meshtls.spiffeid import SpiffeId

__all__ = ["suggest"]

_MOST_TOLD = 20


@click.command()
@click.argument("logs", metavar="ACCESS_LOG...", type=click.Path(path_type=Path, allow_dash=True), nargs=-1)
@click.option(
    "--templates",
    is_flag=True,
    help="Write paths with identifiers as templates, such as /orders/{*}. This allows more than was recorded.",
)
@labels_option
@output_option
def suggest(logs: tuple[Path, ...], templates: bool, labels: dict[SpiffeId, Labels], out: Output) -> int:
    """Write an AuthorizationPolicy, in YAML, for each destination in the ACCESS_LOGs of sidecars.

    It allows what was allowed when it was recorded, and nothing else: callers, ports, methods and paths. Without the
    labels of a destination its policy has no selector, and is for the whole namespace. Review it, and try it with
    `meshtls policy replay`. Exit code: 0, 1 if something can't be allowed without allowing more, 2 for errors, also if
    no line was judged.
    """
    if not logs:
        raise click.UsageError("wanted at least one ACCESS_LOG; - is standard input")
    lines, suggestions = LogLines(logs), Suggestions(labels, templates=templates)
    for line in lines:
        suggestions.add(line)
    found = list(suggestions.policies())
    if not found and not suggestions.left_out:
        raise lines.nothing_judged()
    if out.as_json:
        out.record(
            {
                "policies": [one.document for one in found],
                "left_out": [
                    {
                        "destination": one.destination,
                        "source": one.source,
                        "method": one.method,
                        "path": one.path,
                        "reason": one.reason,
                    }
                    for one in suggestions.left_out
                ],
                "without_labels": [
                    {"destination": one.destination, "namespace": one.namespace, "others": list(one.others)}
                    for one in suggestions.unlabelled
                ],
                "broken": lines.counts[Skipped.BROKEN],
            }
        )
    else:
        without = [f"# No policy for {printable(one)}: see standard error.\n" for one in suggestions.without_policy]
        out.record({}, ("".join(without) + "---\n".join(map(_yaml, found))).rstrip("\n"))
        for notice in _notices(suggestions, lines):
            out.notice(notice)
    return 1 if suggestions.left_out or any(one.others for one in suggestions.unlabelled) else 0


def _yaml(one: Suggestion) -> str:
    comments = [f"# What was recorded of calls to {printable(one.destination)}."]
    if one.plaintext:
        comments.append('# notPrincipals ["*"] are callers in plaintext: remove it when the port is STRICT.')
    if one.left_out:
        # Not which ones: any caller chooses a path.
        comments.append(
            "# Not all that was recorded is allowed here, since no rule means just that: see standard error."
        )
    text = yaml.safe_dump(dict(one.document), sort_keys=False, width=110, allow_unicode=False)
    return "\n".join((*comments, text))


def _notices(suggestions: Suggestions, lines: LogLines) -> Iterator[str]:
    if broken := lines.counts[Skipped.BROKEN]:
        yield f"{broken} broken lines were left out: {'; '.join(lines.broken)}"
    unlabelled = suggestions.unlabelled
    for one in unlabelled[:_MOST_TOLD]:
        others = f", and so allows this to {len(one.others)} more that were recorded there" if one.others else ""
        yield (
            f"{one.destination}: its labels are not in the log, and its policy has no selector: it is for the whole"
            f" namespace {one.namespace}{others}; give them with --labels {one.destination} NAME=VALUE"
        )
    if len(unlabelled) > _MOST_TOLD:
        yield f"and {len(unlabelled) - _MOST_TOLD} more destinations without labels; --output json lists them"
    left_out = suggestions.left_out
    for request in left_out[:_MOST_TOLD]:
        yield f"{request.destination}: {_left_out_words(request)}"
    if len(left_out) > _MOST_TOLD:
        yield f"and {len(left_out) - _MOST_TOLD} more that are not allowed; --output json lists them"


def _left_out_words(one: LeftOut) -> str:
    if one.source:
        return f"calls of {one.source} are not allowed: {one.reason}"
    if one.method:
        return f"{printable(one.method)} {printable(one.path[:80])} is not allowed: {one.reason}"
    return f"no policy is written: {one.reason}"
