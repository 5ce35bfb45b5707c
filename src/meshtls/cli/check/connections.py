"""What a running sidecar refused or failed lately: the words of its access log, by its admin interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from meshtls.admin.asking import ask_all, processes_at
from meshtls.admin.story import NEXT_STEPS
from meshtls.cli.check.finding import Checks, Finding, passed, warning
from meshtls.errors import ConfigError, RequestError
from meshtls.observe.events import Outcome
from meshtls.tls.failures import CLOSED_IN_TLS

__all__ = ["connection_checks", "connection_findings"]

_CHECK = "its latest connections and requests were served"
#: What ended longer ago is not told.
_LATELY = timedelta(minutes=5)


async def connection_checks(socket: Path, now: datetime) -> Checks:
    """What the processes of a sidecar with this admin socket remember."""
    try:
        pages = await ask_all(processes_at(socket), "/connections", {"requests": "all"})
    except (ConfigError, RequestError) as error:
        yield warning(_CHECK, str(error), "run the check as the sidecar's user, or see its access log")
        return
    lines = [line for page in pages for kind in ("ended", "requests") for line in page.get(kind, ())]
    for finding in connection_findings(lines, socket, now):
        yield finding


def connection_findings(lines: Iterable[Mapping[str, Any]], socket: Path, now: datetime) -> list[Finding]:
    """A warning for each outcome, with the newest connection or request that ended so within five minutes.

    A later one of the same two identities that was served says that the cause is mended. A peer that closes
    within the handshake was refused by nobody: `meshtls check` itself does so.
    """
    found = [
        warning(
            _CHECK,
            f"{line['outcome']}: {line.get('reason')}: {line.get('detail')}",
            f"{NEXT_STEPS[Outcome[line['outcome']]]}; `meshtls explain connection {line.get('connection_id')}"
            f" --socket {socket}` shows all of it",
        )
        for line in _unserved(lines, now)
    ]
    return found or [passed(_CHECK)]


def _unserved(lines: Iterable[Mapping[str, Any]], now: datetime) -> Iterator[Mapping[str, Any]]:
    """The newest first, one of each outcome."""
    served, told = set(), set()
    for line in sorted(lines, key=lambda one: _ended(one), reverse=True):
        outcome = Outcome.__members__.get(str(line.get("outcome")))
        if outcome is None or _ended(line) < now - _LATELY:
            continue
        ends = ("method" in line, *(line.get(key) for key in ("direction", "source_id", "destination_id", "port")))
        if line.get("verdict") == "allowed":
            served.add(ends)
        elif outcome not in told and ends not in served and line.get("detail") != CLOSED_IN_TLS:
            told.add(outcome)
            yield line


def _ended(line: Mapping[str, Any]) -> datetime:
    began = datetime.fromisoformat(str(line["time"]).replace("Z", "+00:00"))
    return began + timedelta(milliseconds=float(line.get("total_ms") or 0))
