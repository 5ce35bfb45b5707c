"""Connections of an outbound listener that are handshaken ahead, so that the app does not wait for a handshake.

The far sidecar treats one like any other: it has dialled its app, which sees a connection that says nothing yet. So
they are few, and are given up before the far side's idle timeout. A warm connection is served only if all that let it
in holds at that moment: the same generation, the peer's times, the authorizer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from meshtls.clock import Clock
from meshtls.errors import HandshakeError, LocalIdentityError, MeshtlsError, PeerError
from meshtls.logs import logger
from meshtls.observe.events import Direction
from meshtls.sidecar.connection import Connection, Dialled, Parting
from meshtls.sidecar.partings import Partings
from meshtls.sidecar.poller import poller
from meshtls.sidecar.settings import Limits
from meshtls.sidecar.sockets import abort, close
from meshtls.sidecar.waiting import CHUNK, send_all
from meshtls.tls.context import TlsContexts

__all__ = ["WarmPool"]

log = logger("meshtls.sidecar")

#: Seconds between looks at the ages, and between tries while the peer can't be had.
_LOOK = 1.0
_LONGEST_PAUSE = 30.0
#: Bytes of a far app that speaks first; more of them wait in the kernel.
_MOST_KEPT = 1 << 16


@dataclass(eq=False, slots=True)
class _Warm:
    dialled: Dialled
    since: float
    kept: int = 0


class WarmPool:
    """Up to ``size`` of them. ``keep`` runs as long as they are wanted; ``take`` gives one, or None."""

    def __init__(
        self,
        size: int,
        contexts: TlsContexts,
        dial: Callable[[Connection], Awaitable[Dialled]],
        limits: Limits,
        clock: Clock,
        partings: Partings,
    ) -> None:
        self.size = size
        self._contexts = contexts
        self._dial = dial
        self._longest = limits.idle_timeout / 2
        self._clock = clock
        self._partings = partings
        self._ready: list[_Warm] = []
        self._wanted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._ready)

    def take(self) -> Dialled | None:
        """The newest that is good now; those that are not are closed."""
        self._wanted.set()
        while self._ready:
            one = self._ready.pop()
            poller().watch(one.dialled.sock, None, None)
            if self._good(one):
                return one.dialled
            _close(one)
        return None

    async def keep(self) -> None:
        """Fill up, again and again, until cancelled; then close them all."""
        pause = _LOOK
        try:
            while True:
                self._wanted.clear()
                self._prune()
                try:
                    while len(self._ready) < self.size:
                        await self._add()
                except (MeshtlsError, OSError) as error:  # of the system: no descriptors are left
                    log.info("no warm connection, next try in %g s: %s", pause, error)
                    await self._clock.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                pause = _LOOK
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await self._wanted.wait()
        finally:
            for one in self._ready:
                _close(one)
            self._ready.clear()

    async def _add(self) -> None:
        local_id = self._contexts.current().snapshot.svid.spiffe_id
        with socket.socket() as nobody:  # in the place of an app that is yet to come
            connection = Connection("ahead", local_id, Direction.OUTBOUND, nobody, "", self._clock)
            try:
                dialled = await self._dial(connection)
                await send_all(dialled.sock, dialled.engine.outgoing())
            except OSError as error:
                raise HandshakeError(f"the connection broke at the end of the handshake: {error}") from error
            except BaseException:
                self._give_up(connection)
                raise
        one = _Warm(dialled, self._clock.monotonic())
        self._ready.append(one)
        poller().watch(dialled.sock, partial(self._on_readable, one), None)

    def _give_up(self, connection: Connection) -> None:
        for parting in connection.partings:
            self._partings.add(parting)
        if connection.dialled is not None and connection.dialled not in [sock for sock, _ in connection.partings]:
            abort(connection.dialled)

    def _prune(self) -> None:
        for one in [one for one in self._ready if not self._good(one)]:
            self._drop(one)

    def _good(self, one: _Warm) -> bool:
        engine = one.dialled.engine
        if self._clock.monotonic() - one.since > self._longest or engine.peer_closed:
            return False
        try:
            if engine.context is not self._contexts.current().snapshot:
                return False
            engine.check_peer_again()
        except (PeerError, LocalIdentityError):
            return False
        return True

    def _on_readable(self, one: _Warm) -> None:
        sock, engine, _ = one.dialled
        try:
            data = sock.recv(CHUNK)
            engine.feed(data)
            engine.take_in()
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, HandshakeError):
            self._drop(one, broken=True)
            return
        one.kept += len(data)
        if not data or engine.peer_closed:
            self._drop(one)
        elif one.kept > _MOST_KEPT:
            poller().watch(sock, None, None)

    def _drop(self, one: _Warm, *, broken: bool = False) -> None:
        """``broken``: the peer has an alert to read."""
        self._ready.remove(one)
        self._wanted.set()
        sock, engine, _ = one.dialled
        if broken:
            poller().watch(sock, None, None)
            self._partings.add(Parting(sock, engine.outgoing()))
        else:
            _close(one)

    def __repr__(self) -> str:
        return f"<WarmPool [{len(self._ready)} of {self.size}]>"


def _close(one: _Warm) -> None:
    sock, engine, _ = one.dialled
    with contextlib.suppress(HandshakeError):
        engine.close_write()
    with contextlib.suppress(OSError):
        sock.send(engine.outgoing())
    close(sock)
