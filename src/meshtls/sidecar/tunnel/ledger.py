"""Each stream counts as a connection: it is in the registry while it lives, and is reported once when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshtls.errors import LocalIdentityError, PeerError
from meshtls.observe.events import Outcome, outcome_of
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.partings import Partings
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter

__all__ = ["Ledger"]


class Ledger:
    """What the streams of a sidecar's tunnels share."""

    def __init__(self, registry: Registry, report: Reporter) -> None:
        self._registry = registry
        self._report = report
        self.partings = Partings()

    @property
    def full(self) -> bool:
        return self._registry.full

    @property
    def limit(self) -> int:
        return self._registry.limit

    def prove(self, connection: Connection) -> None:
        """``Registry.prove``; raises EndedError as that does."""
        self._registry.prove(connection)

    def enter(self, connection: Connection, break_off: Callable[[EndedError], None]) -> None:
        """List it; a third party that ends it calls ``break_off``."""
        connection.break_off = break_off
        self._registry.enter(connection)

    def leave(self, connection: Connection, error: Exception | None) -> None:
        """Report how it ended; None is well."""
        self._registry.leave(connection)
        connection.break_off = None  # each knows the other: left so, they would be the garbage collector's work
        self._report(connection.result(*_ending(connection, error)))


def _ending(connection: Connection, error: Exception | None) -> tuple[Outcome, str]:
    if error is None:
        return Outcome.OK, "both sides ended it"
    if isinstance(error, EndedError):
        return error.outcome, str(error)
    if isinstance(error, PeerError | LocalIdentityError):
        return outcome_of(error), str(error)
    message = f"sidecar {connection.sidecar}: a stream failed"
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
    return Outcome.INTERNAL_ERROR, "the sidecar itself failed; its own log has the traceback"
