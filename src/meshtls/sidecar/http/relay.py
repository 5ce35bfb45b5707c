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
#: What is watched between two messages.
_BOTH_READ = _CLIENT_READ | _APP_READ


class HttpRelay:
    """Moves one connection's bytes between its client, the filter and the app. ``on_end`` is called once; its error is
    None if all was answered. ``dial`` is called when the app is wanted, and is answered by ``connected`` or
    ``unreachable``, at once or later.

    - ``last``: when a byte last moved, in seconds of the loop's clock: mostly the time of the poller's wake-up, as in
      the plain relay.
    - ``over``: ``on_end`` was called, and neither end is watched any more.

    Callbacks catch every exception and end the relay with it: raised, it would end the poller's whole batch.

    What arrives from either side takes few calls here, ``_on_client_readable`` or ``_on_app_readable`` and ``_turn``,
    although they are long: each HTTP request pays for them, and a call costs as much as a few lines.
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
        "_pushes",
        "_told_app_end",
        "_told_client_end",
        "_turning",
        "_watched",
        "_windowed",
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
        """``make_filter`` is given what the filter calls after a late ruling. ``now``: the loop's time."""
        self._client = client
        self._pushes, self._windowed = client.pushes, client.windowed
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
        self._guarded(self._begin_app)

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
        # As ``_guarded`` with a step of its own.
        if self.over:
            return
        before, self._turning = self._turning, True
        try:
            data = self._client.receive(LARGE)
            if data is not None:
                self.last = self._poller.now
                self._flow.bytes_in += len(data)
                self._filter.from_client(data)
            if not before:
                while self._turn():
                    pass
        except Exception as error:  # noqa: BLE001  # see above
            self.end(error)
        finally:
            self._turning = before

    def _on_app_readable(self) -> None:
        app = self._app
        if self.over or app is None:
            return
        before, self._turning = self._turning, True
        try:
            try:
                data = app.receive(LARGE)
            except EndedError as error:
                self._lose_app(app, error)
            else:
                if data is not None:
                    self.last = self._poller.now
                    self._filter.from_app(data)
            if not before:
                while self._turn():
                    pass
        except Exception as error:  # noqa: BLE001  # see above
            self.end(error)
        finally:
            self._turning = before

    def _on_client_writable(self) -> None:
        self._guarded(self._flush_client)

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
                while self._turn():
                    pass
        except Exception as error:  # noqa: BLE001  # see above
            self.end(error)
        finally:
            self._turning = before

    def _take_early(self) -> None:
        """What arrived before the relay began."""
        data = self._client.first(LARGE)
        if data:
            self.last = self.now()
            self._flow.bytes_in += len(data)
            self._filter.from_client(data)

    def _begin_app(self) -> None:
        """The requests that waited for the app go on, unless they are judged again."""
        app, data = self._app, self._filter.for_app()
        if app is not None and data:
            try:
                app.transmit(data)
            except EndedError as error:
                self._lose_app(app, error)

    def _check_app(self) -> None:
        app = self._app
        if app is not None:
            try:
                app.check()
            except EndedError as error:
                self._lose_app(app, error)

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
            self.last = self._poller.now  # a slow reader that leaves a rest is not idle

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
                self.last = self._poller.now

    # -- what follows --

    def _turn(self) -> bool:
        """Pass on the ends, write what the filter has, and watch each end for what it is now waited for.

        True if it has to be repeated: a stream's bytes were kept while the client was not read.
        """
        if self.over:
            return False
        filter_, client, app = self._filter, self._client, self._app
        kept = self._pushes and not self._watched & _CLIENT_READ
        if client.ended and not self._told_client_end and not kept:
            self._told_client_end = True
            filter_.client_ended()
        if app is None:
            if filter_.wants_app and not self._dialling and not self._app_lost:
                self._dialling = True
                self._dial()
                if self.over:
                    return False
                app = self._app
        elif app.ended and not self._told_app_end:
            self._told_app_end = True
            filter_.app_ended()

        to_client, to_app = not client.unsent, app is not None and not app.unsent and not self._app_done
        while True:  # what one side took may be credit for the other, or make room for more
            # The app's side first: a request that is judged again then may be answered here.
            if to_app and app is not None and filter_.queued_for_app:
                try:
                    to_app = app.transmit(filter_.for_app())
                except EndedError as error:
                    self._lose_app(app, error)
                    app, to_app = None, False
            elif to_client and filter_.queued_for_client:
                data = filter_.for_client()
                self._flow.bytes_out += len(data)
                if self._windowed:
                    client.room()  # ``transmit`` goes by it
                to_client = client.transmit(data)
            else:
                break
        if filter_.app_finished or filter_.client_finished:
            self._finish_sides()
            app = self._app
        if self.over:
            return False
        if self._pushes:
            client.settle(app.unsent if app is not None else 0)

        wanted = 0
        if app is not None:
            if app.unsent:
                wanted = _APP_WRITE
            if filter_.reads_app and not client.unsent and not app.ended:
                wanted |= _APP_READ
        if client.unsent:
            wanted |= _CLIENT_WRITE
        # A stream that has ended may have bytes that were kept.
        open_ = not client.ended or (self._pushes and not self._told_client_end)
        if (
            filter_.reads_client
            and open_
            and not wanted & _APP_WRITE
            and not self._dialling
            and client.owed <= MAX_OWED
        ):
            wanted |= _CLIENT_READ
        if wanted != _BOTH_READ or self._watched != _BOTH_READ:
            self._watch(wanted)
        if kept and wanted & _CLIENT_READ:
            self._take_early()
            return True
        return False

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

    def _watch(self, wanted: int) -> None:
        app = self._app
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
