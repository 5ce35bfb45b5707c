"""Attempts handshakes for real: client app, its sidecar, mutual TLS over TCP, the other sidecar, its app, a byte back.

A TLS 1.3 client completes the handshake before the server has judged its certificate, so only the echoed byte shows
that the client was accepted. Attempts with equal keys share a pair of sidecars, one attempt at a time, so that the two
reports that arrive belong to that attempt.
"""

from __future__ import annotations

import asyncio
import resource
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from meshtls.address import Address
from meshtls.clock import Clock
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.node.mesh import Attempt
from meshtls.node.verdict import Verdict
from meshtls.observe.events import ConnectionResult, Outcome
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, Limits, OutboundConfig, SidecarConfig
from meshtls.svid.context import ConstantSource

__all__ = ["Handshakes", "echo", "pairs_for"]

log = logger("meshtls.node")
_LOOPBACK = "127.0.0.1"
_FREE = Address(_LOOPBACK, 0)
_LIMITS = Limits(idle_timeout=5.0, drain=1.0)
#: Outcomes of a client's sidecar that never reached the server's.
_NOT_SENT = (Outcome.LOCAL_IDENTITY, Outcome.CONNECT_FAILED, Outcome.CONNECTION_LIMIT)

_MOST_PAIRS = 16
#: Descriptors of the process besides the pairs, and of pairs that are still being closed.
_OTHER_DESCRIPTORS = 24
#: Two listening sockets, both ends of three connections, the memory file for loading a key, and one spare.
_DESCRIPTORS_PER_PAIR = 10

_Results = asyncio.Queue[ConnectionResult]
_Verdict = asyncio.Future[Verdict]
_App = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def pairs_for(descriptors: int) -> int:
    """The number of pairs of sidecars to open at a time under this limit of file descriptors, 1 to 16.

    Not more, since one thread carries all pairs: on a busy machine more would only delay each of them.
    """
    return max(1, min(_MOST_PAIRS, (descriptors - _OTHER_DESCRIPTORS) // _DESCRIPTORS_PER_PAIR))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The app behind the server's sidecar: send back what is received, until the end."""
    try:
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def _is_echoed(listener: Address) -> bool:
    """Send a random byte through this listener, and return whether exactly that byte comes back. Raises OSError."""
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    sent = secrets.token_bytes(1)
    try:
        writer.write(sent)
        writer.write_eof()
        return await reader.read() == sent
    except ConnectionError:
        return False
    finally:
        writer.transport.abort()


class Handshakes:
    """Runs handshake attempts. ``async with`` enters when ready, and leaves when every submitted attempt has a verdict.

    ``at_once`` pairs of sidecars are open at a time, by default as many as RLIMIT_NOFILE allows. ``app`` serves behind
    each server's sidecar. An attempt fails after ``patience`` seconds.
    """

    def __init__(self, clock: Clock, at_once: int | None = None, *, app: _App = echo, patience: float = 15.0) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._clock = clock
        self._app = app
        self._patience = patience
        self._slots = asyncio.Semaphore(at_once or (_MOST_PAIRS if soft == resource.RLIM_INFINITY else pairs_for(soft)))
        self._pending: dict[tuple[object, ...], deque[_Verdict]] = {}
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        self._echo = await asyncio.start_server(self._app, _LOOPBACK, 0, backlog=1024)
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            self._echo.close()
            await self._echo.wait_closed()

    def submit(self, attempt: Attempt) -> _Verdict:
        """Run the attempt as soon as there is a slot. An unexpected error is raised from the returned future."""
        verdict: _Verdict = asyncio.get_running_loop().create_future()
        queue = self._pending.get(attempt.key)
        if queue is None:
            queue = self._pending[attempt.key] = deque()
            self._tasks.create_task(self._run(attempt, queue))
        queue.append(verdict)
        return verdict

    async def _run(self, attempt: Attempt, queue: deque[_Verdict]) -> None:
        """Run all attempts of a queue, with a new pair of sidecars after each attempt that has no verdict."""
        async with self._slots:
            try:
                while queue:
                    try:
                        await self._run_with_sidecars(attempt, queue)
                    except _NoVerdictError as error:
                        # Its result may still arrive, so the next attempts get a pair of their own.
                        queue.popleft().set_result(Verdict(False, Outcome.CONNECT_FAILED, str(error)))
                    except (ConfigError, OSError) as error:
                        detail = f"the sidecars could not be started: {str(error) or repr(error)}"
                        for verdict in queue:
                            verdict.set_result(Verdict(False, Outcome.CONNECT_FAILED, detail))
                        queue.clear()
                    except Exception as error:
                        # The error belongs to the attempt that was running: the next ones get a pair of their own.
                        if queue:
                            queue.popleft().set_exception(error)
                        else:
                            log.exception("two sidecars failed after their last verdict")
            finally:
                self._close(attempt, queue)

    async def _run_with_sidecars(self, attempt: Attempt, queue: deque[_Verdict]) -> None:
        from_server, from_client = _Results(), _Results()
        app = Address(*self._echo.sockets[0].getsockname()[:2])
        inbound = InboundConfig(listen=_FREE, app=app, allow=attempt.allow)
        config = SidecarConfig(
            name="server", spiffe_id=attempt.server.svid.spiffe_id, inbound=(inbound,), limits=_LIMITS
        )
        source = ConstantSource(attempt.server.context)
        async with Sidecar(config, source, on_result=from_server.put_nowait, clock=self._clock) as server:
            outbound = OutboundConfig(listen=_FREE, to=server.inbound[0].address, peer=attempt.target)
            config = SidecarConfig(
                name="client", spiffe_id=attempt.client.svid.spiffe_id, outbound=(outbound,), limits=_LIMITS
            )
            source = ConstantSource(attempt.client.context)
            async with Sidecar(config, source, on_result=from_client.put_nowait, clock=self._clock) as client:
                while queue:
                    queue[0].set_result(await self._attempt(client.outbound[0].address, from_client, from_server))
                    queue.popleft()
                self._close(attempt, queue)

    async def _attempt(self, listener: Address, from_client: _Results, from_server: _Results) -> Verdict:
        try:
            async with asyncio.timeout(self._patience):
                echoed = await _is_echoed(listener)
                client = await from_client.get()
                server = None if client.outcome in _NOT_SENT else await from_server.get()
        except TimeoutError as error:
            raise _NoVerdictError(f"the sidecars gave no verdict within {self._patience:g} s") from error
        return Verdict.of(echoed, client, server)

    def _close(self, attempt: Attempt, queue: deque[_Verdict]) -> None:
        """Accept no more attempts for this pair of sidecars: later ones get a pair of their own."""
        if self._pending.get(attempt.key) is queue:
            del self._pending[attempt.key]


class _NoVerdictError(Exception):
    """An attempt had no result in time. This is a fault of ours, and does not affect other attempts."""
