"""The agent's gRPC door: a Unix socket whose handlers know who calls.

grpclib tells a handler the peer's address, which for a Unix socket is empty. The socket itself is at hand when a
connection is made; what is learnt from it there goes with every call of that connection, in a context variable.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from meshtls.agent.attest.attestor import Caller
from meshtls.rpc.descriptors import within_descriptors
from meshtls.rpc.grpc_listener import Listening, SetLimits, serve_grpc
from meshtls.rpc.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from grpclib._typing import IServable

__all__ = ["current_caller", "serve_callers"]

_CALLER: ContextVar[Caller] = ContextVar("caller")
#: A connection, and the caller's directory in /proc.
_DESCRIPTORS = 2


def current_caller() -> Caller:
    """Who called the method that runs here. Raises LookupError outside of one."""
    return _CALLER.get()


@asynccontextmanager
async def serve_callers(
    services: Collection[IServable], listener: socket.socket, limits: Limits = DEFAULT_LIMITS
) -> AsyncIterator[SetLimits]:
    """Answer on ``listener``, a Unix socket that listens, while the body runs; then every connection is cut. The body
    gets what sets other limits.
    """
    listening = Listening(name="agent socket", limits=within_descriptors(limits, _DESCRIPTORS))
    async with serve_grpc(services, listener, _entered, listening) as set_limits:
        yield lambda limits: set_limits(within_descriptors(limits, _DESCRIPTORS))


def _entered(transport: asyncio.BaseTransport) -> Callable[[], None]:
    caller = Caller.of(transport.get_extra_info("socket"))
    _CALLER.set(caller)
    return caller.close
