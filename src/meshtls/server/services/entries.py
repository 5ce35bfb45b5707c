"""Registration entries, for administrators."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.errors import NotFoundError, RequestError
from meshtls.logs import logger
from meshtls.proto import server_grpc, server_pb
from meshtls.registration import Entry
from meshtls.rpc.calls import received
from meshtls.server.core import Core, page_size
from meshtls.server.store import entries
from meshtls.serverapi.messages import entry_message, entry_of, filter_of

__all__ = ["EntriesService"]

log = logger("meshtls.server")


class EntriesService(server_grpc.EntriesBase):
    """Each change is committed, and taken in here, before its answer."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def CreateEntries(self, stream: Stream[server_pb.CreateEntriesRequest, server_pb.EntryList]) -> None:
        new = [self._ours(message) for message in (await received(stream)).entries]
        async with self._core.database.write() as tx:
            kept = await entries.insert_entries(tx, new)
        await self._core.hub.written()
        await stream.send_message(server_pb.EntryList(entries=map(entry_message, kept)))

    async def GetEntry(self, stream: Stream[server_pb.EntryId, server_pb.Entry]) -> None:
        key = (await received(stream)).id
        async with self._core.database.read() as tx:
            found = await entries.get_entries(tx, [key])
        if not found:
            raise NotFoundError(f"entry {key}: there is none with this id")
        await stream.send_message(entry_message(found[0]))

    async def ListEntries(self, stream: Stream[server_pb.ListEntriesRequest, server_pb.EntryList]) -> None:
        request = await received(stream)
        size = page_size(request.page_size)
        async with self._core.database.read() as tx:
            page = await entries.list_entries(tx, filter_of(request.filter), request.page_token, size)
        following = page[-1].id if len(page) == size else ""
        await stream.send_message(server_pb.EntryList(entries=map(entry_message, page), next_page_token=following))

    async def UpdateEntry(self, stream: Stream[server_pb.Entry, server_pb.Entry]) -> None:
        changed = self._ours(await received(stream))
        async with self._core.database.write() as tx:
            kept = await entries.update_entry(tx, changed)
        await self._core.hub.written()
        await stream.send_message(entry_message(kept))

    async def UpdateEntries(self, stream: Stream[server_pb.EntryList, server_pb.EntryList]) -> None:
        changed = [self._ours(message) for message in (await received(stream)).entries]
        async with self._core.database.write() as tx:
            kept = [await entries.update_entry(tx, entry) for entry in changed]
        await self._core.hub.written()
        await stream.send_message(server_pb.EntryList(entries=map(entry_message, kept)))

    async def DeleteEntries(self, stream: Stream[server_pb.DeleteEntriesRequest, server_pb.Done]) -> None:
        ids = (await received(stream)).ids
        async with self._core.database.write() as tx:
            await entries.delete_entries(tx, ids)
        await self._core.hub.written()
        await stream.send_message(server_pb.Done())

    async def CountEntries(self, stream: Stream[server_pb.EntryFilter, server_pb.Count]) -> None:
        wanted = filter_of(await received(stream))
        async with self._core.database.read() as tx:
            count = await entries.count_entries(tx, wanted)
        await stream.send_message(server_pb.Count(count=count))

    def _ours(self, message: server_pb.Entry) -> Entry:
        entry = entry_of(message)
        if not entry.spiffe_id.member_of(self._core.hub.trust_domain):
            raise RequestError(f"{entry.spiffe_id}: this server registers for {self._core.hub.trust_domain} only")
        now = self._core.clock.now()
        if entry.expires_at is not None and entry.expired(now):
            raise RequestError(
                f"{entry.spiffe_id}: expires_at: wanted a time to come, or the entry is gone as soon as it is made,"
                f" got {entry.expires_at:%Y-%m-%dT%H:%M:%SZ}; our clock says {now:%Y-%m-%dT%H:%M:%SZ}"
            )
        self._tell_of_a_cut_life(entry)
        return entry

    def _tell_of_a_cut_life(self, entry: Entry) -> None:
        sure = self._core.config.ca_ttl / 2  # at which our own certificate is renewed
        if entry.x509_svid_ttl > sure.total_seconds():
            log.warning(
                "entry of %s: x509_svid_ttl of %d s is more than half of ca_ttl (%d s): an SVID ends with the"
                " certificate that signed it, and may have that little",
                entry.spiffe_id,
                entry.x509_svid_ttl,
                sure.total_seconds(),
            )
