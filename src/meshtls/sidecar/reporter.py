"""The one exit of connections: whatever ended one becomes one ConnectionResult, and its consumer is told once.

A connection with a task of its own leaves through ``carry``, which closes its sockets as well. A stream of a tunnel and
a connection that is refused before it has a task leave through ``report``.

The consumer is anybody's function. A closed log or a full disk must not end a tunnel, a listener or the sidecar, so
what it raises is contained here: it is logged once when it begins to fail, and once when it works again, with the
number of results that were lost in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from meshtls.errors import LocalIdentityError, PeerError
from meshtls.logs import logger
from meshtls.observe.events import ConnectionResult, Outcome, outcome_of
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.sockets import abort, close, linger

__all__ = ["OnResult", "Phases", "Reporter"]

log = logger("meshtls.sidecar")

OnResult = Callable[[ConnectionResult], None]
#: Takes a connection through its phases; raises how it ended, if not well.
Phases = Callable[[Connection], Awaitable[None]]


class Reporter:
    """``lost`` counts the results that ``on_result`` failed on since it last worked."""

    def __init__(self, on_result: OnResult) -> None:
        self.lost = 0
        self._on_result = on_result

    async def carry(self, connection: Connection, phases: Phases) -> None:
        """Take the connection through its phases in this task, report how it ended, and close its sockets."""
        task = connection.task = asyncio.current_task()
        error: BaseException | None = None
        try:
            await _run(connection, phases)
        except asyncio.CancelledError as cancelled:
            error = connection.ended_by or cancelled
            if error is cancelled:
                raise
            if task is not None:
                task.uncancel()
        except Exception as failure:  # noqa: BLE001  # it ends this connection, and is reported
            error = failure
        finally:
            outcome = self.report(connection, error)
            await _close(connection, error, clean=outcome is Outcome.OK)

    def report(self, connection: Connection, error: BaseException | None) -> Outcome:
        """Report how a connection ended; None is well. Never raises, except what ends the process."""
        outcome, detail = _ending(connection, error)
        if not (connection.quiet and outcome.allowed):
            self._deliver(connection.result(outcome, detail))
        return outcome

    def _deliver(self, result: ConnectionResult) -> None:
        try:
            self._on_result(result)
        except (Exception, asyncio.CancelledError):  # it is anybody's function; see above
            self.lost += 1
            if self.lost == 1:
                log.exception(
                    "sidecar %s: on_result failed on a connection's result; connections go on unreported",
                    result.sidecar,
                )
        else:
            if self.lost:
                log.warning("sidecar %s: on_result works again; %d results were lost", result.sidecar, self.lost)
                self.lost = 0

    def close(self, sidecar: str) -> None:
        """Say how many results were lost, where that has not been said."""
        if self.lost:
            log.warning("sidecar %s: on_result did not work to the end; %d results were lost", sidecar, self.lost)
            self.lost = 0

    def __repr__(self) -> str:
        return f"<Reporter [{self.lost} lost]>"


def _ending(connection: Connection, error: BaseException | None) -> tuple[Outcome, str]:
    """The outcome and the detail that stand for ``error``. One that nobody foresaw is given to the loop as well."""
    if error is None:
        return Outcome.OK, "closed by both sides"
    if isinstance(error, EndedError):
        return error.outcome, str(error)
    if isinstance(error, PeerError | LocalIdentityError):
        return outcome_of(error), str(error)
    if isinstance(error, Exception):
        message = f"sidecar {connection.sidecar}: a {'stream' if connection.tunnel else 'connection'} failed"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
    return Outcome.INTERNAL_ERROR, "the sidecar itself failed; its own log has the traceback"


async def _run(connection: Connection, phases: Phases) -> None:
    if connection.ended_by is not None:
        raise connection.ended_by  # before its task took a step
    await phases(connection)


async def _close(connection: Connection, error: BaseException | None, *, clean: bool) -> None:
    sockets = connection.opener, connection.dialled
    partings = list(connection.partings)
    if isinstance(error, EndedError) and error.parting is not None and error.parting.sock in sockets:
        partings.append(error.parting)
    parting = {sock for sock, _ in partings}
    for sock in sockets:
        if sock is None or sock in parting:
            continue
        if clean:
            close(sock)
        else:
            abort(sock)
    try:
        while partings:
            await linger(*partings.pop())
    finally:
        for sock, _ in partings:
            close(sock)
