"""Connections between processes: delayed, lost, duplicated and cut, with messages as bytes.

A connection behaves as TCP, TLS and HTTP/2 let a program see it: messages arrive in order or the connection is lost.
What a fault loses therefore ends the connection, sooner or later; what is duplicated is a whole call, as a client does
that calls again. The channel here takes the place of grpclib's, below the generated stubs, and the stream that of the
server's, below the real services.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from grpclib import GRPCError
from grpclib.exceptions import StreamTerminatedError

from tests.simulation.loop import ProcessKilled, SimLoop, SimProcess, current_process

__all__ = ["Handler", "Listener", "Network", "ServerStream", "SimChannel", "Weather"]

#: Seconds until a connection attempt without an answer fails.
_CONNECT = 3.0
_TICK = 0.005
#: The longest delay of a message on a link without a fault.
_DELAY = 0.02

#: Serves one call: the peer that the handshake gave, the method's path, and the stream.
Handler = Callable[[Any, str, "ServerStream"], Awaitable[None]]


@dataclass(slots=True)
class Listener:
    """``shake_hands(presented)`` verifies the client and returns (peer, what the server presents)."""

    process: SimProcess
    handle: Handler
    shake_hands: Callable[[Any], tuple[Any, Any]]


@dataclass(slots=True)
class Weather:
    """The faults of one link. ``loss`` and ``doubled`` are probabilities for each message, ``delay`` is in seconds."""

    cut: bool = False
    delay: float = _DELAY
    loss: float = 0.0
    doubled: float = 0.0

    @property
    def fair(self) -> bool:
        return not self.cut and self.delay <= _DELAY and not self.loss


@dataclass(slots=True, eq=False)
class _Connection:
    client: SimProcess
    server: SimProcess
    listener: Listener
    peer: Any
    alive: bool = True
    calls: list[_Call] = field(default_factory=list)


class Network:
    """``since``: when the present stream of this client and method began to deliver; no entry without one.

    ``answering`` is called with each message of a server before that leaves its process.
    """

    def __init__(self, loop: SimLoop, choices: random.Random) -> None:
        self.listeners: dict[str, Listener] = {}
        self.weather: dict[frozenset[str], Weather] = {}
        self.since: dict[tuple[str, str], float] = {}
        self.answering: Callable[[Any], None] = lambda message: None
        self._loop = loop
        self._choices = choices
        self._context: Context = contextvars.copy_context()
        self._connections: list[_Connection] = []

    def link(self, one: str, other: str) -> Weather:
        return self.weather.setdefault(frozenset((one, other)), Weather())

    def later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call this in no process: what is under way goes on when its sender is killed."""
        self._loop.call_later(seconds, callback, *args, context=self._context)

    def travel(self, sender: str, receiver: str) -> float:
        return self._choices.uniform(0.1, 1.0) * self.link(sender, receiver).delay

    def is_lost(self, sender: str, receiver: str) -> bool:
        weather = self.link(sender, receiver)
        return weather.cut or (weather.loss > 0 and self._choices.random() < weather.loss)

    def is_doubled(self, sender: str, receiver: str) -> bool:
        doubled = self.link(sender, receiver).doubled
        return doubled > 0 and self._choices.random() < doubled

    def connected(self, connection: _Connection) -> None:
        self._connections.append(connection)

    def lose(self, connection: _Connection) -> None:
        """Both ends find out that the connection is gone."""
        if connection.alive:
            connection.alive = False
            self._connections.remove(connection)
            for call in connection.calls:
                call.lost()

    def killed(self, process: SimProcess) -> None:
        """The kernel resets the connections of a process that was killed, after what it had sent before."""
        now = self._loop.time()
        for one in [one for one in self._connections if process in (one.client, one.server)]:
            arrivals = [arrival for call in one.calls for arrival in call.arrivals.values()]
            self.later(max(_TICK, *(arrival - now + _TICK for arrival in arrivals), 0.0), self.lose, one)
        for name in [name for name, one in self.listeners.items() if one.process is process]:
            del self.listeners[name]

    def changed(self, one: str, other: str) -> None:
        """The weather of this link has changed: after a cut, the connections that were silent are reset."""
        weather = self.link(one, other)
        between = [c for c in self._connections if {c.client.name, c.server.name} == {one, other}]
        for connection in between:
            if weather.cut:
                for call in connection.calls:
                    call.stalled = True
                    self.since.pop((call.client, call.path), None)
            elif any(call.stalled for call in connection.calls):
                self.later(_TICK, self.lose, connection)
        if weather.fair:
            for key in [key for key in self.since if key[0] in (one, other)]:
                self.since[key] = max(self.since[key], self._loop.time())


