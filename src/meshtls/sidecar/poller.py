"""Readiness of many sockets for one wake-up of the event loop.

asyncio's own ``add_reader`` costs a handle, a heap of calls and a trip through the ready queue for each socket and
each wake-up. Here one ``epoll`` of ours is itself watched by the loop: it wakes once per batch, and each socket's
callback is called straight from there. Where there is no epoll, the same interface stands on ``add_reader``.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

__all__ = ["EpollPoller", "LoopPoller", "Poller", "poller"]

#: Sockets served per wake-up: more would keep the loop's other work (accepts, timers) waiting.
_BATCH = 128
_READ, _WRITE = 1, 4  # select.EPOLLIN, select.EPOLLOUT
_Callback = Callable[[], None] | None
_NOTHING: tuple[_Callback, _Callback] = (None, None)


class Poller(Protocol):
    """Calls back for sockets that are ready. One per event loop."""

    def watch(self, sock: socket.socket, read: _Callback, write: _Callback) -> None:
        """Replace what is waited for on this socket. With neither, the socket is left alone."""


class EpollPoller:
    """An epoll nested in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[_Callback, _Callback]] = {}
        loop.add_reader(self._epoll.fileno(), self._wake)

    def watch(self, sock: socket.socket, read: _Callback, write: _Callback) -> None:
        fd = sock.fileno()
        before, mask = _mask(*self._watched.get(fd, _NOTHING)), _mask(read, write)
        if mask:
            self._watched[fd] = (read, write)
        else:
            self._watched.pop(fd, None)
        if before and not mask:
            self._epoll.unregister(fd)
        elif mask and not before:
            self._epoll.register(fd, mask)
        elif mask != before:
            self._epoll.modify(fd, mask)

    def _wake(self) -> None:
        watched = self._watched
        for fd, events in self._epoll.poll(0, _BATCH):
            # Looked up one by one: an earlier callback of this batch may have ended this socket.
            read, write = watched.get(fd, _NOTHING)
            if events & ~_WRITE and read is not None:
                read()  # an error or a hang-up shows when reading, too
            if events & ~_READ and write is not None and watched.get(fd, _NOTHING)[1] is write:
                write()

    def __repr__(self) -> str:
        return f"<EpollPoller [{len(self._watched)} sockets]>"


class LoopPoller:
    """The same on the running loop's own watchers."""

    def watch(self, sock: socket.socket, read: _Callback, write: _Callback) -> None:
        loop = asyncio.get_running_loop()
        if read:
            loop.add_reader(sock, read)
        else:
            loop.remove_reader(sock)
        if write:
            loop.add_writer(sock, write)
        else:
            loop.remove_writer(sock)


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, Poller] = WeakKeyDictionary()


def poller() -> Poller:
    """The running loop's poller."""
    loop = asyncio.get_running_loop()
    found = _pollers.get(loop)
    if found is None:
        found = _pollers[loop] = EpollPoller(loop) if hasattr(select, "epoll") else LoopPoller()
    return found


def _mask(read: _Callback, write: _Callback) -> int:
    return (_READ if read else 0) | (_WRITE if write else 0)
