"""The servers' authorities, over gRPC."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations import authorities
from meshtls.serverapi.messages import authority_message

__all__ = ["AuthoritiesService"]

_Asked = Stream[server_pb.AuthorityRequest, server_pb.Authority]


class AuthoritiesService(server_grpc.AuthoritiesBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def ListAuthorities(self, stream: Stream[server_pb.ListAuthoritiesRequest, server_pb.AuthorityList]) -> None:
        await received(stream)
        found = await authorities.list_authorities(self._core, self._caller)
        await stream.send_message(server_pb.AuthorityList(authorities=map(authority_message, found)))

    async def PrepareAuthority(self, stream: _Asked) -> None:
        request = await received(stream)
        await stream.send_message(
            authority_message(await authorities.prepare_authority(self._core, self._caller, request.kind))
        )

    async def ActivateAuthority(self, stream: _Asked) -> None:
        request = await received(stream)
        activated = await authorities.activate_authority(
            self._core, self._caller, request.kind, request.id, force=request.force
        )
        await stream.send_message(authority_message(activated))

    async def TaintAuthority(self, stream: _Asked) -> None:
        request = await received(stream)
        tainted = await authorities.taint_authority(self._core, self._caller, request.kind, request.id)
        await stream.send_message(authority_message(tainted))

    async def RevokeAuthority(self, stream: _Asked) -> None:
        request = await received(stream)
        revoked = await authorities.revoke_authority(
            self._core, self._caller, request.kind, request.id, force=request.force
        )
        await stream.send_message(authority_message(revoked))
