"""How the server is."""

from __future__ import annotations

from importlib.metadata import version

from grpclib.server import Stream

from meshtls.errors import StoreError
from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.core import Core
from meshtls.server.store.changes import current_revision

__all__ = ["HealthService"]


class HealthService(server_grpc.HealthBase):
    """Ready means that the database answers; the rest of a server answers at all only once it is ready."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def GetHealth(self, stream: Stream[server_pb.GetHealthRequest, server_pb.HealthStatus]) -> None:
        await received(stream)
        waiting_for = await self._trouble()
        hub = self._core.hub
        await stream.send_message(
            server_pb.HealthStatus(
                ready=not waiting_for,
                waiting_for=waiting_for,
                trust_domain=str(hub.trust_domain),
                server_id=self._core.signing.server_id,
                version=version("meshtls"),
                revision=hub.revision,
                entries=len(hub.index),
                agents_connected=hub.listening,
            )
        )

    async def _trouble(self) -> str:
        try:
            async with self._core.database.read() as tx:
                await current_revision(tx)
        except StoreError as error:
            return str(error)
        return ""
