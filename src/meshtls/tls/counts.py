"""How many connections of ``dial`` and ``listen`` this process has had, for ``meshtls.metrics``."""

from __future__ import annotations

from meshtls.observe.events import Outcome
from meshtls.observe.metrics import Label, Metrics, counter

__all__ = ["DIALLED", "LISTENED", "STREAM_COUNTS", "count"]

_OUTCOME = Label("outcome", tuple(one.name for one in Outcome))
DIALLED = counter("meshtls_dialled_connections_total", "Connections of dial, by how their handshakes ended.", _OUTCOME)
LISTENED = counter(
    "meshtls_listened_connections_total", "Connections that listen accepted, by how their handshakes ended.", _OUTCOME
)

#: Of this process, whose counters cost less than a question whether somebody wants them.
STREAM_COUNTS = Metrics()
_DIALLED, _LISTENED = STREAM_COUNTS.counter(DIALLED), STREAM_COUNTS.counter(LISTENED)


def count(outcome: Outcome, *, dialled: bool) -> None:
    """A handshake has ended."""
    (_DIALLED if dialled else _LISTENED).labels(outcome.name).inc()
