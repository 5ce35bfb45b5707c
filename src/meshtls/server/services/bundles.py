"""Our bundle, and those of other trust domains, for administrators."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.errors import RequestError
from meshtls.logs import logger
from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.core import Core
from meshtls.server.store import bundles
from meshtls.serverapi.messages import bundle_message, bundle_of
from meshtls.spiffeid import TrustDomain

__all__ = ["BundlesService"]

log = logger("meshtls.server")


class BundlesService(server_grpc.BundlesBase):
    """Each change is committed, and the agents that need the bundle are woken, before its answer."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def GetBundle(self, stream: Stream[server_pb.GetBundleRequest, server_pb.Bundle]) -> None:
        await received(stream)
        await stream.send_message(bundle_message(self._core.hub.bundle))

    async def ListBundles(self, stream: Stream[server_pb.ListBundlesRequest, server_pb.BundleList]) -> None:
        await received(stream)
        async with self._core.database.read() as tx:
            found = await bundles.federated_bundles(tx)
        await stream.send_message(server_pb.BundleList(bundles=map(bundle_message, found)))

    async def SetBundle(self, stream: Stream[server_pb.Bundle, server_pb.Done]) -> None:
        bundle = bundle_of(await received(stream))
        self._check_foreign(bundle.trust_domain)
        for line in bundle.unusable:
            log.warning("bundle set by an administrator: %s", line)
        if not bundle.x509_authorities and not bundle.jwt_authorities:
            raise RequestError(
                f"bundle of trust domain {bundle.trust_domain}: wanted at least one usable key, got none"
                + "".join(f"; {line}" for line in bundle.unusable)
            )
        async with self._core.database.write() as tx:
            await bundles.set_bundle(tx, bundle)
        await self._core.hub.written()
        await stream.send_message(server_pb.Done())

    async def DeleteBundle(self, stream: Stream[server_pb.BundleId, server_pb.Done]) -> None:
        trust_domain = TrustDomain.parse((await received(stream)).trust_domain)
        self._check_foreign(trust_domain)
        async with self._core.database.write() as tx:
            await bundles.delete_bundle(tx, trust_domain)
        await self._core.hub.written()
        await stream.send_message(server_pb.Done())

    def _check_foreign(self, trust_domain: TrustDomain) -> None:
        if trust_domain == self._core.hub.trust_domain:
            raise RequestError(f"trust domain {trust_domain}: its bundle is this server's own and made by its servers")
