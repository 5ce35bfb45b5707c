"""Tries handshakes for real: an app, its sidecar, mutual TLS over TCP, the other sidecar, its app, and a byte back.

TLS 1.3 lets the client finish before the server has judged it, so only the byte's return says that it was let in.
Attempts that are alike share two sidecars, one attempt at a time: so each of the two reports belongs to its attempt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from meshtls.clock import Clock
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.node.capacity import pairs_at_once
from meshtls.node.echo import comes_back, echo
from meshtls.node.mesh import Attempt
from meshtls.node.verdict import Verdict
from meshtls.observe.events import ConnectionResult, Outcome
from meshtls.sidecar.address import Address
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, Limits, OutboundConfig, SidecarConfig
from meshtls.svid.context import ConstantSource

__all__ = ["Handshakes"]

log = logger("meshtls.node")
_LOOPBACK = "127.0.0.1"
_FREE = Address(_LOOPBACK, 0)
_LIMITS = Limits(idle_timeout=5.0, drain=1.0)
#: Outcomes of a client's sidecar that never reached the server's.
_NOT_SENT = (Outcome.LOCAL_IDENTITY, Outcome.CONNECT_FAILED, Outcome.CONNECTION_LIMIT)

_Results = asyncio.Queue[ConnectionResult]
_Verdict = asyncio.Future[Verdict]
_App = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Handshakes:
    """``async with`` enters ready and leaves when every submitted attempt has its verdict.

    ``at_once`` pairs of sidecars are open at a time, each with two listening sockets and at most one connection; as
    many as there are file descriptors for, unless it is given. ``app`` is behind each server's sidecar, and an attempt
    has failed after ``patience`` seconds.
    """

    def __init__(self, clock: Clock, at_once: int | None = None, *, app: _App = echo, patience: float = 15.0) -> None:
        self._clock = clock
        self._app = app
        self._patience = patience
        self._room = asyncio.Semaphore(at_once or pairs_at_once())
        self._waiting: dict[tuple[object, ...], deque[_Verdict]] = {}
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
        """Try it as soon as there is room. Whatever fails unforeseen is raised to the one who awaits the verdict."""
        verdict: _Verdict = asyncio.get_running_loop().create_future()
        alike = self._waiting.get(attempt.key)
        if alike is None:
            alike = self._waiting[attempt.key] = deque()
            self._tasks.create_task(self._serve(attempt, alike))
        alike.append(verdict)
        return verdict

    async def _serve(self, like: Attempt, jobs: deque[_Verdict]) -> None:
        async with self._room:
            try:
                while jobs:
                    await self._serve_some(like, jobs)
            finally:
                self._close(like, jobs)

    async def _serve_some(self, like: Attempt, jobs: deque[_Verdict]) -> None:
        try:
            await self._with_sidecars(like, jobs)
        except _NoVerdictError as error:
            # Its result may still come, so the next ones get sidecars of their own.
            jobs.popleft().set_result(Verdict(False, Outcome.CONNECT_FAILED, str(error)))
        except (ConfigError, OSError) as error:
            _fail(jobs, f"the sidecars could not be brought up: {str(error) or repr(error)}")
        except Exception as error:  # noqa: BLE001  # it is raised to the one who awaits the verdict
            _raise(jobs, error)

    async def _with_sidecars(self, like: Attempt, jobs: deque[_Verdict]) -> None:
        from_server, from_client = _Results(), _Results()
        config, source = self._inbound(like), ConstantSource(like.server.context)
        async with Sidecar(config, source, on_result=from_server.put_nowait, clock=self._clock) as server:
            config, source = _outbound(like, server.inbound[0].address), ConstantSource(like.client.context)
            async with Sidecar(config, source, on_result=from_client.put_nowait, clock=self._clock) as client:
                while jobs:
                    jobs[0].set_result(await self._try(client.outbound[0].address, from_client, from_server))
                    jobs.popleft()
                self._close(like, jobs)

    async def _try(self, listener: Address, from_client: _Results, from_server: _Results) -> Verdict:
        try:
            async with asyncio.timeout(self._patience):
                echoed = await comes_back(listener)
                client = await from_client.get()
                server = None if client.outcome in _NOT_SENT else await from_server.get()
        except TimeoutError as error:
            raise _NoVerdictError(f"the sidecars gave no verdict within {self._patience:g} s") from error
        return Verdict.of(echoed, client, server)

    def _close(self, like: Attempt, jobs: deque[_Verdict]) -> None:
        # What is submitted from now on gets sidecars of its own: none may join a pair that is going.
        if self._waiting.get(like.key) is jobs:
            del self._waiting[like.key]

    def _inbound(self, attempt: Attempt) -> SidecarConfig:
        app = Address(*self._echo.sockets[0].getsockname()[:2])
        inbound = InboundConfig(listen=_FREE, app=app, allow=attempt.allow)
        return SidecarConfig(name="server", spiffe_id=attempt.server.svid.spiffe_id, inbound=(inbound,), limits=_LIMITS)


class _NoVerdictError(Exception):
    """One attempt had no end: a fault of ours, and of no other attempt."""


def _outbound(attempt: Attempt, to: Address) -> SidecarConfig:
    outbound = OutboundConfig(listen=_FREE, to=to, peer=attempt.target)
    return SidecarConfig(name="client", spiffe_id=attempt.client.svid.spiffe_id, outbound=(outbound,), limits=_LIMITS)


def _fail(jobs: deque[_Verdict], detail: str) -> None:
    for verdict in jobs:
        verdict.set_result(Verdict(False, Outcome.CONNECT_FAILED, detail))
    jobs.clear()


def _raise(jobs: deque[_Verdict], error: Exception) -> None:
    # It is the failure of the attempt that was under way: the next ones get sidecars of their own.
    if jobs:
        jobs.popleft().set_exception(error)
    else:
        log.error("two sidecars failed after their last verdict", exc_info=error)
