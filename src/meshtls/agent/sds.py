"""Envoy's secret discovery service (SDS v3) on the Workload API's socket; callers are attested in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol, TypeVar

from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.server import Stream

from meshtls.agent.cache import View
from meshtls.agent.caller_views import CallerViews
from meshtls.agent.callers import current_caller
from meshtls.agent.sds_secrets import SECRET_TYPE, NamedSecret, secrets_of
from meshtls.agent.sds_state import DeltaState, WorldState, names_or_all, world
from meshtls.counted_log import CountedLog
from meshtls.logs import logger
from meshtls.proto.envoy import discovery_pb as pb
from meshtls.proto.envoy.secret_grpc import SecretDiscoveryServiceBase
from meshtls.workload.background import in_background

__all__ = ["SecretDiscovery"]

Q = TypeVar("Q", pb.DiscoveryRequest, pb.DeltaDiscoveryRequest)
R = TypeVar("R", bound=Message)
Q_contra = TypeVar("Q_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

log = logger("meshtls.agent")


class _State(Protocol[Q_contra, R_co]):
    @property
    def sent(self) -> int: ...

    def take(self, request: Q_contra, /) -> str | None: ...

    def response(self, secrets: Mapping[str, NamedSecret], /) -> R_co | None: ...

    def newly_missing(self, secrets: Mapping[str, NamedSecret], /) -> tuple[str, ...]: ...


class SecretDiscovery(SecretDiscoveryServiceBase):
    """Serve it with ``serve_callers``. A caller gets secrets of its own entries only, whatever it requests."""

    def __init__(self, callers: CallerViews) -> None:
        self._callers = callers
        self._log = CountedLog(log)

    async def StreamSecrets(  # noqa: N802
        self, stream: Stream[pb.DiscoveryRequest, pb.DiscoveryResponse]
    ) -> None:
        await self._follow(stream, WorldState())

    async def DeltaSecrets(  # noqa: N802
        self, stream: Stream[pb.DeltaDiscoveryRequest, pb.DeltaDiscoveryResponse]
    ) -> None:
        await self._follow(stream, DeltaState())

    async def FetchSecrets(  # noqa: N802
        self, stream: Stream[pb.DiscoveryRequest, pb.DiscoveryResponse]
    ) -> None:
        request = await stream.recv_message()
        if request is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "wanted a request message, got none")
        _check_type(request.type_url)
        secrets = secrets_of(await self._callers.settled())
        wanted = names_or_all(request.resource_names, secrets)
        found = [secrets[name] for name in wanted if name in secrets]
        if not found:
            raise GRPCError(
                Status.NOT_FOUND, f"no such secret; available to the caller: {', '.join(secrets) or 'none yet'}"
            )
        await stream.send_message(world(found, "1"))

    async def _follow(self, stream: Stream[Q, R], state: _State[Q, R]) -> None:
        with self._callers.watch() as watch:
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            async with in_background(_take_requests(stream, state, watch.news, ended, self._log), "read SDS requests"):
                while True:
                    try:
                        view = await watch.settled()
                    except GRPCError as error:
                        if error.status is Status.PERMISSION_DENIED:
                            await _remove_all(stream, state)
                        raise
                    await _respond(stream, state, view, self._log)
                    if ended.done():
                        return ended.result()
                    await watch.news.wait()


async def _take_requests(
    stream: Stream[Q, R], state: _State[Q, R], news: asyncio.Event, ended: asyncio.Future[None], counted: CountedLog
) -> None:
    caller = current_caller()
    async for request in stream:
        try:
            _check_type(request.type_url)
        except GRPCError as error:
            ended.set_exception(error)
            break
        refused = state.take(request)
        if refused is not None:
            counted.warning(
                ("refused", caller.credentials.uid),
                f"Envoy, {caller}, rejected the update and keeps its present secrets: {refused}",
            )
        news.set()
    else:
        ended.set_result(None)
    news.set()


def _check_type(type_url: str) -> None:
    """Envoy omits the type if the method implies it."""
    if type_url not in ("", SECRET_TYPE):
        raise GRPCError(Status.INVALID_ARGUMENT, f"type_url: wanted {SECRET_TYPE}, got {type_url}")


async def _remove_all(stream: Stream[Q, R], state: _State[Q, R]) -> None:
    """Remove everything that the caller was sent. Only the incremental protocol can express that."""
    if state.sent and (response := state.response({})) is not None:
        await stream.send_message(response)


async def _respond(stream: Stream[Q, R], state: _State[Q, R], view: View, counted: CountedLog) -> None:
    secrets = secrets_of(view)
    missing = state.newly_missing(secrets)
    if missing:
        has = ", ".join(secrets) or "none yet"
        caller = current_caller()
        counted.warning(
            ("missing", caller.credentials.uid),
            f"Envoy, {caller}, requests unknown secrets {', '.join(missing)}; available to it: {has}",
        )
    response = state.response(secrets)
    if response is not None:
        await stream.send_message(response)
