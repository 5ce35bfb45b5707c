"""Revocation and readmission, over gRPC."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations import revocations
from meshtls.serverapi.messages import block_message, revoked_message, revoked_svid_message, subject_of

__all__ = ["RevocationsService"]


class RevocationsService(server_grpc.RevocationsBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def Revoke(self, stream: Stream[server_pb.RevokeRequest, server_pb.Revoked]) -> None:
        request = await received(stream)
        revoked = await revocations.revoke(self._core, self._caller, subject_of(request.subject), request.reason)
        await stream.send_message(revoked_message(revoked))

    async def Readmit(self, stream: Stream[server_pb.RevocationSubject, server_pb.Revoked]) -> None:
        subject = subject_of(await received(stream))
        await stream.send_message(revoked_message(await revocations.readmit(self._core, self._caller, subject)))

    async def ListRevocations(self, stream: Stream[server_pb.ListRevocationsRequest, server_pb.RevocationList]) -> None:
        request = await received(stream)
        blocks, svids = await revocations.list_revocations(self._core, self._caller, request.after, request.page_size)
        await stream.send_message(
            server_pb.RevocationList(blocks=map(block_message, blocks), svids=map(revoked_svid_message, svids))
        )
