"""Relations with other trust domains, over gRPC."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.federating import Federation
from meshtls.server.operations import federation
from meshtls.serverapi.federation_messages import request_of, status_message
from meshtls.spiffeid import TrustDomain

__all__ = ["FederationService"]


class FederationService(server_grpc.FederationBase):
    def __init__(self, core: Core, followed: Federation, caller: Caller) -> None:
        self._core, self._followed, self._caller = core, followed, caller

    async def CreateRelation(self, stream: Stream[server_pb.CreateRelationRequest, server_pb.RelationStatus]) -> None:
        wanted = request_of(await received(stream))
        made = await federation.create_relation(self._core, self._caller, self._followed, *wanted)
        await stream.send_message(status_message(made))

    async def ListRelations(self, stream: Stream[server_pb.ListRelationsRequest, server_pb.RelationList]) -> None:
        await received(stream)
        found = await federation.list_relations(self._core, self._caller, self._followed)
        await stream.send_message(server_pb.RelationList(relations=map(status_message, found)))

    async def UpdateRelation(self, stream: Stream[server_pb.CreateRelationRequest, server_pb.RelationStatus]) -> None:
        wanted = request_of(await received(stream))
        made = await federation.update_relation(self._core, self._caller, self._followed, *wanted)
        await stream.send_message(status_message(made))

    async def DeleteRelation(self, stream: Stream[server_pb.DeleteRelationRequest, server_pb.Done]) -> None:
        wanted = await received(stream)
        domain, keep = TrustDomain.parse(wanted.trust_domain), wanted.keep_bundle
        await federation.delete_relation(self._core, self._caller, self._followed, domain, keep_bundle=keep)
        await stream.send_message(server_pb.Done())

    async def RefreshRelation(self, stream: Stream[server_pb.BundleId, server_pb.RelationStatus]) -> None:
        domain = TrustDomain.parse((await received(stream)).trust_domain)
        status = await federation.refresh_relation(self._core, self._caller, self._followed, domain)
        await stream.send_message(status_message(status))
