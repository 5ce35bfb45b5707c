"""An event loop with the poller's sockets in its own epoll: one wait and one system call a round instead of two.

asyncio's loop asks a selector which sockets are ready. This is a selector, by the public interface of ``selectors``,
that calls back the poller's sockets before it returns asyncio's own. For a single connection with requests and
responses, the second epoll and asyncio's ready queue were half of our cost per message.

A round of asyncio's own costs as much as the relaying of a message. So the selector goes on waiting for sockets by
itself as long as the poller's alone are ready and leave the loop nothing to do: no callback and no timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import selectors
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextvars import Context
from time import monotonic
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack
from weakref import WeakKeyDictionary

__all__ = ["BATCH", "Served", "SharedSelector", "new_loop", "run", "selector_of"]

T = TypeVar("T")
Args = TypeVarTuple("Args")

#: Sockets served per round: with more, the loop's other work (accepts, timers) would have to wait.
BATCH = 128
_IN, _OUT = 1, 4  # select.EPOLLIN, select.EPOLLOUT


class Served(Protocol):
    """The attached poller: its sockets are in the epoll beside the loop's own."""

    def serve(self, events: list[tuple[int, int]]) -> None:
        """Call the callbacks of these descriptors."""

    def hand_to_loop(self, fd: int) -> None:
        """The loop itself watches this descriptor from now on."""


class SharedSelector(selectors.BaseSelector):
    """An asyncio selector whose epoll a poller shares. ``epoll`` is shared with the attached poller, which sets
    ``guest``; descriptors that asyncio did not register are the poller's. The loop sets ``due`` when a callback or a
    timer was added.
    """

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.guest: Served | None = None
        self.due = False
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._map = _ByFile(self._keys)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = _number(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fd} is already registered")
        if self.guest is not None:
            self.guest.hand_to_loop(fd)
        self.epoll.register(fd, _mask(events))
        return self._keep(fd, selectors.SelectorKey(fileobj, fd, events, data))

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = _number(fileobj)
        if self._keys[fd].events != events:
            self.epoll.modify(fd, _mask(events))
        return self._keep(fd, selectors.SelectorKey(fileobj, fd, events, data))

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        fd = _number(fileobj)
        key = self._keys.pop(fd)
        with contextlib.suppress(OSError):  # closed before: the kernel has dropped it
            self.epoll.unregister(fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Returns asyncio's ready descriptors, or none at the end of ``timeout``, in seconds, or when the poller's
        sockets left the loop something to do.
        """
        keys, ours = self._keys, []
        until = monotonic() + timeout if timeout else None
        self.due = timeout == 0
        while True:
            its = self.epoll.poll(timeout, BATCH)
            # Mostly all are the poller's, which is found out in C: a look at each in Python costs as much as the wait.
            if not keys.keys().isdisjoint(dict(its)):
                ours = [(keys[fd], _ready(ready) & keys[fd].events) for fd, ready in its if fd in keys]
                its = [event for event in its if event[0] not in keys]
            if not its or self.guest is None:
                return ours
            self.guest.serve(its)
            if ours or self.due:
                return ours
            if until is not None:
                timeout = until - monotonic()
                if timeout <= 0:
                    return ours

    def close(self) -> None:
        self.epoll.close()
        self._keys.clear()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map

    def _keep(self, fd: int, key: selectors.SelectorKey) -> selectors.SelectorKey:
        self._keys[fd] = key
        return key


class _Loop(asyncio.SelectorEventLoop):
    """Tells its selector of what is added while that waits."""

    def __init__(self, selector: SharedSelector) -> None:
        self._shared = selector
        super().__init__(selector)

    def call_soon(
        self, callback: Callable[[Unpack[Args]], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        self._shared.due = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._shared.due = True
        return super().call_at(when, callback, *args, context=context)

    def stop(self) -> None:
        self._shared.due = True
        super().stop()


class _ByFile(Mapping[Any, selectors.SelectorKey]):
    """The keys as asyncio looks for them: by a descriptor, or by the socket that ``add_reader`` was given."""

    def __init__(self, keys: dict[int, selectors.SelectorKey]) -> None:
        self._keys = keys

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[_number(fileobj)]

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


_selectors: WeakKeyDictionary[asyncio.AbstractEventLoop, SharedSelector] = WeakKeyDictionary()


def selector_of(loop: asyncio.AbstractEventLoop) -> SharedSelector | None:
    """The selector of a loop that ``new_loop`` made; None for any other."""
    return _selectors.get(loop)


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for a process that is nothing but a sidecar; asyncio's own where there is no epoll."""
    if not hasattr(select, "epoll"):
        return asyncio.new_event_loop()
    selector = SharedSelector()
    loop = _Loop(selector)
    _selectors[loop] = selector
    return loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """As ``asyncio.run``, on such a loop."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def _number(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


def _mask(events: int) -> int:
    return (_IN if events & selectors.EVENT_READ else 0) | (_OUT if events & selectors.EVENT_WRITE else 0)


def _ready(events: int) -> int:
    # An error or a hang-up counts as both: the read or write that follows reports it.
    return (selectors.EVENT_READ if events & ~_OUT else 0) | (selectors.EVENT_WRITE if events & ~_IN else 0)
