"""The server's API for administrators.

Its calls raise the errors of ``serverapi.node``, and ConflictError for something that exists already.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable
from datetime import timedelta

from cryptography import x509
from grpclib.client import Channel

from meshtls.bundle import TrustBundle
from meshtls.proto import server_grpc, server_pb
from meshtls.registration import AgentRecord, Entry, EntryFilter, Issuance
from meshtls.serverapi.channels import CALL_SECONDS, our_errors
from meshtls.serverapi.messages import (
    agent_of,
    bundle_message,
    bundle_of,
    chain_of,
    entry_message,
    entry_of,
    filter_message,
    health_of,
    issuance_of,
    join_token_of,
)
from meshtls.serverapi.values import Health, JoinToken
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["AdminClient"]

_EVERYTHING = EntryFilter()
_DEFAULT = timedelta()


class AdminClient:
    """One method for each call of the API. A TTL of zero means the server's default; lists are fetched page by page."""

    def __init__(self, channel: Channel) -> None:
        self._entries = server_grpc.EntriesStub(channel)
        self._agents = server_grpc.AgentsStub(channel)
        self._svids = server_grpc.SvidsStub(channel)
        self._bundles = server_grpc.BundlesStub(channel)
        self._health = server_grpc.HealthStub(channel)

    async def create_entries(self, entries: Iterable[Entry]) -> list[Entry]:
        """All or none."""
        request = server_pb.CreateEntriesRequest(entries=map(entry_message, entries))
        with our_errors():
            return [entry_of(one) for one in (await self._entries.CreateEntries(request, timeout=CALL_SECONDS)).entries]

    async def entry(self, key: str) -> Entry:
        with our_errors():
            return entry_of(await self._entries.GetEntry(server_pb.EntryId(id=key), timeout=CALL_SECONDS))

    async def entries(self, wanted: EntryFilter = _EVERYTHING, page_size: int = 0) -> AsyncGenerator[Entry]:
        """The entries that match the filter, ordered by id."""
        request = server_pb.ListEntriesRequest(filter=filter_message(wanted), page_size=page_size)
        while True:
            with our_errors():
                page = await self._entries.ListEntries(request, timeout=CALL_SECONDS)
            for message in page.entries:
                yield entry_of(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update_entry(self, entry: Entry) -> Entry:
        """Replace the entry with this id. A revision above 0 must be the entry's current one."""
        with our_errors():
            return entry_of(await self._entries.UpdateEntry(entry_message(entry), timeout=CALL_SECONDS))

    async def update_entries(self, entries: Iterable[Entry]) -> list[Entry]:
        """``update_entry`` for several: all or none."""
        request = server_pb.EntryList(entries=map(entry_message, entries))
        with our_errors():
            return [entry_of(one) for one in (await self._entries.UpdateEntries(request, timeout=CALL_SECONDS)).entries]

    async def delete_entries(self, ids: Iterable[str]) -> None:
        """All or none."""
        with our_errors():
            await self._entries.DeleteEntries(server_pb.DeleteEntriesRequest(ids=ids), timeout=CALL_SECONDS)

    async def count_entries(self, wanted: EntryFilter = _EVERYTHING) -> int:
        with our_errors():
            return (await self._entries.CountEntries(filter_message(wanted), timeout=CALL_SECONDS)).count

    async def create_join_token(self, ttl: timedelta = _DEFAULT, spiffe_id: SpiffeId | None = None) -> JoinToken:
        """``spiffe_id`` is an alias of the node, which can be the parent of its entries."""
        request = server_pb.CreateJoinTokenRequest(ttl=_seconds(ttl), spiffe_id=str(spiffe_id or ""))
        with our_errors():
            return join_token_of(await self._agents.CreateJoinToken(request, timeout=CALL_SECONDS))

    async def agent(self, spiffe_id: SpiffeId) -> AgentRecord:
        with our_errors():
            return agent_of(await self._agents.GetAgent(_agent(spiffe_id), timeout=CALL_SECONDS))

    async def agents(self, *, only_banned: bool = False, page_size: int = 0) -> AsyncGenerator[AgentRecord]:
        request = server_pb.ListAgentsRequest(only_banned=only_banned, page_size=page_size)
        while True:
            with our_errors():
                page = await self._agents.ListAgents(request, timeout=CALL_SECONDS)
            for message in page.agents:
                yield agent_of(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def ban_agent(self, spiffe_id: SpiffeId) -> None:
        """Refuse the agent from now on, and also when it attests again."""
        with our_errors():
            await self._agents.BanAgent(_agent(spiffe_id), timeout=CALL_SECONDS)

    async def evict_agent(self, spiffe_id: SpiffeId) -> None:
        """Delete the agent's record: it must attest again, and may."""
        with our_errors():
            await self._agents.EvictAgent(_agent(spiffe_id), timeout=CALL_SECONDS)

    async def mint_x509(
        self, spiffe_id: SpiffeId, csr: bytes, ttl: timedelta = _DEFAULT, dns_names: Iterable[str] = ()
    ) -> tuple[x509.Certificate, ...]:
        """A chain, leaf first, for any workload ID of the trust domain."""
        request = server_pb.MintX509Request(spiffe_id=str(spiffe_id), csr=csr, ttl=_seconds(ttl), dns_names=dns_names)
        with our_errors():
            return chain_of(await self._svids.MintX509(request, timeout=CALL_SECONDS))

    async def mint_jwt(self, spiffe_id: SpiffeId, audience: Collection[str], ttl: timedelta = _DEFAULT) -> str:
        """A JWT-SVID for any workload ID of the trust domain."""
        request = server_pb.MintJwtRequest(spiffe_id=str(spiffe_id), audience=audience, ttl=_seconds(ttl))
        with our_errors():
            return (await self._svids.MintJwt(request, timeout=CALL_SECONDS)).token

    async def issuances(
        self, *, spiffe_id: SpiffeId | None = None, serial: str = "", after: int = 0, page_size: int = 0
    ) -> AsyncGenerator[Issuance]:
        """The record of issued SVIDs, oldest first, those with a number above ``after``."""
        request = server_pb.ListIssuancesRequest(
            after=after, spiffe_id=str(spiffe_id or ""), serial=serial, page_size=page_size
        )
        while True:
            with our_errors():
                page = await self._svids.ListIssuances(request, timeout=CALL_SECONDS)
            for message in page.issuances:
                yield issuance_of(message)
            if not page.issuances:
                return
            request.after = page.issuances[-1].number

    async def bundle(self) -> TrustBundle:
        """The bundle of the server's own trust domain."""
        with our_errors():
            return bundle_of(await self._bundles.GetBundle(server_pb.GetBundleRequest(), timeout=CALL_SECONDS))

    async def bundles(self) -> list[TrustBundle]:
        """The bundles of other trust domains."""
        with our_errors():
            found = await self._bundles.ListBundles(server_pb.ListBundlesRequest(), timeout=CALL_SECONDS)
        return [bundle_of(one) for one in found.bundles]

    async def set_bundle(self, bundle: TrustBundle) -> None:
        with our_errors():
            await self._bundles.SetBundle(bundle_message(bundle), timeout=CALL_SECONDS)

    async def delete_bundle(self, trust_domain: TrustDomain) -> None:
        with our_errors():
            request = server_pb.BundleId(trust_domain=str(trust_domain))
            await self._bundles.DeleteBundle(request, timeout=CALL_SECONDS)

    async def health(self) -> Health:
        with our_errors():
            return health_of(await self._health.GetHealth(server_pb.GetHealthRequest(), timeout=CALL_SECONDS))


def _agent(spiffe_id: SpiffeId) -> server_pb.AgentId:
    return server_pb.AgentId(spiffe_id=str(spiffe_id))


def _seconds(ttl: timedelta) -> int:
    return int(ttl.total_seconds())
