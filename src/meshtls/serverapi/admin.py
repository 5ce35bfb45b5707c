"""The server's API for administrators.

Its calls raise the errors of ``serverapi.node``, and ConflictError for something that exists already.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterable
from datetime import timedelta

from cryptography import x509
from grpclib.client import Channel

from meshtls.bundle import TrustBundle
from meshtls.errors import RequestError
from meshtls.observe.audit import AuditHead, AuditLine
from meshtls.proto import server_grpc, server_pb
from meshtls.registration import AgentRecord, Entry, EntryFilter, Issuance
from meshtls.serverapi.channels import CALL_SECONDS, our_errors
from meshtls.serverapi.federation import Relation, RelationStatus
from meshtls.serverapi.federation_messages import relation_message, status_of
from meshtls.serverapi.messages import (
    agent_of,
    authority_of,
    block_of,
    bundle_message,
    bundle_of,
    chain_of,
    entry_message,
    entry_of,
    filter_message,
    health_of,
    issuance_of,
    join_token_of,
    revoked_of,
    revoked_svid_of,
    subject_message,
)
from meshtls.serverapi.values import AuthorityStatus, Block, Health, JoinToken, Revoked, RevokedSvid, Subject
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["AdminClient"]

_EVERYTHING = EntryFilter()
_DEFAULT = timedelta()
#: The server gives up before (server.bundle_fetching).
_FETCH_SECONDS = 45.0


class AdminClient:
    """One method for each call of the API. A TTL of zero means the server's default; lists are fetched page by page."""

    def __init__(self, channel: Channel) -> None:
        self._entries = server_grpc.EntriesStub(channel)
        self._agents = server_grpc.AgentsStub(channel)
        self._svids = server_grpc.SvidsStub(channel)
        self._bundles = server_grpc.BundlesStub(channel)
        self._federation = server_grpc.FederationStub(channel)
        self._log = server_grpc.LogStub(channel)
        self._authorities = server_grpc.AuthoritiesStub(channel)
        self._revocations = server_grpc.RevocationsStub(channel)
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
        """As ``update_entry``, for several: all or none."""
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
        """Create a join token. ``spiffe_id`` is an alias of the node, which can be the parent of its entries."""
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

    async def create_relation(self, relation: Relation, bundle: TrustBundle | None = None) -> RelationStatus:
        """Have the server fetch the bundle of another trust domain. ``bundle`` is set first."""
        with our_errors():
            request = _relation_request(relation, bundle)
            return status_of(await self._federation.CreateRelation(request, timeout=CALL_SECONDS))

    async def relations(self) -> list[RelationStatus]:
        """The relations of the server's file and of its store, ordered by trust domain."""
        with our_errors():
            found = await self._federation.ListRelations(server_pb.ListRelationsRequest(), timeout=CALL_SECONDS)
        return [status_of(one) for one in found.relations]

    async def update_relation(self, relation: Relation, bundle: TrustBundle | None = None) -> RelationStatus:
        with our_errors():
            request = _relation_request(relation, bundle)
            return status_of(await self._federation.UpdateRelation(request, timeout=CALL_SECONDS))

    async def delete_relation(self, trust_domain: TrustDomain, *, keep_bundle: bool = False) -> None:
        """End the relation, and connections with that trust domain unless its bundle is kept."""
        with our_errors():
            request = server_pb.DeleteRelationRequest(trust_domain=str(trust_domain), keep_bundle=keep_bundle)
            await self._federation.DeleteRelation(request, timeout=CALL_SECONDS)

    async def refresh_relation(self, trust_domain: TrustDomain) -> RelationStatus:
        """Have the server fetch the bundle now; the status has the reason if that fails."""
        with our_errors():
            request = server_pb.BundleId(trust_domain=str(trust_domain))
            return status_of(await self._federation.RefreshRelation(request, timeout=_FETCH_SECONDS))

    async def read_log(self, path: str) -> bytes:
        """A resource of the transparency log, by its path. Raises NotFoundError for a path without one."""
        with our_errors():
            return (await self._log.ReadLog(server_pb.ReadLogRequest(path=path), timeout=CALL_SECONDS)).content

    async def audit(self, after: int = 0, page_size: int = 0) -> AsyncGenerator[AuditLine]:
        """The audit trail, oldest first, from the record after number ``after`` on."""
        request = server_pb.ListAuditRequest(after=after, page_size=page_size)
        while True:
            with our_errors():
                page = await self._log.ListAudit(request, timeout=CALL_SECONDS)
            for line in page.lines:
                yield AuditLine(line.number, line.record, line.hash)
            if not page.lines:
                return
            request.after = page.lines[-1].number

    async def audit_head(self) -> AuditHead:
        """The number and the hash of the record that was written last, which the store keeps beside the records.

        Raises RequestError if the server does not say it, as one before this call.
        """
        with our_errors():
            page = await self._log.ListAudit(server_pb.ListAuditRequest(page_size=1), timeout=CALL_SECONDS)
        if not page.HasField("head"):
            raise RequestError("audit trail: the server does not say which record was written last; update it")
        return AuditHead(page.head.number, page.head.hash)

    async def authorities(self) -> list[AuthorityStatus]:
        """The authorities of all servers, in the order of their publication."""
        with our_errors():
            found = await self._authorities.ListAuthorities(server_pb.ListAuthoritiesRequest(), timeout=CALL_SECONDS)
        return [authority_of(one) for one in found.authorities]

    async def prepare_authority(self, kind: str) -> AuthorityStatus:
        """Make and publish the server's next authority of this kind, x509 or jwt."""
        with our_errors():
            request = server_pb.AuthorityRequest(kind=kind)
            return authority_of(await self._authorities.PrepareAuthority(request, timeout=CALL_SECONDS))

    async def activate_authority(self, kind: str, wanted: str = "", *, force: bool = False) -> AuthorityStatus:
        """Have the server sign with its prepared authority. ``wanted`` is an id or its beginning, here and below."""
        with our_errors():
            request = server_pb.AuthorityRequest(kind=kind, id=wanted, force=force)
            return authority_of(await self._authorities.ActivateAuthority(request, timeout=CALL_SECONDS))

    async def taint_authority(self, kind: str, wanted: str = "") -> AuthorityStatus:
        """Have all SVIDs that hang on this old authority replaced now."""
        with our_errors():
            request = server_pb.AuthorityRequest(kind=kind, id=wanted)
            return authority_of(await self._authorities.TaintAuthority(request, timeout=CALL_SECONDS))

    async def revoke_authority(self, kind: str, wanted: str = "", *, force: bool = False) -> AuthorityStatus:
        """Take this authority out of the bundle: peers refuse all its SVIDs from then on."""
        with our_errors():
            request = server_pb.AuthorityRequest(kind=kind, id=wanted, force=force)
            return authority_of(await self._authorities.RevokeAuthority(request, timeout=CALL_SECONDS))

    async def revoke(self, subject: Subject, reason: str = "") -> Revoked:
        """Refuse what was issued to this subject, and issue nothing for it until it is readmitted."""
        request = server_pb.RevokeRequest(subject=subject_message(subject), reason=reason)
        with our_errors():
            return revoked_of(await self._revocations.Revoke(request, timeout=CALL_SECONDS))

    async def readmit(self, subject: Subject) -> Revoked:
        """Issue for this subject again, and reinstate what is on hold."""
        with our_errors():
            return revoked_of(await self._revocations.Readmit(subject_message(subject), timeout=CALL_SECONDS))

    async def revocations(self, page_size: int = 0) -> AsyncGenerator[Block | RevokedSvid]:
        """What is blocked, then the revoked SVIDs that have not expired."""
        request = server_pb.ListRevocationsRequest(page_size=page_size)
        while True:
            with our_errors():
                page = await self._revocations.ListRevocations(request, timeout=CALL_SECONDS)
            for block in page.blocks:
                yield block_of(block)
            for svid in page.svids:
                yield revoked_svid_of(svid)
            if not page.svids:
                return
            request.after = page.svids[-1].number

    async def health(self) -> Health:
        with our_errors():
            return health_of(await self._health.GetHealth(server_pb.GetHealthRequest(), timeout=CALL_SECONDS))


def _relation_request(relation: Relation, bundle: TrustBundle | None) -> server_pb.CreateRelationRequest:
    sent = None if bundle is None else bundle_message(bundle)
    return server_pb.CreateRelationRequest(relation=relation_message(relation), bundle=sent)


def _agent(spiffe_id: SpiffeId) -> server_pb.AgentId:
    return server_pb.AgentId(spiffe_id=str(spiffe_id))


def _seconds(ttl: timedelta) -> int:
    return int(ttl.total_seconds())