class SimChannel:
    """What a generated stub needs of grpclib's Channel. ``present()`` is what this side shows in the handshake, and
    ``check(presented)`` verifies the other side.
    """

    def __init__(
        self,
        network: Network,
        server: str,
        present: Callable[[], Any],
        check: Callable[[Any], None],
        link: str | None = None,
    ) -> None:
        self._network = network
        self._server = server
        self._process = current_process()
        self._present = present
        self._check = check
        self._link = link or server
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    def request(
        self,
        name: str,
        cardinality: Any,
        request_type: Any,
        reply_type: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        **_more: Any,
    ) -> _Call:
        return _Call(self, name, request_type, reply_type, timeout, dict(metadata or {}), _is_unary(cardinality))

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            self._network.lose(self._connection)

    async def connection(self) -> _Connection:
        async with self._connecting:
            if self._connection is None or not self._connection.alive:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> _Connection:
        me, network = self._process.name, self._network
        if self._closed:
            raise ConnectionResetError("the channel is closed")
        listener = network.listeners.get(self._server)
        if network.is_lost(me, self._link):
            await asyncio.sleep(_CONNECT)
            raise TimeoutError("no answer")
        await asyncio.sleep(network.travel(me, self._link) + network.travel(self._link, me))
        if listener is None or not listener.process.alive or self._closed:
            raise ConnectionRefusedError("connection refused")
        peer, presented = listener.shake_hands(self._present())
        self._check(presented)
        made = _Connection(self._process, listener.process, listener, peer)
        network.connected(made)
        return made


