"""Moves application bytes between two ends, as they come, until both have ended. The only loop that does.

Each direction takes one receive per wake-up, which keeps the many fair to each other, and stops receiving while its
sink has a rest to send or no room: a slow reader slows its writer and nothing piles up here. Nor does it receive from a
peer that asks TLS for answers and does not read them. The end of one direction is passed on as a half-close (FIN,
close_notify, END_STREAM) while the other goes on. A TLS peer whose TCP ends without close_notify was cut off, so its
bytes must not look complete to the other side.

There is no task switch per message: the poller, or the tunnel that a stream belongs to, calls straight into ``_Pump``.
Of two sockets the connection's task sleeps until the relay is over; a stream has no task at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.ends import LARGE, End
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.reactor import Reactor
from meshtls.tls.engine import MAX_OWED

__all__ = ["Relay", "relay"]


async def relay(opener: End, other: End, flow: Flow, idle_timeout: float, reactor: Reactor) -> None:
    """Return when both directions have ended. Raises EndedError: RESET, IDLE_TIMEOUT or HANDSHAKE_FAILED.

    ``flow`` is counted up as bytes move; ``idle_timeout`` is in seconds and counts both directions together.
    """
    done: asyncio.Future[None] = reactor.loop.create_future()
    joined = Relay(opener, other, flow, reactor.poller, partial(_set_done, done), reactor.loop.time)
    reactor.idle.add(joined, idle_timeout)
    try:
        joined.start()
        await done
    finally:
        reactor.idle.remove(joined, idle_timeout)
        joined.end(None)


def _set_done(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class Relay:
    """Two pumps and what they share. ``on_end`` is called once; its error is None where both directions have ended.

    - ``last``: when a byte last moved, by ``now``, in seconds of a monotonic clock.
    - ``over``: ``on_end`` was called, and both ends are left alone.
    """

    __slots__ = ("_on_end", "_pumps", "last", "now", "over", "poller")

    def __init__(
        self,
        opener: End,
        other: End,
        flow: Flow,
        poller: Poller,
        on_end: Callable[[Exception | None], None],
        now: Callable[[], float],
    ) -> None:
        self._on_end = on_end
        self.poller = poller
        inward = _Pump(self, opener, other, flow, inward=True)
        outward = _Pump(self, other, opener, flow, inward=False)
        inward.twin, outward.twin = outward, inward
        self._pumps: tuple[_Pump, ...] = (inward, outward)
        self.now = now
        self.last = now()
        self.over = False

    def start(self) -> None:
        """Pass on what came before, and from now on what comes. It may be over when this returns."""
        pumps = self._pumps
        for pump in pumps:
            if not self.over:
                pump.on_readable(first=True)
        for pump in pumps:
            pump.watch_source()

    def end_idle(self, timeout: float) -> None:
        self.end(EndedError(Outcome.IDLE_TIMEOUT, f"no byte moved for {timeout:g} s"))

    def end(self, error: Exception | None) -> None:
        """End it now."""
        if self.over:
            return
        self.over = True
        # Without the pumps there is no circle of objects, which would be the garbage collector's work.
        pumps, self._pumps = self._pumps, ()
        for pump in pumps:
            pump.twin = None
            pump.source.watch(self.poller, None, None)
        self._on_end(error)


class _Pump:
    """One direction; ``twin`` is the other, whose sink is this one's source. It is None once the relay is over.

    ``reads``: it wants what its source has. ``waits``: its sink has a rest, or had no room.

    The callbacks catch every exception: what they raised would end not this relay but the poller's whole batch, or the
    tunnel. It goes to whoever has the relay.
    """

    __slots__ = (
        "_finishing",
        "_flow",
        "_inward",
        "_pushed",
        "_relay",
        "_windowed",
        "over",
        "reads",
        "sink",
        "source",
        "twin",
        "waits",
    )

    def __init__(self, relay: Relay, source: End, sink: End, flow: Flow, *, inward: bool) -> None:
        self._relay = relay
        self._flow = flow
        self._inward = inward
        self._finishing = False
        self._pushed, self._windowed = source.pushes, sink.windowed
        self.source = source
        self.sink = sink
        self.twin: _Pump | None = None
        self.over = False
        self.reads = True
        self.waits = False

    def on_readable(self, *, first: bool = False) -> None:
        """``first``: pass on what came before."""
        relay, source = self._relay, self.source
        try:
            room, sink = LARGE, self.sink
            if self._windowed:
                room = sink.room()
                if room <= 0 and not self._pushed and not first:
                    self._wait_for_sink()
                    return
            data = (source.first(room) or None) if first else source.receive(room)
            if data is None:
                if source.ended:
                    self._finish()
            elif not (self._windowed and sink.discards):
                relay.last = relay.now()
                if self._inward:
                    self._flow.bytes_in += len(data)
                else:
                    self._flow.bytes_out += len(data)
                sent = sink.transmit(data)
                if self._pushed:
                    source.settle(0 if sent else sink.unsent)
                if not sent:
                    self._wait_for_sink()
                elif source.ended:
                    self._finish()
            if source.owed:
                self._wait_for_source()
        except Exception as error:  # noqa: BLE001  # see above
            relay.end(error)

    def on_writable(self) -> None:
        relay, source, sink = self._relay, self.source, self.sink
        try:
            before = sink.unsent
            flushed = sink.flush()
            if sink.unsent < before:
                relay.last = relay.now()  # a reader so slow that a rest stays is not idle
                if self._pushed:
                    source.settle(sink.unsent)
            if flushed:
                self._resume()
        except Exception as error:  # noqa: BLE001  # see above
            relay.end(error)

    def on_broken(self) -> None:
        """The source is neither read nor written, and has news."""
        try:
            self.source.check()
        except Exception as error:  # noqa: BLE001  # see above
            self._relay.end(error)

    def watch_source(self) -> None:
        """What is wanted of the source has changed: by this pump, which reads it, or by the twin, which writes it."""
        twin = self.twin
        if twin is None:
            return
        read = self.on_readable if self.reads and self.source.owed <= MAX_OWED else None
        write = twin.on_writable if twin.waits else None
        # Only for an end that we neither read nor write: the other calls learn of a reset themselves.
        self.source.watch(self._relay.poller, read, write, None if read or write else self.on_broken)

    def _wait_for_sink(self) -> None:
        """Receive no more until the sink has sent its rest, or has room."""
        self.reads, self.waits = self._pushed, True
        self._changed()

    def _wait_for_source(self) -> None:
        """The source owes its peer an answer: receive no more for it until that is sent."""
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
        if self.sink.finish():
            self._end()
        else:
            self._wait_for_sink()

    def _end(self) -> None:
        self.over = True
        self.reads = False
        if self.twin is not None and self.twin.over:
            self._relay.end(None)
        else:
            self.watch_source()

    def _changed(self) -> None:
        self.watch_source()
        if self.twin is not None:
            self.twin.watch_source()
