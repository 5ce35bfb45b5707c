"""Moves application bytes between two ends, as they come, until both have ended.

HTTP that is judged has a relay of its own (``http/relay.py``).

Each direction receives once per wake-up, so that connections share the loop fairly. It stops receiving while its sink
has unsent bytes or no room: this back-pressure slows the writer, and nothing piles up here. It also stops for a peer
that causes TLS responses (KeyUpdate) and does not read them. The end of one direction is passed on as a half-close
(FIN, close_notify, END_STREAM) while the other goes on. A TLS peer whose TCP ends without close_notify was cut off, so
its bytes must not look complete to the other side.

There is no task switch per message: the poller, or a stream's tunnel, calls straight into ``_Pump``. Between two
sockets, the connection's task sleeps until the relay is over; a stream has no task at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.ends import LARGE, Callback, End
from meshtls.sidecar.idle import Idler
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.reactor import Reactor
from meshtls.tls.engine import MAX_OWED

__all__ = ["Joined", "Relay", "relay", "run_to_end", "set_done"]


def relay(opener: End, other: End, flow: Flow, idle_timeout: float, reactor: Reactor) -> Coroutine[Any, Any, None]:
    """Await it: it returns when both directions have ended. Raises EndedError: RESET, IDLE_TIMEOUT or HANDSHAKE_FAILED.

    ``flow`` is counted up as bytes move; ``idle_timeout``, in seconds, applies to both directions together.
    """
    # No coroutine of its own: each would keep 300 bytes for as long as the connection lives.
    done: asyncio.Future[None] = reactor.loop.create_future()
    joined = Relay(opener, other, flow, reactor.poller, partial(set_done, done), reactor.loop.time())
    return run_to_end(joined, done, idle_timeout, reactor)


class Joined(Idler, Protocol):
    """What moves a connection's bytes: a relay, or an HTTP relay."""

    def start(self) -> None:
        """Pass on what has arrived, and then what arrives."""

    def end(self, error: Exception | None) -> None:
        """End it now."""


async def run_to_end(joined: Joined, done: asyncio.Future[None], idle_timeout: float, reactor: Reactor) -> None:
    """Start it, and return when ``done`` is, as its ``on_end`` sets it. Raises what it ended with."""
    reactor.idle.add(joined, idle_timeout)
    try:
        joined.start()
        await done
    finally:
        reactor.idle.remove(joined, idle_timeout)
        joined.end(None)


def set_done(done: asyncio.Future[None], error: Exception | None) -> None:
    """Wake the task that waits for the end of a relay."""
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class Relay:
    """Two pumps and what they share. ``on_end`` is called once; its error is None if both directions have ended.

    - ``last``: when a byte last moved, in seconds of the loop's clock. It is the time of the poller's wake-up, since to
      ask for the time would cost a call for each message.
    - ``over``: ``on_end`` was called, and neither end is watched any more.
    """

    __slots__ = ("_on_end", "_pumps", "last", "over", "poller")

    def __init__(
        self,
        opener: End,
        other: End,
        flow: Flow,
        poller: Poller,
        on_end: Callable[[Exception | None], None],
        now: float,
    ) -> None:
        """``now``: the loop's time."""
        self._on_end = on_end
        self.poller = poller
        inward = _Pump(self, opener, other, flow, inward=True)
        outward = _Pump(self, other, opener, flow, inward=False)
        inward.twin, outward.twin = outward, inward
        self._pumps: tuple[_Pump, ...] = (inward, outward)
        self.last = now
        self.over = False

    def start(self) -> None:
        """Pass on what has arrived, and then what arrives. The relay may be over when this returns."""
        pumps, began = self._pumps, self.last
        for pump in pumps:
            if not self.over:
                pump.start()
        self.last = began  # the poller's latest wake-up may have been before
        for pump in pumps:
            pump.watch_source()

    def end_idle(self, timeout: float) -> None:
        self.end(EndedError(Outcome.IDLE_TIMEOUT, f"no byte moved for {timeout:g} s"))

    def end(self, error: Exception | None) -> None:
        """End it now."""
        if self.over:
            return
        self.over = True
        # Break the reference cycle of relay and pumps: it would stay until the garbage collector runs.
        pumps, self._pumps = self._pumps, ()
        for pump in pumps:
            pump.twin = None
            pump.source.watch(self.poller, None, None)
        self._on_end(error)


