"""Our bundle and those of other trust domains, over gRPC."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations import bundles
from meshtls.serverapi.messages import bundle_message, bundle_of
from meshtls.spiffeid import TrustDomain

__all__ = ["BundlesService"]


class BundlesService(server_grpc.BundlesBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def GetBundle(self, stream: Stream[server_pb.GetBundleRequest, server_pb.Bundle]) -> None:
        await received(stream)
        await stream.send_message(bundle_message(await bundles.get_bundle(self._core, self._caller)))

    async def ListBundles(self, stream: Stream[server_pb.ListBundlesRequest, server_pb.BundleList]) -> None:
        await received(stream)
        found = await bundles.list_bundles(self._core, self._caller)
        await stream.send_message(server_pb.BundleList(bundles=map(bundle_message, found)))

    async def SetBundle(self, stream: Stream[server_pb.Bundle, server_pb.Done]) -> None:
        await bundles.set_bundle(self._core, self._caller, bundle_of(await received(stream)))
        await stream.send_message(server_pb.Done())

    async def DeleteBundle(self, stream: Stream[server_pb.BundleId, server_pb.Done]) -> None:
        trust_domain = TrustDomain.parse((await received(stream)).trust_domain)
        await bundles.delete_bundle(self._core, self._caller, trust_domain)
        await stream.send_message(server_pb.Done())
