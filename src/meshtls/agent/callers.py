"""The agent's gRPC door: a Unix socket whose handlers know who calls.

grpclib tells a handler the peer's address, which for a Unix socket is empty. The socket itself is at hand when a
connection is made; what is learnt from it there goes with every call of that connection, in a context variable.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from meshtls.agent.attest.attestor import Caller
from meshtls.proto.grpc_listener import serve_grpc

if TYPE_CHECKING:
    from grpclib._typing import IServable

__all__ = ["current_caller", "serve_callers"]

_CALLER: ContextVar[Caller] = ContextVar("caller")
# Requests are short.
_LONGEST_MESSAGE = 2**18


def current_caller() -> Caller:
    """Who called the method that runs here. Raises LookupError outside of one."""
    return _CALLER.get()


def serve_callers(services: Collection[IServable], listener: socket.socket) -> AbstractAsyncContextManager[None]:
    """Answer on ``listener``, a Unix socket that listens, while the body runs; then every connection is cut."""
    return serve_grpc(services, listener, _entered, longest_message=_LONGEST_MESSAGE)


def _entered(transport: asyncio.BaseTransport) -> Callable[[], None]:
    caller = Caller.of(transport.get_extra_info("socket"))
    _CALLER.set(caller)
    return caller.close
