"""Moves bytes between a client, an HTTP filter and an app that is dialled at the first allowed request.

As in the plain relay, nothing waits and nothing piles up: what a sink does not take stops the reading of its source,
and so does the filter while a ruling is pending. The end of a side is the filter's to interpret: an HTTP connection is
over when nothing more will be written to the client.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.ends import LARGE, End
from meshtls.sidecar.poller import Poller
from meshtls.tls.engine import MAX_OWED
from meshtls.wire.http import HttpFilter

__all__ = ["HttpRelay"]

_CLIENT_READ, _CLIENT_WRITE, _APP_READ, _APP_WRITE = 1, 2, 4, 8
_ANY_OF_CLIENT, _ANY_OF_APP = _CLIENT_READ | _CLIENT_WRITE, _APP_READ | _APP_WRITE


class HttpRelay:
    """Moves one connection's bytes between its client, the filter and the app. ``on_end`` is called once; its error is
    None if all was answered. ``dial`` is called when the app is wanted, and is answered by ``connected`` or
    ``unreachable``, at once or later.

    - ``last``: when a byte last moved, by ``now``, in seconds of a monotonic clock.
    - ``over``: ``on_end`` was called, and neither end is watched any more.

    Callbacks catch every exception and end the relay with it: raised, it would end the poller's whole batch.
    """

    __slots__ = (
        "_app",
        "_app_done",
        "_app_lost",
        "_client",
        "_client_done",
        "_dial",
        "_dialling",
        "_filter",
        "_flow",
        "_on_end",
        "_poller",
        "_told_app_end",
        "_told_client_end",
        "_turning",
        "_watched",
        "last",
        "now",
        "over",
    )

    def __init__(
        self,
        client: End,
        flow: Flow,
        poller: Poller,
        make_filter: Callable[[Callable[[], None]], HttpFilter],
        *,
        dial: Callable[[], None],
        on_end: Callable[[Exception | None], None],
        now: Callable[[], float],
    ) -> None:
        """``make_filter`` is given what the filter calls after a late ruling."""
        self._client = client
        self._app: End | None = None
        self._flow = flow
        self._poller = poller
        self._dial = dial
        self._on_end = on_end
        self._filter = make_filter(self._on_ruling)
        self._dialling = self._turning = False
        #: The app's connection broke, and its end is not used any more.
        self._app_lost = False
        #: Each side's end was passed to the filter, and ours was sent to it.
        self._told_client_end = self._told_app_end = self._client_done = self._app_done = False
        #: What the poller watches for now.
        self._watched = 0
        self.now = now
        self.last = now()
        self.over = False

    def start(self) -> None:
        """Pass on what has arrived, and then what arrives. The relay may be over when this returns."""
        self._guarded(self._take_early)

    def connected(self, app: End) -> None:
        """The app was dialled."""
        self._dialling = False
        self._app = app
        self._guarded(_nothing)

    def unreachable(self) -> None:
        """The app could not be dialled."""
        self._dialling = False
        self._guarded(self._filter.app_failed)

    def end_idle(self, timeout: float) -> None:
        self.end(EndedError(Outcome.IDLE_TIMEOUT, f"no byte moved for {timeout:g} s"))

    def end(self, error: Exception | None) -> None:
        """End it now."""
        if self.over:
            return
        self.over = True
        self._client.watch(self._poller, None, None)
        if self._app is not None:
            self._app.watch(self._poller, None, None)
        self._on_end(error)

    @property
    def client_ended(self) -> bool:
        """The client has ended its side, too: its connection can be closed without a loss."""
        return self._client.ended

    # -- what happens --

    def _on_client_readable(self) -> None:
        self._guarded(self._receive_from_client)

    def _on_client_writable(self) -> None:
        self._guarded(self._flush_client)

    def _on_app_readable(self) -> None:
        self._guarded(self._receive_from_app)

    def _on_app_writable(self) -> None:
        self._guarded(self._flush_app)

    def _on_client_broken(self) -> None:
        self._guarded(self._client.check)

    def _on_app_broken(self) -> None:
        self._guarded(self._check_app)

    def _on_ruling(self) -> None:
        if not self._turning:  # else the turn looks at the filter anyway
            self.last = self.now()
            self._guarded(_nothing)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step, and then all that follows from it."""
        if self.over:
            return
        before, self._turning = self._turning, True
        try:
            step()
            if not before:
                self._go_on()
        except Exception as error:  # noqa: BLE001  # see above
            self.end(error)
        finally:
            self._turning = before

    def _take_early(self) -> None:
        """What arrived before the relay began."""
        data = self._client.first(LARGE)
        if data:
            self._pass_to_filter(data)

    def _receive_from_client(self) -> None:
        data = self._client.receive(LARGE)
        if data is not None:
            self._pass_to_filter(data)

    def _pass_to_filter(self, data: bytes | memoryview) -> None:
        self.last = self.now()
        self._flow.bytes_in += len(data)
        self._filter.from_client(data)

    def _check_app(self) -> None:
        app = self._app
        if app is not None:
            try:
                app.check()
            except EndedError as error:
                self._lose_app(app, error)

    def _receive_from_app(self) -> None:
        app = self._app
        if app is None:
            return
        try:
            data = app.receive(LARGE)
        except EndedError as error:
            self._lose_app(app, error)
            return
        if data is not None:
            self.last = self.now()
            self._filter.from_app(data)

    def _lose_app(self, app: End, error: EndedError) -> None:
        """Its connection broke: pass on what it had sent before, and let the filter answer in its place. Raises the
        error if the client's connection has to break, too.
        """
        with contextlib.suppress(EndedError):
            while self._filter.reads_app and (data := app.receive(LARGE)) is not None:
                self._filter.from_app(data)
        if not self._filter.app_broke():
            raise error
        self._app_lost = True
        app.watch(self._poller, None, None)
        self._app = None

    def _flush_client(self) -> None:
        before = self._client.unsent
        self._client.flush()
        if self._client.unsent < before:
            self.last = self.now()  # a slow reader that leaves a rest is not idle

    def _flush_app(self) -> None:
        app = self._app
        if app is not None:
            before = app.unsent
            try:
                app.flush()
            except EndedError as error:
                self._lose_app(app, error)
                return
            if app.unsent < before:
                self.last = self.now()

    # -- what follows --

    def _go_on(self) -> None:
        while not self.over and self._turn():
            pass

    def _turn(self) -> bool:
        """True if it has to be repeated: a stream's bytes were kept while the client was not read."""
        filter_, client = self._filter, self._client
        kept = client.pushes and not self._watched & _CLIENT_READ
        if client.ended and not self._told_client_end and not kept:
            self._told_client_end = True
            filter_.client_ended()
        if filter_.wants_app and self._app is None and not self._dialling and not self._app_lost:
            self._dialling = True
            self._dial()
        app = self._app
        if app is not None and app.ended and not self._told_app_end:
            self._told_app_end = True
            filter_.app_ended()
        self._write(client, app)
        app = self._app
        if filter_.app_finished or filter_.client_finished:
            self._finish_sides()
            if self.over:
                return False
        if client.pushes:
            client.settle(self._app.unsent if self._app is not None else 0)
        self._watch()
        if kept and self._watched & _CLIENT_READ:
            self._take_early()
            return True
        return False

    def _write(self, client: End, app: End | None) -> None:
        """Write what the filter has for the sides that have no rest."""
        filter_ = self._filter
        to_client, to_app = not client.unsent, app is not None and not app.unsent and not self._app_done
        moved = True
        while moved:  # what one side took may be credit for the other, or make room for more
            moved = False
            # The app's side first: a request that is judged again then may be answered here.
            if to_app and app is not None and (data := filter_.for_app()):
                moved = True
                try:
                    to_app = app.transmit(data)
                except EndedError as error:
                    self._lose_app(app, error)
                    to_app = False
            if to_client and (data := filter_.for_client()):
                moved = True
                self._flow.bytes_out += len(data)
                if client.windowed:
                    client.room()  # ``transmit`` goes by it
                to_client = client.transmit(data)

    def _finish_sides(self) -> None:
        """Pass on the ends."""
        filter_, client, app = self._filter, self._client, self._app
        if app is not None and filter_.app_finished and not app.unsent and not self._app_done:
            self._app_done = True
            try:
                app.finish()
            except EndedError as error:
                self._lose_app(app, error)
        if filter_.client_finished and not client.unsent:
            if not self._client_done:
                self._client_done = True
                client.finish(last=client.ended)
            if not client.unsent:
                self.end(None)

    def _watch(self) -> None:
        """Watch each end for what it is now waited for."""
        filter_, client, app = self._filter, self._client, self._app
        wanted = 0
        # Each is asked for once, since these are most of what a turn costs.
        client_rest, app_rest, owed = client.unsent, app is not None and app.unsent, client.owed
        if client_rest or owed:
            wanted |= _CLIENT_WRITE
        held = app_rest or self._dialling
        # A stream that has ended may have bytes that were kept.
        open_ = not client.ended or (client.pushes and not self._told_client_end)
        if filter_.reads_client and not held and open_ and owed <= MAX_OWED:
            wanted |= _CLIENT_READ
        if app is not None:
            if app_rest:
                wanted |= _APP_WRITE
            if filter_.reads_app and not client_rest and not app.ended:
                wanted |= _APP_READ
        changed, self._watched = self._watched ^ wanted, wanted
        if changed & _ANY_OF_CLIENT or not wanted & _ANY_OF_CLIENT:
            self._watch_client(wanted)
        if app is not None and (changed & _ANY_OF_APP or not wanted & _ANY_OF_APP):
            self._watch_app(app, wanted)

    def _watch_client(self, wanted: int) -> None:
        read = self._on_client_readable if wanted & _CLIENT_READ else None
        write = self._on_client_writable if wanted & _CLIENT_WRITE else None
        self._client.watch(self._poller, read, write, None if read or write else self._on_client_broken)

    def _watch_app(self, app: End, wanted: int) -> None:
        read = self._on_app_readable if wanted & _APP_READ else None
        write = self._on_app_writable if wanted & _APP_WRITE else None
        app.watch(self._poller, read, write, None if read or write else self._on_app_broken)


def _nothing() -> None:
    """No step: look at the filter."""