class _Pump:
    """One direction; ``twin`` is the other, whose sink is this one's source. It is None once the relay is over.

    - Relaying: it ``reads`` from the source.
    - Blocked: it ``waits``, since the sink has unsent bytes or had no room, and reads on only where the source is a
      stream, whose window bounds what comes.
    - ``_finishing``: the source has ended, and it ``waits`` until the sink has sent the rest.
    - ``done``: the sink has been told of the end. It only ``waits`` again for TLS's own responses to be sent.

    The callbacks catch every exception and end the relay with it: raised, it would end the poller's whole batch, or
    the tunnel.

    There are three for what can be received: ``on_readable`` between sockets, ``on_readable_for_stream`` where the sink
    is a stream, and ``on_pushed`` where the source is. They differ in a line or two, and stand apart because CPython
    specializes code for the types that it sees: code shared by sockets and streams would lose that with each message
    of a tunnel. For the same reason all three are of one class.
    """

    __slots__ = (
        "_finishing",
        "_flow",
        "_inward",
        "_pushed",
        "_relay",
        "_windowed",
        "done",
        "reads",
        "sink",
        "source",
        "twin",
        "waits",
    )

    def __init__(self, relay: Relay, source: End, sink: End, flow: Flow, *, inward: bool) -> None:
        """``inward``: the bytes are those from the connection's opener."""
        self._relay = relay
        self._flow = flow
        self._inward = inward
        self._pushed = source.pushes
        self._windowed = sink.windowed
        self._finishing = self.done = self.waits = False
        self.source = source
        self.sink = sink
        self.twin: _Pump | None = None
        self.reads = True

    def start(self) -> None:
        """Pass on what arrived before the relay began."""
        relay, source = self._relay, self.source
        try:
            data = source.first(self.sink.room() if self._windowed else LARGE)
            if data:
                self._pass_pushed(data) if self._pushed else self._pass(data)
            elif source.ended:
                self._finish()
            if source.owed:
                self._wait_for_source()
        except Exception as error:  # noqa: BLE001  # see above
            relay.end(error)

    def on_readable(self) -> None:
        relay, source = self._relay, self.source
        try:
            data = source.receive(LARGE)
            if data is not None:
                self._pass(data)
            elif source.ended:
                self._finish()
            if source.owed:
                self._wait_for_source()
        except Exception as error:  # noqa: BLE001  # see above
            relay.end(error)

    def on_readable_for_stream(self) -> None:
        """Receive no more than the windows have room for, and drop what was for a peer that left."""
        relay, source, sink = self._relay, self.source, self.sink
        try:
            room = sink.room()
            if room <= 0:
                self._wait_for_sink()
                return
            data = source.receive(room)
            if data is None:
                if source.ended:
                    self._finish()
            elif not sink.discards:
                self._pass(data)
            if source.owed:
                self._wait_for_source()
        except Exception as error:  # noqa: BLE001  # see above
            relay.end(error)

    def on_pushed(self) -> None:
        relay, source = self._relay, self.source
        try:
            data = source.receive(LARGE)
            if data is not None:
                self._pass_pushed(data)
            elif source.ended:
                self._finish()
        except Exception as error:  # noqa: BLE001  # see above
            relay.end(error)

    def _pass(self, data: bytes | memoryview) -> None:
        self._relay.last = self._relay.poller.now
        if self._inward:
            self._flow.bytes_in += len(data)
        else:
            self._flow.bytes_out += len(data)
        if not self.sink.transmit(data):
            self._wait_for_sink()
        elif self.source.ended:
            self._finish()

    def _pass_pushed(self, data: bytes | memoryview) -> None:
        """As ``_pass``: the peer gets credit only for what the sink has sent."""
        relay, source, sink = self._relay, self.source, self.sink
        relay.last = relay.poller.now
        if self._inward:
            self._flow.bytes_in += len(data)
        else:
            self._flow.bytes_out += len(data)
        sent = sink.transmit(data)
        source.settle(0 if sent else sink.unsent)
        if not sent:
            self._wait_for_sink()
        elif source.ended:
            self._finish()

    def on_writable(self) -> None:
        relay, source, sink = self._relay, self.source, self.sink
        try:
            before = sink.unsent
            flushed = sink.flush()
            if sink.unsent < before:
                relay.last = relay.poller.now  # a slow reader that leaves a rest is not idle
                if self._pushed:
                    source.settle(sink.unsent)
            if flushed:
                self._resume()
        except Exception as error:  # noqa: BLE001  # see above
            relay.end(error)

    def on_broken(self) -> None:
        """The source, which is neither read nor written now, reported an error or a hang-up."""
        try:
            self.source.check()
        except Exception as error:  # noqa: BLE001  # see above
            self._relay.end(error)

    def watch_source(self) -> None:
        """Watch the source for what this pump, which reads it, and the twin, which writes it, now wait for."""
        twin, source = self.twin, self.source
        if twin is None:
            return
        read: Callback = None
        if self.reads:
            if self._pushed:
                read = self.on_pushed
            elif source.owed <= MAX_OWED:
                read = self.on_readable_for_stream if self._windowed else self.on_readable
        write = twin.on_writable if twin.waits else None
        # Only for an end that we neither read nor write: otherwise the read or the write reports a reset.
        source.watch(self._relay.poller, read, write, self.on_broken if read is write is None else None)

    def _wait_for_sink(self) -> None:
        """Receive no more until the sink has sent its rest, or has room."""
        self.reads, self.waits = self._pushed, True
        self._changed()

    def _wait_for_source(self) -> None:
        """The source has unsent TLS responses: receive nothing that is to be sent to it until they are sent."""
        if self.twin is not None:
            self.twin._wait_for_sink()

    def _resume(self) -> None:
        self.waits = False
        if self._finishing:
            self._end()
        elif self.source.ended:
            self._finish()
        else:
            self.reads = True
        self._changed()

    def _finish(self) -> None:
        self._finishing = True
        # Of a stream's relay the app is closed at once when both directions are over.
        if self.sink.finish(last=self._pushed and self.twin is not None and self.twin.done):
            self._end()
        else:
            self._wait_for_sink()

    def _end(self) -> None:
        self.done = True
        self.reads = False
        if self.twin is not None and self.twin.done:
            self._relay.end(None)
        else:
            self.watch_source()

    def _changed(self) -> None:
        self.watch_source()
        if self.twin is not None:
            self.twin.watch_source()
