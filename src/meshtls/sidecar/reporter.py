"""The one exit of connections: whatever ended one becomes one ConnectionResult, and its consumer is told once.

A connection with a task of its own leaves through ``run``, which closes its sockets as well. A stream of a tunnel and
a connection that is refused before it has a task leave through ``report``.

The consumer is anybody's function, and so is each observer of what happens to connections before their end. A closed
log or a full disk must not end a tunnel, a listener or the sidecar, so what one raises is contained here: it is logged
once when it begins to fail, and once when it works again, with the number of results or events that were lost between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from meshtls.errors import AlertError, LocalIdentityError, PeerError
from meshtls.lazy_text import LazyText
from meshtls.logs import logger, of_connection, task_of_connection
from meshtls.observe.events import ConnectionResult, Outcome, RequestResult, outcome_of
from meshtls.observe.handshakes import Handshakes
from meshtls.observe.live import Ended, Event, Observer, Opened, RequestEnded
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.sockets import abort, close, linger
from meshtls.sidecar.states import ConnectionStep

__all__ = ["OnRequest", "OnResult", "Reporter", "Serve"]

log = logger("meshtls.sidecar")

OnResult = Callable[[ConnectionResult], None]
OnRequest = Callable[[RequestResult], None]
#: Takes a connection through its phases; raises how it ended, if not well.
Serve = Callable[[Connection], Awaitable[None]]


_T = TypeVar("_T")
_CLEAN = (Outcome.OK, "closed by both sides")
_PART, _END = ConnectionStep.PART, ConnectionStep.END


class _Contained(Generic[_T]):
    """A consumer whose errors end nothing: ``lost`` counts what it failed on since it last worked."""

    __slots__ = ("_consume", "_each", "_name", "lost")

    def __init__(self, consume: Callable[[_T], None], name: str, each: str) -> None:
        self.lost = 0
        self._consume = consume
        self._name = name
        self._each = each

    def give(self, item: _T, sidecar: str) -> None:
        try:
            self._consume(item)
        except (Exception, asyncio.CancelledError):  # it is anybody's function; see above
            self.lost += 1
            if self.lost == 1:
                log.exception(
                    "sidecar %s: %s failed on a connection's %s; connections go on unreported",
                    sidecar,
                    self._name,
                    self._each,
                )
        else:
            if self.lost:
                log.warning("sidecar %s: %s works again; %d %ss were lost", sidecar, self._name, self.lost, self._each)
                self.lost = 0

    def close(self, sidecar: str) -> None:
        if self.lost:
            message = "sidecar %s: %s did not work to the end; %d %ss were lost"
            log.warning(message, sidecar, self._name, self.lost, self._each)
            self.lost = 0


class Reporter:
    """Gives each end to ``on_result``, each HTTP request to ``on_request``, and every event of a connection to the
    observers (``observe/live.py``).

    ``observed``: there are observers of every event. ``wants_requests``: somebody is told of HTTP requests.
    ``handshakes`` keeps messages of some handshakes; None where nobody can ask for them.
    """

    def __init__(
        self,
        on_result: OnResult,
        poller: Poller,
        on_request: OnRequest | None = None,
        handshakes: Handshakes | None = None,
    ) -> None:
        self._poller = poller
        self.handshakes = handshakes
        self._results = _Contained(on_result, "on_result", "result")
        self._requests = _Contained(on_request, "on_request", "request") if on_request is not None else None
        self._observers: tuple[_Contained[Event], ...] = ()
        self._of_ends: tuple[_Contained[Event], ...] = ()
        self._set_observed()

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Give ``observer`` every event from now on; call what this returns to stop. Its exceptions are logged and have
        no other effect. ``Registry.live`` has the connections that were opened before.
        """
        contained = _Contained(observer, "an observer", "event")
        self._observers += (contained,)
        self._set_observed()

        def stop() -> None:
            self._observers = tuple(one for one in self._observers if one is not contained)
            self._set_observed()

        return stop

    def observe_ends(self, observer: Observer) -> None:
        """As ``observe``, with ``Ended`` and ``RequestEnded`` alone: no other event has to be made for it."""
        self._of_ends += (_Contained(observer, "an observer", "event"),)
        self._set_observed()

    def _set_observed(self) -> None:
        self._all = self._observers + self._of_ends
        self.observed = bool(self._observers)
        self.wants_requests = bool(self._all) or self._requests is not None

    def tell(self, event: Event, sidecar: str) -> None:
        for observer in self._observers:
            observer.give(event, sidecar)

    def opened(self, connection: Connection) -> None:
        """Note that a connection or a stream was opened."""
        connection.events = self
        if self.observed:
            opened = Opened(connection.number, connection.direction, connection.local_id, connection.live)
            self.tell(opened, connection.sidecar)

    def request(self, connection: Connection, result: RequestResult) -> None:
        """Report an HTTP request of this connection."""
        if self._requests is not None:
            self._requests.give(result, connection.sidecar)
        if self._all:
            event = RequestEnded(connection.number, result)
            for observer in self._all:
                observer.give(event, connection.sidecar)

    async def run(self, connection: Connection, phases: Serve) -> None:
        """Take the connection through its phases in this task, report how it ended, and close its sockets."""
        task = connection.task = asyncio.current_task()
        error: BaseException | None = connection.ended_by  # ended before the first step of its task
        try:
            if error is None:
                task_of_connection(connection)
                await phases(connection)
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
            await _close(connection, error, self._poller, clean=outcome is Outcome.OK)
            connection.step(_END)

    def report(self, connection: Connection, error: BaseException | None) -> Outcome:
        """Report how a connection ended; ``error`` None is a clean end. Raises nothing but what ends the process."""
        with of_connection(connection):
            outcome, detail = _CLEAN if error is None else _ending(connection, error)
            connection.step(_PART if connection.partings else _END)
            connection.reported = True
            wanted = not (connection.is_tunnel and outcome.allowed)
            if wanted or self._all:
                result = connection.result(outcome, detail)
                if wanted:
                    self._results.give(result, connection.sidecar)
                if self._all:
                    ended = Ended(
                        connection.number,
                        result,
                        connection.is_tunnel,
                        connection.trace,
                        connection.shares_id,
                        connection.timed,
                        connection.resumed,
                    )
                    for observer in self._all:
                        observer.give(ended, connection.sidecar)
            return outcome

    def close(self, sidecar: str) -> None:
        """Log how many results and events were lost, if that was not logged yet."""
        self._results.close(sidecar)
        if self._requests is not None:
            self._requests.close(sidecar)
        for observer in self._all:
            observer.close(sidecar)

    def __repr__(self) -> str:
        return f"<Reporter [{self._results.lost} lost, {len(self._all)} observers]>"


