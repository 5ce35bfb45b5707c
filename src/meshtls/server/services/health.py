"""The state of the server, over gRPC."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations.health import get_health
from meshtls.serverapi.messages import health_message

__all__ = ["HealthService"]


class HealthService(server_grpc.HealthBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def GetHealth(self, stream: Stream[server_pb.GetHealthRequest, server_pb.HealthStatus]) -> None:
        await received(stream)
        await stream.send_message(health_message(await get_health(self._core, self._caller)))
