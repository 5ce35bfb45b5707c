"""Connections of an outbound listener that are made ahead, so that the app does not wait for a handshake.

The far sidecar treats one like any other: it has dialled its app, which sees a connection without bytes. So they are
few, and are closed before the far side's idle timeout. A warm connection is used only if what admitted it still holds
at that moment: the generation, the validity of the peer's certificate, the authorizer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from meshtls.errors import HandshakeError, LocalIdentityError, MeshtlsError, PeerError
from meshtls.logs import logger
from meshtls.observe.events import Direction
from meshtls.sidecar.connection import Connection, Dialled, Parting
from meshtls.sidecar.poller import Poller
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import Limits
from meshtls.sidecar.sockets import CHUNK, abort, close, send_all
from meshtls.tls.context import TlsContexts

__all__ = ["WarmConnection", "WarmPool", "WarmState"]

log = logger("meshtls.sidecar")

#: Seconds between checks of the ages, and between attempts while the peer can't be reached.
_LOOK = 1.0
_LONGEST_PAUSE = 30.0
#: Most bytes that are kept from a far app that speaks first; more wait in the kernel.
_MOST_KEPT = 1 << 16


@dataclass(eq=False, slots=True)
class WarmConnection:
    """A connection to the peer that was made before it is needed. ``since`` is when it was made, by the clock; ``kept``
    are the bytes that the far app has sent already.
    """

    dialled: Dialled
    since: float
    kept: int = 0


class WarmState(Enum):
    """What its task does.

    - CLOSED: it does not run, and holds no connection.
    - FILLING: it makes connections until there are ``size``.
    - FULL: it watches them, until one is taken or too old.
    - RETRYING: the peer could not be reached; it tries again, after a longer pause each time.
    """

    CLOSED = "closed"
    FILLING = "filling"
    FULL = "full"
    RETRYING = "retrying"


class WarmPool:
    """Up to ``size`` warm connections. ``keep`` runs as long as they are wanted; ``take`` returns one, or None."""

    def __init__(
        self,
        size: int,
        contexts: TlsContexts,
        dial: Callable[[Connection], Awaitable[Dialled]],
        limits: Limits,
        runtime: Runtime,
    ) -> None:
        self.size = size
        self.state = WarmState.CLOSED
        self._contexts = contexts
        self._dial = dial
        self._longest = limits.idle_timeout / 2
        self._clock = runtime.clock
        self._partings = runtime.partings
        self._poller = runtime.reactor.poller
        #: Oldest first.
        self.ready: list[WarmConnection] = []
        self._wanted = asyncio.Event()

    def __len__(self) -> int:
        return len(self.ready)

    def take(self) -> Dialled | None:
        """The newest that may be used now; those that may not are closed."""
        self._wanted.set()
        while self.ready:
            one = self.ready.pop()
            self._poller.watch(one.dialled.sock, None, None)
            if self.is_good(one):
                return one.dialled
            _close(one, self._poller)
        return None

    async def keep(self) -> None:
        """Fill up, again and again, until cancelled; then close them all."""
        pause = _LOOK
        try:
            while True:
                self.state = WarmState.FILLING
                self._wanted.clear()
                for one in [one for one in self.ready if not self.is_good(one)]:
                    self._drop(one)
                try:
                    while len(self.ready) < self.size:
                        await self._add()
                except (MeshtlsError, OSError) as error:  # of the system: no descriptors are left
                    self.state = WarmState.RETRYING
                    log.info("no warm connection, next try in %g s: %s", pause, error)
                    await self._clock.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                self.state, pause = WarmState.FULL, _LOOK
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await self._wanted.wait()
        finally:
            self.state = WarmState.CLOSED
            for one in self.ready:
                _close(one, self._poller)
            self.ready.clear()

    async def _add(self) -> None:
        local_id = self._contexts.current().snapshot.svid.spiffe_id
        with socket.socket() as nobody:  # stands in for the app's socket, which does not exist yet
            connection = Connection("ahead", local_id, Direction.OUTBOUND, nobody, "", self._clock)
            try:
                dialled = await self._dial(connection)
                await send_all(dialled.sock, dialled.engine.outgoing(), self._poller)
            except OSError as error:
                raise HandshakeError(f"the connection broke at the end of the handshake: {error}") from error
            except BaseException:
                self._give_up(connection)
                raise
        one = WarmConnection(dialled, self._clock.monotonic())
        self.ready.append(one)
        self._poller.watch(dialled.sock, partial(self._on_readable, one), None)

    def _give_up(self, connection: Connection) -> None:
        for parting in connection.partings:
            self._partings.add(parting)
        if connection.dialled is not None and connection.dialled not in [sock for sock, _ in connection.partings]:
            abort(connection.dialled, self._poller)

    def is_good(self, one: WarmConnection) -> bool:
        engine = one.dialled.engine
        if self._clock.monotonic() - one.since > self._longest or engine.peer_closed:
            return False
        try:
            if engine.snapshot is not self._contexts.current().snapshot:
                return False
            engine.check_peer_again()
        except (PeerError, LocalIdentityError):
            return False
        return True

    def _on_readable(self, one: WarmConnection) -> None:
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
            self._poller.watch(sock, None, None)

    def _drop(self, one: WarmConnection, *, broken: bool = False) -> None:
        """``broken``: the peer has an alert to read."""
        self.ready.remove(one)
        self._wanted.set()
        sock, engine, _ = one.dialled
        if broken:
            self._poller.watch(sock, None, None)
            self._partings.add(Parting(sock, engine.outgoing()))
        else:
            _close(one, self._poller)

    def __repr__(self) -> str:
        return f"<WarmPool [{len(self.ready)} of {self.size}, {self.state.value}]>"


def _close(one: WarmConnection, poller: Poller) -> None:
    sock, engine, _ = one.dialled
    with contextlib.suppress(HandshakeError):
        engine.close_write()
    with contextlib.suppress(OSError):
        sock.send(engine.outgoing())
    close(sock, poller)
