"""Readiness of many sockets for one wake-up of the event loop.

asyncio's own ``add_reader`` costs a handle, a heap of calls and a trip through the ready queue for each socket and
each wake-up. Here one ``epoll`` of ours is itself watched by the loop, or is the loop's own (``loop.py``): it wakes
once per batch, and each socket's callback is called straight from there. Where there is no epoll, the same interface
stands on ``add_reader``.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Callable
from typing import Protocol

from meshtls.sidecar.loop import BATCH, selector_of

__all__ = ["EpollPoller", "LoopPoller", "Poller", "poller_of"]

_READ, _WRITE, _ERROR, _HANG_UP = 1, 4, 8, 16  # select.EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
_BROKEN = _ERROR | _HANG_UP  # the kernel reports these for every registered socket, asked for or not
_Callback = Callable[[], None] | None


class Poller(Protocol):
    """Calls back for sockets that are ready. One per event loop. A callback must not raise."""

    @property
    def now(self) -> float:
        """The loop's time at the latest wake-up: exact to a few ms, and without a system call."""

    def watch(self, sock: socket.socket, read: _Callback, write: _Callback, broken: _Callback = None) -> None:
        """Replace the callbacks of this socket. Without any, the socket is no longer watched.

        ``broken`` is for a socket that is neither read nor written: it is called once if the connection is reset, or if
        both sides have ended, which is no error. Without an epoll it is never called.
        """

    def forget(self, sock: socket.socket) -> None:
        """Forget a socket that is about to be closed."""

    def defer(self, callback: Callable[[], None]) -> None:
        """Call once, after the sockets of this wake-up were served."""


class Watched:
    """One socket that the poller watches. ``mask`` is what epoll watches for, which may be more than the callbacks ask
    for; 0 is unregistered.
    """

    __slots__ = ("broken", "mask", "read", "sock", "write")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.mask = 0
        self.read: _Callback = None
        self.write: _Callback = None
        self.broken: _Callback = None


class EpollPoller:
    """An epoll nested in the loop, or shared with it.

    A socket stays registered for reading when nobody wants to read it, until it is ready: between two phases of a
    connection, and while a pump waits for its sink, reading mostly resumes before that, which saves two system calls.
    A descriptor that was closed and reused is recognized by the identity of the socket object.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = loop.time()
        self._time = loop.time
        self._loop = loop
        self._waking = False
        self._deferred: list[Callable[[], None]] = []
        #: By file descriptor.
        self.watched: dict[int, Watched] = {}
        shared = selector_of(loop)
        if shared is None:
            self.epoll = select.epoll()
            loop.add_reader(self.epoll.fileno(), self.wake)
        else:
            self.epoll, shared.guest = shared.epoll, self

    def watch(self, sock: socket.socket, read: _Callback, write: _Callback, broken: _Callback = None) -> None:
        fd = sock.fileno()
        watched = self.watched.get(fd)
        if watched is None or watched.sock is not sock:
            if read is write is broken is None:
                return
            watched = self.watched[fd] = Watched(sock)
        watched.read, watched.write, watched.broken = read, write, broken
        mask = watched.mask & _READ if read is None else _READ
        if write is not None:
            mask |= _WRITE
        elif broken is not None and not mask:
            mask = _ERROR
        if mask != watched.mask:
            self._tell(fd, watched, mask)

    def forget(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        watched = self.watched.get(fd)
        if watched is not None and watched.sock is sock:
            watched.read = watched.write = watched.broken = None
            del self.watched[fd]  # closing takes it out of the kernel's set

    def defer(self, callback: Callable[[], None]) -> None:
        # Not by the loop within a wake-up: that would take another round of the loop.
        if self._waking:
            self._deferred.append(callback)
        else:
            self._loop.call_soon(callback)

    def _tell(self, fd: int, watched: Watched, mask: int) -> None:
        if not mask:
            del self.watched[fd]
            self.epoll.unregister(fd)
        elif watched.mask:
            self.epoll.modify(fd, mask)
        else:
            self.epoll.register(fd, mask)
        watched.mask = mask

    def hand_to_loop(self, fd: int) -> None:
        """The loop itself watches this descriptor from now on."""
        watched = self.watched.get(fd)
        if watched is not None:
            with contextlib.suppress(OSError):  # closed meanwhile, and the descriptor reused
                self._tell(fd, watched, 0)

    def serve(self, events: list[tuple[int, int]]) -> None:
        """Call the callbacks of these ready sockets."""
        self.now, self._waking, known = self._time(), True, self.watched
        try:
            for fd, ready in events:
                # Looked up one by one: an earlier callback of this batch may have ended this socket.
                watched = known.get(fd)
                if watched is None:
                    with contextlib.suppress(OSError):
                        self.epoll.unregister(fd)
                    continue
                if ready == _READ and watched.read is not None:  # mostly: bytes, and no error
                    watched.read()
                    continue
                if watched.read is None and not (watched.write is not None and ready & ~_READ):
                    self._on_unwanted(fd, watched, ready)
                    continue
                if ready & ~_WRITE and watched.read is not None:
                    watched.read()  # an error or a hang-up shows when reading, too
                if ready & ~_READ and watched.write is not None:
                    watched.write()
        finally:
            self._waking = False
        while self._deferred:
            self._deferred.pop()()

    def wake(self) -> None:
        """Serve the sockets that are ready now."""
        self.serve(self.epoll.poll(0, BATCH))

    def _on_unwanted(self, fd: int, watched: Watched, events: int) -> None:
        broken = watched.broken
        if not events & _BROKEN:
            self._tell(fd, watched, _WRITE if watched.write else _ERROR if broken else 0)
            return
        self._tell(fd, watched, 0)  # or it would be reported again in each round
        if broken is not None:
            broken()

    def __repr__(self) -> str:
        return f"<EpollPoller [{len(self.watched)} sockets]>"


class LoopPoller:
    """The same on the loop's own watchers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @property
    def now(self) -> float:
        return self._loop.time()

    def watch(self, sock: socket.socket, read: _Callback, write: _Callback, broken: _Callback = None) -> None:
        loop, fd = self._loop, sock.fileno()
        if read:
            loop.add_reader(fd, read)
        else:
            loop.remove_reader(fd)
        if write:
            loop.add_writer(fd, write)
        else:
            loop.remove_writer(fd)

    def forget(self, sock: socket.socket) -> None:
        self.watch(sock, None, None)

    def defer(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(callback)

    def __repr__(self) -> str:
        return "<LoopPoller>"


def poller_of(loop: asyncio.AbstractEventLoop) -> Poller:
    """A new poller for this loop, which must have no other: see ``reactor.py``."""
    return EpollPoller(loop) if hasattr(select, "epoll") else LoopPoller(loop)
