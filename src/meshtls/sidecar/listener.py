"""Accepts connections until it is closed, and outlives a machine that has run out of something."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from meshtls.clock import Clock
from meshtls.sidecar.address import Address
from meshtls.sidecar.poller import poller
from meshtls.sidecar.sockets import accept_ready, address_of, close, listen
from meshtls.sidecar.waiting import readable

__all__ = ["Listener"]

log = logging.getLogger("meshtls.sidecar")
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
        clock: Clock,
        take: Callable[[socket.socket], None],
        *,
        shared: bool = False,
    ) -> None:
        self.name = name
        self._sock = listen(address, name, shared=shared)
        self.address = address_of(self._sock)
        self._clock = clock
        self._take = take
        poller()  # it has a descriptor of its own, and is made before the machine may have run out of them

    async def accept_forever(self) -> None:
        """Hand each connection to ``take`` until cancelled, then close the listening socket."""
        try:
            while True:
                await readable(self._sock)
                await self._accept_waiting()
        finally:
            self.close()

    def close(self) -> None:
        close(self._sock)

    async def _accept_waiting(self) -> None:
        try:
            for sock in accept_ready(self._sock):
                self._take(sock)
        except OSError as error:
            log.warning("%s: can't accept on %s, trying again in %g s: %s", self.name, self.address, PAUSE, error)
            await self._clock.sleep(PAUSE)

    def __repr__(self) -> str:
        return f"<Listener {self.name} {self.address}>"
