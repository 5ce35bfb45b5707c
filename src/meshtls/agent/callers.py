"""The agent's gRPC listener: a Unix socket whose handlers have their caller at hand.

grpclib gives a handler the peer's address, which is empty for a Unix socket. So the caller is looked up when a
connection is made, while its socket is at hand, and is passed to every call of that connection in a context variable.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

from grpclib.events import RecvRequest

from meshtls.agent.attest.attestor import Caller
from meshtls.agent.metrics.counting import Counting
from meshtls.rpc.descriptors import within_descriptors
from meshtls.rpc.grpc_listener import Listening, SetLimits, serve_grpc
from meshtls.rpc.limits import DEFAULT_LIMITS, ListenerLimits

if TYPE_CHECKING:
    from grpclib._typing import IServable

__all__ = ["current_caller", "serve_callers"]

_CALLER: ContextVar[Caller] = ContextVar("caller")
#: A connection, and the caller's directory in /proc.
_DESCRIPTORS = 2


def current_caller() -> Caller:
    """The caller of the current method. Raises LookupError outside of one."""
    return _CALLER.get()


@asynccontextmanager
async def serve_callers(
    services: Collection[IServable],
    listener: socket.socket,
    limits: ListenerLimits = DEFAULT_LIMITS,
    counting: Counting | None = None,
) -> AsyncIterator[SetLimits]:
    """Serve on ``listener``, a listening Unix socket, while the body runs; then abort every connection.

    Calls and callers are counted in ``counting``, if given. Yields a function that changes the limits.
    """
    counting = counting or Counting()
    listening = Listening(
        name="agent socket", limits=within_descriptors(limits, _DESCRIPTORS), refusals=counting.refusals
    )
    handlers = {path: handler for service in services for path, handler in service.__mapping__().items()}

    async def count(transport: asyncio.BaseTransport, event: RecvRequest) -> None:
        streams = handlers[event.method_name].cardinality.server_streaming
        event.method_func = counting.calls.counted(event.method_name, event.method_func, stream_of_responses=streams)

    enter = partial(_enter, counting)
    async with serve_grpc(services, listener, listening, enter=enter, intercept=count) as set_limits:
        yield lambda limits: set_limits(within_descriptors(limits, _DESCRIPTORS))


def _enter(counting: Counting, transport: asyncio.BaseTransport) -> Callable[[], None]:
    caller = Caller.of(transport.get_extra_info("socket"))
    pid = caller.credentials.pid
    _CALLER.set(caller)
    counting.connected(pid)

    def leave() -> None:
        counting.disconnected(pid)
        caller.close()

    return leave
