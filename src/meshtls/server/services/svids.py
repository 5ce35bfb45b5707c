"""Minting and the record of issued SVIDs, over gRPC."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations import svids
from meshtls.serverapi.messages import issuance_message, svid_message, token_message
from meshtls.spiffeid import SpiffeId

__all__ = ["SvidsService"]


class SvidsService(server_grpc.SvidsBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def MintX509(self, stream: Stream[server_pb.MintX509Request, server_pb.X509Svid]) -> None:
        request = await received(stream)
        spiffe_id = SpiffeId.parse(request.spiffe_id)
        signed = await svids.mint_x509(self._core, self._caller, spiffe_id, request.csr, request.ttl, request.dns_names)
        await stream.send_message(svid_message(spiffe_id, signed.chain))

    async def MintJwt(self, stream: Stream[server_pb.MintJwtRequest, server_pb.JwtSvid]) -> None:
        request = await received(stream)
        spiffe_id = SpiffeId.parse(request.spiffe_id)
        signed = await svids.mint_jwt(self._core, self._caller, spiffe_id, request.audience, request.ttl)
        await stream.send_message(token_message(signed.svid))

    async def ListIssuances(self, stream: Stream[server_pb.ListIssuancesRequest, server_pb.IssuanceList]) -> None:
        request = await received(stream)
        wanted = SpiffeId.parse(request.spiffe_id) if request.spiffe_id else None
        page = await svids.list_issuances(
            self._core, self._caller, request.after, request.page_size, spiffe_id=wanted, serial=request.serial
        )
        await stream.send_message(server_pb.IssuanceList(issuances=map(issuance_message, page)))
