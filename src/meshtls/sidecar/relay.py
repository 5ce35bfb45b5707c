"""Moves application bytes between two ends, as they come, until both have ended.

Each direction reads at most one chunk and writes it whole before it reads the next: a slow reader slows its writer and
nothing piles up here. The end of one direction is passed on as a half-close (FIN or close_notify) while the other goes
on. A TLS peer whose TCP ends without close_notify was cut off, so its bytes must not look complete to the other side.

``relay`` and the two ends are all that the phases before it know of how bytes move.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Protocol

from meshtls.errors import HandshakeError
from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import EndedError, Flow
from meshtls.sidecar.sockets import CHUNK
from meshtls.tls.engine import TlsEngine

__all__ = ["End", "PlainEnd", "TlsEnd", "relay"]


class End(Protocol):
    """One side of a relay. Its calls raise EndedError where the connection broke."""

    async def read(self) -> bytes:
        """The next application bytes; b"" when this side has properly ended."""

    async def write(self, data: bytes) -> None:
        """Return when the kernel has taken it all."""

    async def close_write(self) -> None:
        """Tell this side that no more comes; what it sends is still read."""


class PlainEnd:
    """A plain TCP socket; ``first`` was read from it before."""

    def __init__(self, sock: socket.socket, name: str, first: bytes = b"") -> None:
        self._sock = sock
        self._name = name
        self._first = first

    async def read(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        try:
            return await asyncio.get_running_loop().sock_recv(self._sock, CHUNK)
        except OSError as error:
            raise EndedError(Outcome.RESET, f"{self._name} broke off: {error}") from error

    async def write(self, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except OSError as error:
            raise EndedError(Outcome.RESET, f"{self._name} takes no more: {error}") from error

    async def close_write(self) -> None:
        _shut(self._sock, self._name)


class TlsEnd:
    """A TCP socket and the TLS over it."""

    def __init__(self, sock: socket.socket, engine: TlsEngine, name: str) -> None:
        self._sock = sock
        self._engine = engine
        self._name = name
        self._sending = asyncio.Lock()
        self._heard = False
        self._write_closed = False

    async def read(self) -> bytes:
        with self._explained("broke off"):
            while not (data := self._engine.read()) and not self._engine.peer_closed:
                await self._answer()
                await self._feed()
        self._heard = self._heard or bool(data)
        return data

    async def write(self, data: bytes) -> None:
        with self._explained("takes no more"):
            self._engine.write(data)
            await self._flush()

    async def close_write(self) -> None:
        with self._explained("takes no more"):
            self._engine.close_write()
            self._write_closed = True
            await self._flush()
        _shut(self._sock, self._name)

    async def _feed(self) -> None:
        chunk = await asyncio.get_running_loop().sock_recv(self._sock, CHUNK)
        if not chunk:
            raise EndedError(Outcome.RESET, f"{self._name} ended its TCP connection without close_notify")
        self._engine.feed(chunk)

    async def _answer(self) -> None:
        # TLS answers some messages by itself (KeyUpdate). A writer that is at work sends that along; to wait for it
        # here could leave two sidecars each waiting for the other to read.
        if not self._sending.locked() and not self._write_closed:
            await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            while data := self._engine.outgoing():
                await asyncio.get_running_loop().sock_sendall(self._sock, data)

    @contextlib.contextmanager
    def _explained(self, trouble: str) -> Iterator[None]:
        try:
            yield
        except HandshakeError as error:
            # To a TLS 1.3 client its handshake looks done before the server has judged it: the refusal comes here.
            outcome = Outcome.RESET if self._heard else Outcome.HANDSHAKE_FAILED
            raise EndedError(outcome, str(error)) from error
        except OSError as error:
            raise EndedError(Outcome.RESET, f"{self._name} {trouble}: {error}") from error


async def relay(opener: End, other: End, flow: Flow, idle_timeout: float) -> None:
    """Return when both directions have ended. Raises EndedError: RESET, IDLE_TIMEOUT or HANDSHAKE_FAILED.

    ``flow`` is counted up as bytes move; ``idle_timeout`` is in seconds and counts both directions together.
    """
    idle = _Idle(idle_timeout)

    def came_in(count: int) -> None:
        flow.bytes_in += count
        idle.moved()

    def went_out(count: int) -> None:
        flow.bytes_out += count
        idle.moved()

    try:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(idle.watch())
            inward = group.create_task(_pump(opener, other, came_in))
            await _pump(other, opener, went_out)
            await inward
            watch.cancel()
    except ExceptionGroup as broken:
        raise _first_of(broken) from broken


class _Idle:
    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._clock = asyncio.get_running_loop().time
        self._last = self._clock()

    def moved(self) -> None:
        self._last = self._clock()

    async def watch(self) -> None:
        left = self._timeout
        while left > 0:
            await asyncio.sleep(left)
            left = self._last + self._timeout - self._clock()
        raise EndedError(Outcome.IDLE_TIMEOUT, f"no byte moved for {self._timeout:g} s")


async def _pump(source: End, sink: End, moved: Callable[[int], None]) -> None:
    while data := await source.read():
        await sink.write(data)
        moved(len(data))
    await sink.close_write()


def _first_of(broken: ExceptionGroup[Exception]) -> Exception:
    unforeseen = broken.split(EndedError)[1]
    return unforeseen or broken.exceptions[0]


def _shut(sock: socket.socket, name: str) -> None:
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError as error:
        raise EndedError(Outcome.RESET, f"{name} is gone: {error}") from error
