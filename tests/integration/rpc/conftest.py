"""A listener on a Unix socket with gRPC's health service: Check responds with the length of the request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel
from grpclib.server import Stream

from meshtls.proto import health_pb as pb
from meshtls.proto.health_grpc import HealthBase, HealthStub
from meshtls.rpc.grpc_listener import Listening, serve_grpc
from meshtls.rpc.limits import ListenerLimits
from meshtls.rpc.shedding import Refusals
from meshtls.rpc.sockets import unix_listener
from tests.support.agent import short_directory
from tests.support.loops import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
from tests.support.waiting import SECONDS


class Service(HealthBase):
    def __init__(self) -> None:
        self.begun = self.ended = 0

    async def Check(self, stream: Stream[pb.HealthCheckRequest, pb.HealthCheckResponse]) -> None:  # noqa: N802
        request = await stream.recv_message()
        assert request is not None
        await stream.send_message(pb.HealthCheckResponse(status=len(request.service)))

    async def Watch(self, stream: Stream[pb.HealthCheckRequest, pb.HealthCheckResponse]) -> None:  # noqa: N802
        self.begun += 1
        try:
            await stream.recv_message()
            await stream.send_message(pb.HealthCheckResponse(status=1))
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended += 1


@dataclass(frozen=True, slots=True)
class Under:
    """A listener under test."""

    path: Path
    service: Service
    refusals: Refusals

    async def asked(self, text: str = "abc") -> int:
        """The response to a well-behaved caller, over a new connection."""
        channel = Channel(path=str(self.path))
        try:
            answer = await HealthStub(channel).Check(pb.HealthCheckRequest(service=text), timeout=SECONDS)
            return answer.status
        finally:
            channel.close()


Serve = Callable[..., AbstractAsyncContextManager[Under]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with short_directory() as directory:

        @asynccontextmanager
        async def serving(**limits: Any) -> AsyncIterator[Under]:
            path, service, refusals = directory / "test.sock", Service(), Refusals()
            listening = Listening(name="test", limits=replace(ListenerLimits(), **limits), refusals=refusals)
            with unix_listener(path, 0o600) as listener:
                async with serve_grpc([service], listener, listening):
                    yield Under(path, service, refusals)

        yield serving
