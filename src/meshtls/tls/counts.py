"""How many connections of ``dial`` and ``listen`` this process has had, for ``meshtls.metrics``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from meshtls.errors import HandshakeTimeoutError, MeshtlsError
from meshtls.observe.events import Outcome, outcome_of
from meshtls.observe.metrics import Label, Metrics, counter

__all__ = ["DIALLED", "LISTENED", "STREAM_COUNTS", "counted"]

_OUTCOME = Label("outcome", tuple(one.name for one in Outcome))
DIALLED = counter("meshtls_dialled_connections_total", "Connections of dial, by how their handshakes ended.", _OUTCOME)
LISTENED = counter(
    "meshtls_listened_connections_total", "Connections that listen accepted, by how their handshakes ended.", _OUTCOME
)

#: Of this process, whose counters cost less than a question whether somebody wants them.
STREAM_COUNTS = Metrics()
_DIALLED, _LISTENED = STREAM_COUNTS.counter(DIALLED), STREAM_COUNTS.counter(LISTENED)


@contextmanager
def counted(*, dialled: bool) -> Iterator[None]:
    """Count how the handshake in the body ends."""
    outcome = Outcome.INTERNAL_ERROR
    try:
        yield
        outcome = Outcome.OK
    except MeshtlsError as error:
        outcome = _outcome(error)
        raise
    except TimeoutError:
        outcome = _outcome(HandshakeTimeoutError(""))
        raise
    except OSError:
        outcome = Outcome.CONNECT_FAILED
        raise
    finally:
        (_DIALLED if dialled else _LISTENED).labels(outcome.name).inc()


def _outcome(error: MeshtlsError) -> Outcome:
    try:
        return outcome_of(error)
    except LookupError:
        return Outcome.INTERNAL_ERROR
