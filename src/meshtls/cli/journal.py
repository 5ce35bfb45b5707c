"""What happens in a running mesh: counted for the live table, and told a line at a time where there is no terminal."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from meshtls.observe.access_log import access_line
from meshtls.observe.events import ConnectionResult, Outcome
from meshtls.printable import printable, printable_json
from meshtls.svid.x509 import X509Svid

__all__ = ["Journal", "Tell", "json_lines", "text_lines"]

_RECENT = 8
Writer = Callable[[str], None]
Tell = Callable[[ConnectionResult | X509Svid], None]


class Journal:
    """``tell`` is given each event; the last few refusals and the counts are kept."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.outcomes: Counter[tuple[str, Outcome]] = Counter()
        self.refusals: deque[ConnectionResult] = deque(maxlen=_RECENT)

    def connection(self, result: ConnectionResult) -> None:
        """A connection ended."""
        self.outcomes[result.sidecar, result.outcome] += 1
        if not result.outcome.allowed:
            self.refusals.append(result)
        self._tell(result)

    def rotated(self, svid: X509Svid) -> None:
        """A sidecar has a new SVID."""
        self._tell(svid)

    def connections(self, sidecar: str, *, allowed: bool) -> int:
        """How many connections of this sidecar ended so far that were allowed, or were not."""
        return sum(
            count for (name, outcome), count in self.outcomes.items() if (name, outcome.allowed) == (sidecar, allowed)
        )


def text_lines(write: Writer) -> Tell:
    """Tell events as sentences."""

    def tell(event: ConnectionResult | X509Svid) -> None:
        now = f"{datetime.now(UTC):%H:%M:%SZ}"
        if isinstance(event, X509Svid):
            write(f"{now} rotated {event.spiffe_id}: SVID {event.serial} until {event.not_after:%H:%M:%SZ}")
        else:
            ends = f"{event.source_id or 'nobody known'} -> {event.destination_id or 'nobody known'}"
            what = f"{event.sidecar} {event.direction.value} {event.outcome.name}"
            write(f"{now} {what} {ends}: {printable(event.detail)}")

    return tell


def json_lines(write: Writer) -> Tell:
    """Tell events as JSON objects; a connection's has the fields of the access log."""

    def tell(event: ConnectionResult | X509Svid) -> None:
        if isinstance(event, X509Svid):
            ends = f"{event.not_after:%Y-%m-%dT%H:%M:%SZ}"
            fields = {"spiffe_id": str(event.spiffe_id), "serial": event.serial, "expiry": ends}
            write(_json({"event": "rotated", **fields}))
        else:
            fields = msgspec.to_builtins(access_line(event))
            write(_json({"event": "connection", **fields}))

    return tell


def _json(fields: object) -> str:
    return printable_json(msgspec.json.encode(fields).decode())
