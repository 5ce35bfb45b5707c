"""What a running sidecar refused or failed lately: the words of its access log, by its admin interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from meshtls.admin.asking import ask_all, processes_at
from meshtls.admin.next_steps import next_step, sentence
from meshtls.cli.check.finding import Checks, Claim, Finding, passed, warning
from meshtls.errors import ConfigError, RequestError
from meshtls.observe.events import Outcome

__all__ = ["connection_checks", "connection_findings"]

_HOLDS = "its latest connections and requests were served"
_UNSEEN = Claim(_HOLDS, "its latest connections and requests can't be asked for")
_LONGEST_PATH = 100
#: A caller that has shown no certificate, or a certificate that could not be read.
_NOBODY = "an unknown peer"
#: What ended longer ago is not told.
_LATELY = timedelta(minutes=5)
#: What two records have in common, if the one that was served says that the cause of the other is mended.
_SAME = ("direction", "source_id", "destination_id", "port", "method", "host", "path")


async def connection_checks(socket: Path, now: datetime, file: Path | None = None) -> Checks:
    """What the processes of a sidecar with this admin socket, and this file, remember."""
    try:
        pages = await ask_all(processes_at(socket), "/connections", {"requests": "all"})
    except (ConfigError, RequestError) as error:
        yield warning(_UNSEEN, str(error), "run the check as the sidecar's user, or see its access log")
        return
    lines = [line for page in pages for kind in ("ended", "requests") for line in page.get(kind, ())]
    for finding in connection_findings(lines, socket, now, file):
        yield finding


def connection_findings(
    lines: Iterable[Mapping[str, Any]], socket: Path, now: datetime, file: Path | None = None
) -> list[Finding]:
    """A warning for each outcome, with the newest connection or request that ended so within five minutes, and how many
    others did, each between other ends or for another request.

    A later one of the same two identities that was served says that the cause is mended; of an HTTP request, only one
    with the same method, host and path. A client that closed early was refused by nobody: `meshtls check` does so.
    """
    found = [
        warning(
            Claim(_HOLDS, _what(line, others)),
            f"{line['outcome']}: {sentence(line)}: {line.get('detail')}",
            f"{next_step(line, str(file or ''))}; `meshtls explain connection {line.get('connection_id')}"
            f" --socket {socket}` shows all of it",
        )
        for line, *others in _unserved(lines, now).values()
    ]
    return found or [passed(Claim(_HOLDS, ""))]


def _what(line: Mapping[str, Any], others: Sequence[object]) -> str:
    """Which of them was not served, and between whom."""
    if "method" in line:
        kind = f"an HTTP request ({line['method']} {str(line.get('path'))[:_LONGEST_PATH]})"
    else:
        kind = "an outbound connection" if line.get("direction") == "outbound" else "an inbound connection"
    ends = f"from {line.get('source_id') or _NOBODY} to {line.get('destination_id') or _NOBODY}"
    more = f", and {len(others)} other{'s' * (len(others) != 1)} with this outcome" if others else ""
    return f"{kind} {ends} was not served{more}"


def _unserved(lines: Iterable[Mapping[str, Any]], now: datetime) -> dict[Outcome, list[Mapping[str, Any]]]:
    """The newest first, by outcomes; of those that have all in common, one."""
    served, told = set(), set()
    found: dict[Outcome, list[Mapping[str, Any]]] = {}
    for line in sorted(lines, key=lambda one: _ended(one), reverse=True):
        outcome = Outcome.__members__.get(str(line.get("outcome")))
        if outcome is None or _ended(line) < now - _LATELY:
            continue
        # Callers without an identity are told apart by their hosts.
        host = "" if line.get("source_id") else str(line.get("remote", "")).rpartition(":")[0]
        ends = (*(str(line.get(key)) for key in _SAME), host)
        if line.get("verdict") == "allowed":
            served.add(ends)
        elif (outcome, ends) not in told and ends not in served and outcome is not Outcome.CLOSED_EARLY:
            told.add((outcome, ends))
            found.setdefault(outcome, []).append(line)
    return found


def _ended(line: Mapping[str, Any]) -> datetime:
    began = datetime.fromisoformat(str(line["time"]).replace("Z", "+00:00"))
    return began + timedelta(milliseconds=float(line.get("total_ms") or 0))
