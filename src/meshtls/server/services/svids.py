"""Minting by administrators, and the record of all that was issued."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.errors import RequestError
from meshtls.proto import server_grpc, server_pb
from meshtls.registration import RESERVED
from meshtls.rpc.calls import received
from meshtls.server.core import Core, lifetime, page_size
from meshtls.server.store import issuances
from meshtls.serverapi.messages import issuance_message, svid_message, token_message
from meshtls.spiffeid import SpiffeId

__all__ = ["SvidsService"]


class SvidsService(server_grpc.SvidsBase):
    """What is minted here is recorded before it is answered, without agent and entry."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def MintX509(self, stream: Stream[server_pb.MintX509Request, server_pb.X509Svid]) -> None:
        request = await received(stream)
        spiffe_id = _mintable(request.spiffe_id)
        life = lifetime(request.ttl, self._core.config.default_x509_svid_ttl)
        signed = self._core.signing.x509(spiffe_id, request.csr, life, dns_names=request.dns_names)
        async with self._core.database.write() as tx:
            await issuances.record_issuances(tx, [signed.record])
        await stream.send_message(svid_message(spiffe_id, signed.chain))

    async def MintJwt(self, stream: Stream[server_pb.MintJwtRequest, server_pb.JwtSvid]) -> None:
        request = await received(stream)
        spiffe_id = _mintable(request.spiffe_id)
        if not spiffe_id.member_of(self._core.hub.trust_domain):
            raise RequestError(f"{spiffe_id}: this CA issues for trust domain {self._core.hub.trust_domain} only")
        life = lifetime(request.ttl, self._core.config.default_jwt_svid_ttl)
        signed = self._core.signing.jwt(spiffe_id, request.audience, life)
        async with self._core.database.write() as tx:
            await issuances.record_token(tx, signed.record)
        await stream.send_message(token_message(signed.svid))

    async def ListIssuances(self, stream: Stream[server_pb.ListIssuancesRequest, server_pb.IssuanceList]) -> None:
        request = await received(stream)
        wanted = SpiffeId.parse(request.spiffe_id) if request.spiffe_id else None
        async with self._core.database.read() as tx:
            page = await issuances.list_issuances(
                tx, request.after, page_size(request.page_size), spiffe_id=wanted, serial=request.serial or None
            )
        await stream.send_message(server_pb.IssuanceList(issuances=map(issuance_message, page)))


def _mintable(text: str) -> SpiffeId:
    spiffe_id = SpiffeId.parse(text)
    if not spiffe_id.path or spiffe_id.segments[:1] == (RESERVED,):
        raise RequestError(f"{spiffe_id}: wanted a workload's ID; those below /{RESERVED}/ are servers and agents")
    return spiffe_id
