"""The server's gRPC listeners. An interceptor authenticates the caller of each call before its method runs.

A service is created for each call, with its caller: methods have no other source for the caller's identity.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from grpclib.events import RecvRequest
from grpclib.server import Stream

from meshtls.counted_log import CountedLog
from meshtls.errors import AccessError, MeshtlsError
from meshtls.logs import logger
from meshtls.rpc.call_metrics import CallMetrics
from meshtls.rpc.calls import grpc_error
from meshtls.rpc.grpc_listener import Listening, SetLimits, serve_grpc
from meshtls.rpc.limits import ListenerLimits
from meshtls.rpc.peer_credentials import credentials_of
from meshtls.rpc.shedding import Refusals
from meshtls.rpc.turns import Turns
from meshtls.server.access import Authenticator, Caller, ListenerKind, Role, may_call, role_for
from meshtls.svid.verify import VerifiedPeer

if TYPE_CHECKING:
    from grpclib._typing import IServable, IServerMethodFunc

__all__ = ["ServiceFor", "Shared", "serve_listener"]

#: Makes the service that handles one call of this caller.
ServiceFor = Callable[[Caller], "IServable"]

log = logger("meshtls.server")

_NAMES = {
    ListenerKind.ADMIN_SOCKET: "admin socket",
    ListenerKind.MUTUAL_TLS: "server port",
    ListenerKind.ATTESTATION: "attestation port",
}
_MOST_ADMINISTRATORS = 256
#: Stands for the caller while the methods of a service are listed, before there is a call.
_NOBODY = Caller(Role.ANONYMOUS, "nobody")


@dataclass(frozen=True, slots=True)
class Shared:
    """Shared by a server's listeners: limits, the scheduling of its event loop, the counts of refusals and of calls."""

    limits: ListenerLimits
    turns: Turns
    refusals: Refusals
    calls: CallMetrics


@asynccontextmanager
async def serve_listener(
    listener: ListenerKind,
    services: Collection[ServiceFor],
    authenticator: Authenticator,
    sock: socket.socket,
    shared: Shared,
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[SetLimits]:
    """Serve on ``sock`` while the body runs, then abort every connection.

    Yields a function that sets new limits, given the server's.
    """
    listening = Listening(
        name=_NAMES[listener],
        limits=_limits_of(listener, shared.limits),
        turns=shared.turns,
        refusals=shared.refusals,
        identify=_proven_caller,
    )
    interceptor = _Interceptor(listener, services, authenticator, shared.calls)
    methods = [service_for(_NOBODY) for service_for in services]
    async with serve_grpc(methods, sock, listening, intercept=interceptor, context=context) as set_limits:
        yield lambda limits: set_limits(_limits_of(listener, limits))


def _limits_of(listener: ListenerKind, limits: ListenerLimits) -> ListenerLimits:
    if listener is ListenerKind.ADMIN_SOCKET:
        return replace(limits, connections=min(limits.connections, _MOST_ADMINISTRATORS), message_bytes=2**24)
    if listener is ListenerKind.MUTUAL_TLS:
        return replace(limits, message_bytes=2**22)
    # Anonymous callers need little: an attestation is one call of a few kilobytes.
    return replace(
        limits,
        connections=max(1, limits.connections // 4),
        connections_per_caller=min(limits.connections_per_caller, 64),
        streams_per_connection=16,
        streams_per_caller=min(limits.streams_per_caller, 64),
        calls_per_second=limits.attestations_per_second,
        message_bytes=2**17,
        idle_timeout=min(limits.idle_timeout, 30.0),
        call_timeout=30.0,
    )


def _proven_caller(transport: asyncio.BaseTransport) -> str | None:
    peer = _peer(transport)
    return str(peer.spiffe_id) if peer is not None else None


def _peer(transport: asyncio.BaseTransport) -> VerifiedPeer | None:
    peer = getattr(transport.get_extra_info("ssl_object"), "peer", None)
    return peer if isinstance(peer, VerifiedPeer) else None


class _Interceptor:
    """Runs before each method of one listener: a call that it does not refuse gets the service made for its caller."""

    def __init__(
        self,
        listener: ListenerKind,
        services: Collection[ServiceFor],
        authenticator: Authenticator,
        calls: CallMetrics,
    ) -> None:
        self._listener = listener
        self._calls = calls
        self._services = {path: make for make in services for path in make(_NOBODY).__mapping__()}
        self._authenticator = authenticator
        self._log = CountedLog(log)

    async def __call__(self, transport: asyncio.BaseTransport, event: RecvRequest) -> None:
        try:
            local = self._listener is ListenerKind.ADMIN_SOCKET
            uid = credentials_of(transport.get_extra_info("socket")).uid if local else None
            role = role_for(event.method_name)
            caller = await self._authenticator.authenticate(self._listener, _peer(transport), uid, role)
            # Checked here before a byte of the request is decoded; the operation behind the method checks it again.
            if not may_call(caller.role, event.method_name):
                raise AccessError(f"{event.method_name} is not for {caller.role.value} ({caller.name})")
        except MeshtlsError as error:
            # Each authenticated peer has log lines of its own; all others share theirs.
            key = (_proven_caller(transport), type(error))
            self._log.warning(key, f"refused {event.method_name} through {self._listener.value}: {error}")
            refusal = grpc_error(error)
            self._calls.refused(event.method_name, refusal.status)
            raise refusal from error
        handler = self._services[event.method_name](caller).__mapping__()[event.method_name]
        method = _translated(handler.func, event.method_name, caller, self._log)
        event.method_func = self._calls.counted(
            event.method_name, method, stream_of_responses=handler.cardinality.server_streaming
        )


def _translated(method: IServerMethodFunc, name: str, caller: Caller, failures: CountedLog) -> IServerMethodFunc:
    async def call(stream: Stream[Any, Any]) -> None:
        try:
            await method(stream)
        except MeshtlsError as error:
            failures.warning((name, caller.name, type(error)), f"{name} by {caller.name} failed: {error}")
            raise grpc_error(error) from error

    return call
