"""The last of a tunnel that ended well: both sides have said all, and the peer has still to take it."""

from __future__ import annotations

import socket
from collections.abc import Callable

from meshtls.sidecar.poller import Poller

__all__ = ["Parting"]

#: For a peer that does not end its side after we have ended ours.
_SECONDS = 30.0
_DROPPED = 1 << 12


class Parting:
    """Stays until the peer has ended its side: who closes a socket that is still spoken to takes back what the kernel
    has not sent yet, and with it the end of the streams. ``gone`` is called once that is so.
    """

    def __init__(self, sock: socket.socket, poller: Poller, now: float, gone: Callable[[], None]) -> None:
        self._sock = sock
        self._poller = poller
        self._until = now + _SECONDS
        self._gone = gone

    def begin(self) -> None:
        """End our side."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._gone()
        else:
            self._poller.watch(self._sock, self._drop_what_comes, None)

    def tick(self, now: float) -> None:
        """Some time is over."""
        if now > self._until:
            self._gone()

    def _drop_what_comes(self) -> None:
        try:
            gone = not self._sock.recv(_DROPPED)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            gone = True
        if gone:
            self._gone()
