"""Registration entries, over gRPC."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations import entries
from meshtls.serverapi.messages import entry_message, entry_of, filter_of

__all__ = ["EntriesService"]


class EntriesService(server_grpc.EntriesBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def CreateEntries(self, stream: Stream[server_pb.CreateEntriesRequest, server_pb.EntryList]) -> None:
        new = [entry_of(message) for message in (await received(stream)).entries]
        kept = await entries.create_entries(self._core, self._caller, new)
        await stream.send_message(server_pb.EntryList(entries=map(entry_message, kept)))

    async def GetEntry(self, stream: Stream[server_pb.EntryId, server_pb.Entry]) -> None:
        found = await entries.get_entry(self._core, self._caller, (await received(stream)).id)
        await stream.send_message(entry_message(found))

    async def ListEntries(self, stream: Stream[server_pb.ListEntriesRequest, server_pb.EntryList]) -> None:
        request = await received(stream)
        page, following = await entries.list_entries(
            self._core, self._caller, filter_of(request.filter), request.page_token, request.page_size
        )
        await stream.send_message(server_pb.EntryList(entries=map(entry_message, page), next_page_token=following))

    async def UpdateEntry(self, stream: Stream[server_pb.Entry, server_pb.Entry]) -> None:
        changed = entry_of(await received(stream))
        [kept] = await entries.update_entries(self._core, self._caller, [changed])
        await stream.send_message(entry_message(kept))

    async def UpdateEntries(self, stream: Stream[server_pb.EntryList, server_pb.EntryList]) -> None:
        changed = [entry_of(message) for message in (await received(stream)).entries]
        kept = await entries.update_entries(self._core, self._caller, changed)
        await stream.send_message(server_pb.EntryList(entries=map(entry_message, kept)))

    async def DeleteEntries(self, stream: Stream[server_pb.DeleteEntriesRequest, server_pb.Done]) -> None:
        await entries.delete_entries(self._core, self._caller, (await received(stream)).ids)
        await stream.send_message(server_pb.Done())

    async def CountEntries(self, stream: Stream[server_pb.EntryFilter, server_pb.Count]) -> None:
        count = await entries.count_entries(self._core, self._caller, filter_of(await received(stream)))
        await stream.send_message(server_pb.Count(count=count))
