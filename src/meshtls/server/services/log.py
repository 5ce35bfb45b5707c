"""The transparency log and the audit trail, over gRPC."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations.audit import list_audit
from meshtls.server.operations.log import read_log

__all__ = ["LogService"]


class LogService(server_grpc.LogBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def ReadLog(self, stream: Stream[server_pb.ReadLogRequest, server_pb.LogResource]) -> None:
        request = await received(stream)
        found = await read_log(self._core, self._caller, request.path)
        await stream.send_message(server_pb.LogResource(content=found.content))

    async def ListAudit(self, stream: Stream[server_pb.ListAuditRequest, server_pb.AuditList]) -> None:
        request = await received(stream)
        page, head = await list_audit(self._core, self._caller, request.after, request.page_size)
        lines = [server_pb.AuditLine(number=one.number, record=one.record, hash=one.hash) for one in page]
        await stream.send_message(
            server_pb.AuditList(lines=lines, head=server_pb.AuditHead(number=head.number, hash=head.hash))
        )
