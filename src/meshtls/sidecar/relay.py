"""Moves application bytes between two ends, as they come, until both have ended.

Each direction takes one receive per wake-up, which keeps the many fair to each other, and stops receiving while its
sink has a rest to send: a slow reader slows its writer and nothing piles up here. Nor does it receive from a peer
that asks TLS for answers and does not read them. The end of one direction is passed on as a half-close (FIN or
close_notify) while the other goes on. A TLS peer whose TCP ends without close_notify was cut off, so its bytes must not
look complete to the other side.

From here on there is no task switch per message: the poller calls straight into ``_Pump``, and the connection's task
sleeps until the relay is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.ends import End
from meshtls.sidecar.idle import idle_watch
from meshtls.sidecar.poller import poller
from meshtls.tls.engine import MAX_OWED

__all__ = ["relay"]


async def relay(opener: End, other: End, flow: Flow, idle_timeout: float) -> None:
    """Return when both directions have ended. Raises EndedError: RESET, IDLE_TIMEOUT or HANDSHAKE_FAILED.

    ``flow`` is counted up as bytes move; ``idle_timeout`` is in seconds and counts both directions together.
    """
    await _Relay(opener, other, flow, idle_timeout).run()


class _Relay:
    """Two pumps and what they share: the sockets' watch, the time of the last byte and the one end."""

    __slots__ = ("_done", "_idle", "_pumps", "last", "poller")

    def __init__(self, opener: End, other: End, flow: Flow, idle_timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] = loop.create_future()
        self._idle = idle_timeout
        #: When a byte last moved, by the loop's clock.
        self.last = loop.time()
        self.poller = poller()
        self._pumps = (_Pump(self, opener, other, flow, inward=True), _Pump(self, other, opener, flow, inward=False))

    async def run(self) -> None:
        watch = idle_watch()
        watch.add(self, self._idle)
        try:
            for pump in self._pumps:
                pump.start()
            self.changed()
            await self._done
        finally:
            watch.remove(self, self._idle)
            for pump in self._pumps:
                self.poller.watch(pump.source.sock, None, None)

    def changed(self) -> None:
        """What a pump waits for has changed."""
        inward, outward = self._pumps
        if inward.over and outward.over:
            self.end(None)
            return
        self._watch(inward, outward)
        self._watch(outward, inward)

    def _watch(self, reading: _Pump, writing: _Pump) -> None:
        read, write = reading.waits_to_read, writing.waits_to_write
        if reading.source.owed > MAX_OWED:
            read = None
        # Only for a socket that we neither read nor write: the other calls learn of a reset themselves.
        broken = None if read or write else reading.on_broken
        self.poller.watch(reading.source.sock, read, write, broken)

    def other(self, pump: _Pump) -> _Pump:
        """The pump of the other direction, whose sink is this one's source."""
        inward, outward = self._pumps
        return outward if pump is inward else inward

    def end_idle(self, timeout: float) -> None:
        self.end(EndedError(Outcome.IDLE_TIMEOUT, f"no byte moved for {timeout:g} s"))

    def end(self, error: Exception | None) -> None:
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


class _Pump:
    """One direction. ``waits_to_read`` and ``waits_to_write`` are the callbacks it wants, None while it does not.

    The callbacks catch every exception: what they raised would end not this relay but the poller's whole batch. It goes
    to the one who awaits the relay.
    """

    __slots__ = (
        "_finishing",
        "_flow",
        "_inward",
        "_relay",
        "_sink",
        "over",
        "source",
        "waits_to_read",
        "waits_to_write",
    )

    def __init__(self, relay: _Relay, source: End, sink: End, flow: Flow, *, inward: bool) -> None:
        self._relay = relay
        self._sink = sink
        self._flow = flow
        self._inward = inward
        self._finishing = False
        self.source = source
        self.over = False
        self.waits_to_read: Callable[[], None] | None = self._on_readable
        self.waits_to_write: Callable[[], None] | None = None

    def start(self) -> None:
        """Pass on what came before the relay began."""
        try:
            self._pass(self.source.first())
            self._settle_debt()
        except Exception as error:  # noqa: BLE001  # see above
            self._relay.end(error)

    def _on_readable(self) -> None:
        try:
            data = self.source.receive()
            if data is not None:
                self._relay.last = self._relay.poller.now
                self._pass(data)
            elif self.source.ended:
                self._finish()
            self._settle_debt()
        except Exception as error:  # noqa: BLE001  # see above
            self._relay.end(error)

    def _on_writable(self) -> None:
        try:
            flushed = self._sink.flush()
            self._relay.last = self._relay.poller.now  # a reader so slow that a rest stays is not idle
            if flushed:
                self._resume()
        except Exception as error:  # noqa: BLE001  # see above
            self._relay.end(error)

    def on_broken(self) -> None:
        """The source's socket is neither read nor written, and has news."""
        try:
            self.source.check()
        except Exception as error:  # noqa: BLE001  # see above
            self._relay.end(error)

    def _settle_debt(self) -> None:
        if self.source.owed:
            self._relay.other(self).wait_for_sink()

    def _pass(self, data: bytes | memoryview) -> None:
        if data:
            if self._inward:
                self._flow.bytes_in += len(data)
            else:
                self._flow.bytes_out += len(data)
            if not self._sink.transmit(data):
                self.wait_for_sink()
                return
        if self.source.ended:
            self._finish()

    def wait_for_sink(self) -> None:
        """Receive no more until the sink has sent its rest."""
        self.waits_to_read, self.waits_to_write = None, self._on_writable
        self._relay.changed()

    def _resume(self) -> None:
        self.waits_to_write = None
        if self._finishing:
            self._end()
        elif self.source.ended:
            self._finish()
        else:
            self.waits_to_read = self._on_readable
            self._relay.changed()

    def _finish(self) -> None:
        self._finishing = True
        if self._sink.finish():
            self._end()
        else:
            self.wait_for_sink()

    def _end(self) -> None:
        self.over = True
        self.waits_to_read = None
        self._relay.changed()