def _ending(connection: Connection, error: BaseException) -> tuple[Outcome, str | LazyText]:
    """The outcome and the detail of ``error``. An unexpected one also goes to the loop's exception handler."""
    if isinstance(error, EndedError):
        connection.alert_received = error.alert or connection.alert_received
        return error.outcome, error.words
    if isinstance(error, AlertError):
        connection.alert_received = error.alert
    if isinstance(error, PeerError | LocalIdentityError):
        return outcome_of(error), error.words
    if isinstance(error, Exception):
        message = f"sidecar {connection.sidecar}: a {'stream' if connection.is_stream else 'connection'} failed"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
        return Outcome.INTERNAL_ERROR, "the sidecar itself failed; its own log has the traceback"
    return Outcome.INTERNAL_ERROR, "the connection's task was cancelled"


async def _close(connection: Connection, error: BaseException | None, poller: Poller, *, clean: bool) -> None:
    sockets = connection.opener, connection.dialled
    partings = list(connection.partings)
    if isinstance(error, EndedError) and error.parting is not None and error.parting.sock in sockets:
        partings.append(error.parting)
    parting = {sock for sock, _ in partings}
    for sock in sockets:
        if sock is None or sock in parting:
            continue
        if clean:
            close(sock, poller)
        else:
            abort(sock, poller)
    try:
        while partings:
            sock, unsent = partings.pop()
            await linger(sock, poller, unsent)
    finally:
        for sock, _ in partings:
            close(sock, poller)
