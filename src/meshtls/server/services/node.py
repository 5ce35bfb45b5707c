"""The calls of an attested agent: renewal, signing and sync, over gRPC."""

from __future__ import annotations

from contextlib import aclosing

from grpclib.server import Stream

from meshtls.errors import MeshtlsError
from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received, status_of
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations import svids
from meshtls.server.operations.agents import renew_agent
from meshtls.server.operations.authorities import confirm_bundle
from meshtls.server.operations.bundles import get_bundle
from meshtls.server.operations.sync import sync
from meshtls.server.signing import Signed
from meshtls.serverapi.messages import bundle_message, svid_message, token_message, update_message

__all__ = ["NodeService"]


class NodeService(server_grpc.NodeBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def GetBundle(self, stream: Stream[server_pb.GetBundleRequest, server_pb.Bundle]) -> None:
        await received(stream)
        await stream.send_message(bundle_message(await get_bundle(self._core, self._caller)))

    async def RenewAgent(self, stream: Stream[server_pb.RenewAgentRequest, server_pb.X509Svid]) -> None:
        signed = await renew_agent(self._core, self._caller, (await received(stream)).csr)
        await stream.send_message(svid_message(signed.record.spiffe_id, signed.chain))

    async def SignX509(self, stream: Stream[server_pb.SignX509Request, server_pb.SignX509Response]) -> None:
        requests = [(request.entry_id, request.csr) for request in (await received(stream)).requests]
        results = await svids.sign_x509(self._core, self._caller, requests)
        await stream.send_message(server_pb.SignX509Response(results=map(_signed_entry, results)))

    async def SignJwt(self, stream: Stream[server_pb.SignJwtRequest, server_pb.JwtSvid]) -> None:
        request = await received(stream)
        signed = await svids.sign_jwt(self._core, self._caller, request.entry_id, request.audience)
        await stream.send_message(token_message(signed.svid))

    async def ConfirmBundle(self, stream: Stream[server_pb.ConfirmBundleRequest, server_pb.Done]) -> None:
        await confirm_bundle(self._core, self._caller, (await received(stream)).sequence)
        await stream.send_message(server_pb.Done())

    async def Sync(self, stream: Stream[server_pb.SyncRequest, server_pb.SyncResponse]) -> None:
        revision = (await received(stream)).revision
        async with aclosing(sync(self._core, self._caller, revision)) as updates:
            async for update in updates:
                await stream.send_message(update_message(update))


def _signed_entry(result: Signed | MeshtlsError) -> server_pb.SignedEntry:
    if isinstance(result, MeshtlsError):
        return server_pb.SignedEntry(refusal=server_pb.Refusal(status=status_of(result).value, message=str(result)))
    return server_pb.SignedEntry(svid=svid_message(result.record.spiffe_id, result.chain, result.record.entry_id or ""))
