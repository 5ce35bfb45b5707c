"""A connection's one exit: whatever ended the phases becomes one ConnectionResult, and both sockets are closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from meshtls.errors import LocalIdentityError, PeerError
from meshtls.observe.events import Outcome, outcome_of
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.reporter import Reporter
from meshtls.sidecar.sockets import abort, close, linger

__all__ = ["Phases", "carry"]

Phases = Callable[[Connection], Awaitable[None]]
_Ending = tuple[Outcome, str]


async def carry(connection: Connection, phases: Phases, report: Reporter) -> None:
    """Run the phases, report, close. An unforeseen error is reported as INTERNAL_ERROR and goes on up."""
    outcome, detail = Outcome.INTERNAL_ERROR, "the sidecar itself failed; its own log has the traceback"
    try:
        outcome, detail = await _ending(connection, phases)
    finally:
        if not (connection.quiet and outcome.allowed):
            report(connection.result(outcome, detail))
        await _close(connection, clean=outcome is Outcome.OK)


async def _ending(connection: Connection, phases: Phases) -> _Ending:
    connection.task = asyncio.current_task()
    try:
        if connection.ended_by is not None:
            raise connection.ended_by
        await phases(connection)
    except (PeerError, LocalIdentityError) as error:
        return outcome_of(error), str(error)
    except EndedError as error:
        if error.parting is not None and error.parting.sock in (connection.opener, connection.dialled):
            connection.partings += (error.parting,)
        return error.outcome, str(error)
    except asyncio.CancelledError:
        if connection.ended_by is None:
            raise
        if connection.task is not None:
            connection.task.uncancel()
        return connection.ended_by.outcome, str(connection.ended_by)
    return Outcome.OK, "both sides ended it"


async def _close(connection: Connection, *, clean: bool) -> None:
    parting = {sock for sock, _ in connection.partings}
    for sock in (connection.opener, connection.dialled):
        if sock is None or sock in parting:
            continue
        if clean:
            close(sock)
        else:
            abort(sock)
    partings = list(connection.partings)
    try:
        while partings:
            await linger(*partings.pop())
    finally:
        for sock, _ in partings:
            close(sock)
