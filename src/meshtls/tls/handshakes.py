"""How each handshake of ``dial`` and ``listen`` ended: counted for ``meshtls.metrics``, and told to observers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from meshtls.errors import HandshakeTimeoutError, MeshtlsError
from meshtls.logs import logger
from meshtls.observe.events import Outcome, outcome_of
from meshtls.spiffeid import SpiffeId
from meshtls.tls.counts import count

__all__ = ["Handshake", "observe_handshakes", "observed"]

log = logger("meshtls.tls")


@dataclass(slots=True)
class Handshake:
    """One attempt of ``dial``, or one connection that ``listen`` accepted.

    - ``host``, ``port``: where ``dial`` connects to, or where the client is.
    - ``began``, ``ended``: nanoseconds since 1970. Connecting is included for ``dial``.
    - ``peer``: its SPIFFE ID, where it was verified and authorized. ``detail`` says why it failed.
    """

    dialled: bool
    host: str = ""
    port: int = 0
    peer: SpiffeId | None = None
    outcome: Outcome = Outcome.INTERNAL_ERROR
    detail: str = ""
    began: int = field(default_factory=time.time_ns)
    ended: int = 0


_observers: list[Callable[[Handshake], None]] = []


def observe_handshakes(observer: Callable[[Handshake], None]) -> Callable[[], None]:
    """Call ``observer`` at the end of each handshake of this process, in its task, until what is returned is called.

    What it raises is logged, and changes nothing.
    """
    _observers.append(observer)

    def stop() -> None:
        if observer in _observers:
            _observers.remove(observer)

    return stop


@contextmanager
def observed(handshake: Handshake) -> Iterator[Handshake]:
    """Note how the handshake in the body ends; the body sets its ``peer``."""
    try:
        yield handshake
        handshake.outcome = Outcome.OK
    except MeshtlsError as error:
        handshake.outcome, handshake.detail = _outcome(error), str(error)
        raise
    except TimeoutError:
        handshake.outcome, handshake.detail = _outcome(HandshakeTimeoutError("")), "it was not finished in time"
        raise
    except OSError as error:
        handshake.outcome, handshake.detail = Outcome.CONNECT_FAILED, str(error)
        raise
    finally:
        count(handshake.outcome, dialled=handshake.dialled)
        if _observers:
            _tell(handshake)


def _tell(handshake: Handshake) -> None:
    handshake.ended = time.time_ns()
    for observer in tuple(_observers):
        try:
            observer(handshake)
        except Exception:
            log.exception("an observer of handshakes failed")


def _outcome(error: MeshtlsError) -> Outcome:
    try:
        return outcome_of(error)
    except LookupError:
        return Outcome.INTERNAL_ERROR
