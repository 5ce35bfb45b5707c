"""Accepts connections until closed; neither exhausted resources nor a single connection's error ends it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from meshtls.address import Address
from meshtls.clock import Clock
from meshtls.logs import logger
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.sockets import abort, accept_ready, address_of, close, listen
from meshtls.sidecar.states import LISTENER, ListenerState, ListenerStep

__all__ = ["Listener"]

log = logger("meshtls.sidecar")
#: Seconds without accepting after the machine had no file descriptor or memory left for a connection.
PAUSE = 0.1


class Listener:
    """One bound socket; ``address`` tells the port where 0 was asked for. Raises a ConfigError that names ``name``.

    ``shared``: other processes listen on the same address.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        poller: Poller,
        clock: Clock,
        take: Callable[[socket.socket], None],
        *,
        shared: bool = False,
    ) -> None:
        self.name = name
        self._sock = listen(address, name, shared=shared)
        self.address = address_of(self._sock)
        self.state = ListenerState.BOUND
        self._poller = poller
        self._clock = clock
        self._take = take
        #: Tries in a row that failed.
        self._failed = 0
        self._stuck: asyncio.Future[OSError]

    def start(self, tasks: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Hand each connection to ``take``, in a task of this group. The listening socket is closed when the task ends,
        also if it was cancelled before its first step.
        """
        task = tasks.create_task(self._accept_forever())
        task.add_done_callback(lambda _: self.close())
        return task

    def hand_to(self, take: Callable[[socket.socket], None]) -> None:
        """Give ``take`` every connection that is accepted from now on."""
        self._take = take

    def close(self) -> None:
        """A second call does nothing."""
        before = self.state
        self._step(ListenerStep.CLOSE)
        if before is not self.state:
            close(self._sock, self._poller)

    def _step(self, step: ListenerStep) -> None:
        self.state = LISTENER[self.state][step]

    async def _accept_forever(self) -> None:
        while True:
            self._step(ListenerStep.ACCEPT)
            await self._accept_until_stuck()
            self._step(ListenerStep.FAIL)
            await self._clock.sleep(PAUSE)

    async def _accept_until_stuck(self) -> None:
        self._stuck = asyncio.get_running_loop().create_future()
        self._poller.watch(self._sock, self._accept_waiting, None)
        error = await self._stuck
        self._failed += 1
        if self._failed == 1:
            log.warning("%s: can't accept on %s, trying again every %g s: %s", self.name, self.address, PAUSE, error)

    def _accept_waiting(self) -> None:
        """Called by the poller, so that output for new connections leaves with the other output of this wake-up."""
        try:
            for sock in accept_ready(self._sock):
                self._take_one(sock)
        except Exception as error:  # noqa: BLE001  # ``_accept_forever`` raises it
            self._stop(error)

    def _take_one(self, sock: socket.socket) -> None:
        if self._failed:
            log.warning("%s: accepts on %s again, after %d failed tries", self.name, self.address, self._failed)
            self._failed = 0
        try:
            self._take(sock)
        except Exception as error:  # noqa: BLE001  # unforeseen: it ends this connection, and is seen
            abort(sock, self._poller)
            message = f"{self.name}: a connection failed before its first phase"
            asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})

    def _stop(self, error: Exception) -> None:
        self._poller.watch(self._sock, None, None)
        if self._stuck.done():
            return  # cancelled a moment ago
        if isinstance(error, OSError):
            self._stuck.set_result(error)
        else:
            self._stuck.set_exception(error)

    def __repr__(self) -> str:
        return f"<Listener {self.name} {self.address} [{self.state.name.lower()}]>"
