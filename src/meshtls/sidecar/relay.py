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
import time
from collections.abc import Callable
from functools import partial

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.ends import End
from meshtls.sidecar.idle import idle_watch
from meshtls.sidecar.poller import Poller, poller
from meshtls.tls.engine import MAX_OWED

__all__ = ["Relay", "relay"]


async def relay(opener: End, other: End, flow: Flow, idle_timeout: float) -> None:
    """Return when both directions have ended. Raises EndedError: RESET, IDLE_TIMEOUT or HANDSHAKE_FAILED.

    ``flow`` is counted up as bytes move; ``idle_timeout`` is in seconds and counts both directions together.
    """
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    joined = Relay(opener, other, flow, poller(), partial(_set_done, done))
    watch = idle_watch()
    watch.add(joined, idle_timeout)
    try:
        joined.start()
        await done
    finally:
        watch.remove(joined, idle_timeout)
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

    __slots__ = ("_on_end", "_poller", "_pumps", "last", "now", "over")

    def __init__(
        self,
        opener: End,
        other: End,
        flow: Flow,
        poller: Poller,
        on_end: Callable[[Exception | None], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_end = on_end
        self._poller = poller
        self._pumps: tuple[_Pump, ...] = (
            _Pump(self, opener, other, flow, inward=True),
            _Pump(self, other, opener, flow, inward=False),
        )
        self.now = now
        self.last = now()
        self.over = False

    def start(self) -> None:
        """Pass on what came before, and from now on what comes. It may be over when this returns."""
        for pump in self._pumps:
            pump.start()
        self.changed()

    def changed(self) -> None:
        """What a pump waits for has changed."""
        if self.over:
            return
        inward, outward = self._pumps
        if inward.over and outward.over:
            self.end(None)
            return
        self._watch(inward, outward)
        self._watch(outward, inward)

    def _watch(self, reading: _Pump, writing: _Pump) -> None:
        source = reading.source
        read = reading.on_readable if reading.reads and source.owed <= MAX_OWED else None
        write = writing.on_writable if writing.waits else None
        # Only for an end that we neither read nor write: the other calls learn of a reset themselves.
        source.watch(self._poller, read, write, None if read or write else reading.on_broken)

    def wait_for(self, end: End) -> None:
        """Receive no more for this end until it has sent its rest."""
        for pump in self._pumps:
            if pump.sink is end:
                pump.wait_for_sink()

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
            pump.source.watch(self._poller, None, None)
        self._on_end(error)


class _Pump:
    """One direction. ``reads``: it wants what its source has. ``waits``: its sink has a rest, or had no room.

    The callbacks catch every exception: what they raised would end not this relay but the poller's whole batch, or the
    tunnel. It goes to whoever has the relay.
    """

    __slots__ = ("_finishing", "_flow", "_inward", "_relay", "over", "reads", "sink", "source", "waits")

    def __init__(self, relay: Relay, source: End, sink: End, flow: Flow, *, inward: bool) -> None:
        self._relay = relay
        self._flow = flow
        self._inward = inward
        self._finishing = False
        self.source = source
        self.sink = sink
        self.over = False
        self.reads = True
        self.waits = False

    def start(self) -> None:
        """Pass on what came before the relay began."""
        relay, source = self._relay, self.source
        if relay.over:
            return
        try:
            self._pass(source.first(self.sink.room()))
            if source.owed:
                relay.wait_for(source)
        except Exception as error:  # noqa: BLE001  # see above
            relay.end(error)

    def on_readable(self) -> None:
        relay, source = self._relay, self.source
        try:
            room = self.sink.room()
            if room <= 0 and not source.pushes:
                self.wait_for_sink()
                return
            data = source.receive(room)
            if data is not None:
                if self.sink.discards:
                    return
                relay.last = relay.now()
                self._pass(data)
            elif source.ended:
                self._finish()
            if source.owed:
                relay.wait_for(source)
        except Exception as error:  # noqa: BLE001  # see above
            relay.end(error)

    def on_writable(self) -> None:
        relay, source, sink = self._relay, self.source, self.sink
        try:
            before = sink.unsent
            flushed = sink.flush()
            if sink.unsent < before:
                relay.last = relay.now()  # a reader so slow that a rest stays is not idle
                if source.pushes:
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

    def _pass(self, data: bytes | memoryview) -> None:
        source = self.source
        if data:
            if self._inward:
                self._flow.bytes_in += len(data)
            else:
                self._flow.bytes_out += len(data)
            sent = self.sink.transmit(data)
            if source.pushes:
                source.settle(0 if sent else self.sink.unsent)
            if not sent:
                self.wait_for_sink()
                return
        if source.ended:
            self._finish()

    def wait_for_sink(self) -> None:
        """Receive no more until the sink has sent its rest, or has room."""
        self.reads, self.waits = self.source.pushes, True
        self._relay.changed()

    def _resume(self) -> None:
        self.waits = False
        if self._finishing:
            self._end()
        elif self.source.ended:
            self._finish()
        else:
            self.reads = True
            self._relay.changed()

    def _finish(self) -> None:
        self._finishing = True
        if self.sink.finish():
            self._end()
        else:
            self.wait_for_sink()

    def _end(self) -> None:
        self.over = True
        self.reads = self.waits = False
        self._relay.changed()