class _Call:
    """One call: the client's stream, which makes the server's with the first message."""

    def __init__(
        self,
        channel: SimChannel,
        path: str,
        request_type: Any,
        reply_type: Any,
        timeout: float | None,
        metadata: dict[str, str],
        unary: bool,
    ) -> None:
        self.path = path
        self.client = channel._process.name
        self.metadata = metadata
        #: What the server sent before its first message; None until that has come.
        self.initial_metadata: dict[str, str] | None = None
        self.stalled = False
        self._channel = channel
        self._network = channel._network
        self._link = channel._link
        self._types = request_type, reply_type
        self._deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        self._unary = unary
        self._connection: _Connection | None = None
        self._to_server = _Pipe()
        self._to_client = _Pipe()
        self._handlers: list[asyncio.Task[None]] = []
        self.arrivals = {"up": 0.0, "down": 0.0}

    async def __aenter__(self) -> _Call:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._network.since.pop((self.client, self.path), None)
        if self._connection is not None and self in self._connection.calls:
            self._connection.calls.remove(self)
            self._network.later(self._network.travel(self.client, self._link), self._cancel)

    async def send_message(self, message: Any, *, end: bool = False) -> None:
        async with asyncio.timeout_at(self._deadline):
            first = self._connection is None
            if first:
                self._connection = await self._channel.connection()
                self._connection.calls.append(self)
            self._channel._process.step()
            data = message.SerializeToString()
            self._carry("up", lambda: self._arrived(data, first))

    async def recv_message(self) -> Any:
        async with asyncio.timeout_at(self._deadline):
            item = await self._to_client.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return None
        self._network.since.setdefault((self.client, self.path), asyncio.get_running_loop().time())
        return self._types[1].FromString(item)

    def lost(self) -> None:
        self._network.since.pop((self.client, self.path), None)
        self._to_client.put(StreamTerminatedError("connection lost"))
        self._cancel()

    def answer(self, item: bytes | BaseException | None) -> None:
        """The server's handler sends this."""
        self._carry("down", lambda: self._to_client.put(item))

    def begin(self, metadata: dict[str, str]) -> None:
        """The server's handler sends this before its first message."""

        def arrive() -> None:
            self.initial_metadata = metadata

        self._carry("down", arrive)

    def _arrived(self, data: bytes, first: bool) -> None:
        self._to_server.put(data)
        if first and self._connection is not None:
            self._handle(self.answer, self.begin)
            if self._unary and self._network.is_doubled(self.client, self._link):
                self._to_server.put(data)
                self._handle(lambda item: None, lambda metadata: None)

    def _handle(
        self, answer: Callable[[bytes | BaseException | None], None], begin: Callable[[dict[str, str]], None]
    ) -> None:
        connection = self._connection
        assert connection is not None
        listener = connection.listener
        if not listener.process.alive:
            return
        sends = partial(self._send, listener.process, answer)
        stream = ServerStream(self._to_server, sends, begin, self._types[0], self.metadata, self.client)

        async def handle() -> None:
            try:
                await listener.handle(connection.peer, self.path, stream)
                answer(None)
            except GRPCError as error:
                answer(error)
            except (asyncio.CancelledError, ProcessKilled):
                raise
            except Exception as error:
                self._network._loop.failures.append(f"{self.path} of {listener.process.name}: {error!r}")
                answer(StreamTerminatedError("the handler failed"))

        self._handlers.append(listener.process.spawn(handle()))

    def _send(self, process: SimProcess, answer: Callable[[bytes], None], message: Any) -> None:
        self._network.answering(message)
        data = message.SerializeToString()
        process.step()
        answer(data)

    def _carry(self, direction: str, arrive: Callable[[], None]) -> None:
        connection, network = self._connection, self._network
        if connection is None or not connection.alive or self.stalled:
            return
        names = (self.client, self._link) if direction == "up" else (self._link, self.client)
        weather = network.link(*names)
        if weather.cut:
            self.stalled = True
            return
        if network.is_lost(*names):
            self.stalled = True
            network.since.pop((self.client, self.path), None)
            network.later(0.5, network.lose, connection)
            return
        now = network._loop.time()
        self.arrivals[direction] = max(self.arrivals[direction], now + network.travel(*names))

        def deliver() -> None:
            if connection.alive and not self.stalled:
                arrive()

        network.later(self.arrivals[direction] - now, deliver)

    def _cancel(self) -> None:
        for one in self._handlers:
            one.cancel()


class ServerStream:
    """What a service needs of grpclib's Stream."""

    def __init__(
        self,
        inbox: _Pipe,
        send: Callable[[Any], None],
        begin: Callable[[dict[str, str]], None],
        request_type: Any,
        metadata: dict[str, str],
        client: str,
    ) -> None:
        self.deadline = None
        self.metadata = metadata
        self.client = client
        self.peer = self
        self._inbox = inbox
        self._send = send
        self._begin = begin
        self._type = request_type

    def addr(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    async def recv_message(self) -> Any:
        return self._type.FromString(await self._inbox.get())

    async def send_initial_metadata(self, *, metadata: dict[str, str]) -> None:
        self._begin(metadata)

    async def send_message(self, message: Any) -> None:
        self._send(message)


class _Pipe:
    """A queue of messages; a failure stays the last."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiting: asyncio.Future[None] | None = None

    def put(self, item: Any) -> None:
        if self._items and isinstance(self._items[-1], BaseException):
            return
        self._items.append(item)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def get(self) -> Any:
        while not self._items:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        if isinstance(self._items[0], BaseException):
            return self._items[0]
        return self._items.popleft()


def _is_unary(cardinality: Any) -> bool:
    return not cardinality.client_streaming and not cardinality.server_streaming
