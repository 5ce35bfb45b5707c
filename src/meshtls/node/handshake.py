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
from meshtls.node.call import answer_http, request_bytes, status_of
from meshtls.node.mesh import Attempt
from meshtls.node.verdict import Verdict
from meshtls.observe.events import ConnectionResult, Outcome, RequestResult
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, Limits, Mode, OutboundConfig, Protocol, SidecarConfig
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


async def _exchange(listener: Address, sent: bytes, *, ends: bool) -> bytes:
    """Send this, and our end of input if ``ends``, and return all that comes back. Raises OSError."""
    reader, writer = await asyncio.open_connection(listener.host, listener.port)
    try:
        writer.write(sent)
        if ends:
            writer.write_eof()
        return await reader.read()
    except ConnectionError:
        return b""
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
        self._http = await asyncio.start_server(answer_http, _LOOPBACK, 0, backlog=1024)
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            for app in (self._echo, self._http):
                app.close()
                await app.wait_closed()

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
        reports = _Reports()
        source = ConstantSource(attempt.server.context)
        async with Sidecar(
            self._server_config(attempt),
            source,
            on_result=reports.server.put_nowait,
            on_request=reports.requests.put_nowait,
            clock=self._clock,
        ) as server:
            listener = server.inbound[0].address
            if attempt.plaintext:
                await self._run_queue(attempt, queue, listener, reports)
                return
            outbound = OutboundConfig(listen=_FREE, to=listener, peer=attempt.target)
            config = SidecarConfig(
                name="client", spiffe_id=attempt.client.svid.spiffe_id, outbound=(outbound,), limits=_LIMITS
            )
            source = ConstantSource(attempt.client.context)
            async with Sidecar(config, source, on_result=reports.client.put_nowait, clock=self._clock) as client:
                await self._run_queue(attempt, queue, client.outbound[0].address, reports)

    def _server_config(self, attempt: Attempt) -> SidecarConfig:
        app = self._echo if attempt.request is None else self._http
        address = Address(*app.sockets[0].getsockname()[:2])
        inbound = InboundConfig(
            listen=_FREE,
            app=address,
            allow=attempt.allow or (),
            allow_given=attempt.allow is not None,
            mode=_mode(attempt, address.port),
            protocol=Protocol.TCP if attempt.request is None else Protocol.HTTP,
        )
        return SidecarConfig(
            name="server",
            spiffe_id=attempt.server.svid.spiffe_id,
            inbound=(inbound,),
            limits=_LIMITS,
            policies=attempt.policies,
        )

    async def _run_queue(self, attempt: Attempt, queue: deque[_Verdict], listener: Address, reports: _Reports) -> None:
        while queue:
            queue[0].set_result(await self._attempt(attempt, listener, reports))
            queue.popleft()
        self._close(attempt, queue)

    async def _attempt(self, attempt: Attempt, listener: Address, reports: _Reports) -> Verdict:
        try:
            async with asyncio.timeout(self._patience):
                if attempt.request is None:
                    sent = secrets.token_bytes(1)
                    echoed, status = await _exchange(listener, sent, ends=True) == sent, None
                else:
                    sent = request_bytes(attempt.request, attempt.target.segments[-1])
                    # The client waits for the answer: a half-close before it would be the end of the connection.
                    echoed, status = True, status_of(await _exchange(listener, sent, ends=False))
                client = None if attempt.plaintext else await reports.client.get()
                is_sent = client is None or client.outcome not in _NOT_SENT
                server = await reports.server.get() if is_sent else None
        except TimeoutError as error:
            raise _NoVerdictError(f"the sidecars gave no verdict within {self._patience:g} s") from error
        if attempt.request is None:
            return Verdict.of(echoed, client, server)
        request = None if reports.requests.empty() else reports.requests.get_nowait()
        return Verdict.of_request(status, client, server, request)

    def _close(self, attempt: Attempt, queue: deque[_Verdict]) -> None:
        """Accept no more attempts for this pair of sidecars: later ones get a pair of their own."""
        if self._pending.get(attempt.key) is queue:
            del self._pending[attempt.key]


class _Reports:
    """What the two sidecars of a pair report."""

    def __init__(self) -> None:
        self.client: asyncio.Queue[ConnectionResult] = asyncio.Queue()
        self.server: asyncio.Queue[ConnectionResult] = asyncio.Queue()
        self.requests: asyncio.Queue[RequestResult] = asyncio.Queue()


def _mode(attempt: Attempt, port: int) -> Mode:
    """What the server takes, by its PeerAuthentications; without policies mutual TLS alone."""
    given = attempt.policies
    if given is None:
        return Mode.STRICT
    mode, _ = given.modes().of(port)
    return Mode(mode.value)


class _NoVerdictError(Exception):
    """An attempt had no result in time. This is a fault of ours, and does not affect other attempts."""
