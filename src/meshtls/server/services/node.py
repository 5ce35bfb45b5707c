"""What an attested agent may ask for: its own renewal, SVIDs of the entries it may serve, and the stream of changes."""

from __future__ import annotations

import asyncio

from grpclib.server import Stream

from meshtls.clock import first_of
from meshtls.errors import AccessError, MeshtlsError, NotFoundError
from meshtls.proto import server_grpc, server_pb
from meshtls.registration import AgentRecord, Entry, Issuance
from meshtls.rpc.calls import received, status_of
from meshtls.server.core import Core
from meshtls.server.door import current_caller
from meshtls.server.entries import Node
from meshtls.server.store import agents, issuances
from meshtls.server.stream import SyncStream, says_something
from meshtls.server.subscription import Subscription
from meshtls.serverapi.messages import bundle_message, svid_message, token_message
from meshtls.svid.verify import VerifiedPeer

__all__ = ["NodeService"]

# So many signatures are made before others get their turn on the event loop: about 3 ms.
_SLICE = 16
_HEARTBEAT_SECONDS = 30.0


class NodeService(server_grpc.NodeBase):
    """An agent gets what its own entries say and nothing else, however it asks."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def GetBundle(self, stream: Stream[server_pb.GetBundleRequest, server_pb.Bundle]) -> None:
        await received(stream)
        await stream.send_message(bundle_message(self._core.hub.bundle))

    async def RenewAgent(self, stream: Stream[server_pb.RenewAgentRequest, server_pb.X509Svid]) -> None:
        agent = _agent()
        csr = (await received(stream)).csr
        me = agent.spiffe_id
        signed = self._core.signing.x509(me, csr, self._core.config.agent_ttl, agent_id=me)
        async with self._core.database.write() as tx:
            await agents.renew_agent(tx, me, signed.record.serial, signed.record.not_after)
            await issuances.record_issuances(tx, [signed.record])
        await stream.send_message(svid_message(me, signed.chain))

    async def SignX509(self, stream: Stream[server_pb.SignX509Request, server_pb.SignX509Response]) -> None:
        agent = _agent()
        requests = (await received(stream)).requests
        results: list[server_pb.SignedEntry] = []
        records: list[Issuance] = []
        for start in range(0, len(requests), _SLICE):
            for request in requests[start : start + _SLICE]:
                results.append(self._signed(agent, request, records))
            await asyncio.sleep(0)
        async with self._core.database.write() as tx:
            await issuances.record_issuances(tx, records)
        await stream.send_message(server_pb.SignX509Response(results=results))

    async def SignJwt(self, stream: Stream[server_pb.SignJwtRequest, server_pb.JwtSvid]) -> None:
        agent = _agent()
        request = await received(stream)
        entry = self._entry(agent, request.entry_id)
        signed = self._core.signing.jwt(
            entry.spiffe_id,
            request.audience,
            self._core.jwt_life(entry),
            agent_id=agent.spiffe_id,
            entry_id=entry.id,
        )
        async with self._core.database.write() as tx:
            await issuances.record_token(tx, signed.record)
        await stream.send_message(token_message(signed.svid))

    async def Sync(self, stream: Stream[server_pb.SyncRequest, server_pb.SyncResponse]) -> None:
        agent, peer = _agent(), _peer()
        revision = (await received(stream)).revision
        with self._core.hub.subscription(_node(agent)) as subscription:
            # A ban from before the subscription would wake nobody: so the agent is looked at once more after it.
            subscription.recheck = True
            told = SyncStream(self._core.hub, subscription)
            await self._check(subscription, peer)
            await stream.send_message(await told.first(revision))
            while True:
                await first_of(subscription.woken(), self._core.clock.sleep(_HEARTBEAT_SECONDS))
                silent = not subscription.awake
                await self._check(subscription, peer)
                message = told.next()
                if silent or says_something(message):
                    await stream.send_message(message)

    async def _check(self, subscription: Subscription, peer: VerifiedPeer) -> None:
        self._core.gate.check_current(peer)
        if subscription.recheck:
            subscription.recheck = False
            await self._core.gate.agent(peer)

    def _signed(
        self, agent: AgentRecord, request: server_pb.EntryCsr, records: list[Issuance]
    ) -> server_pb.SignedEntry:
        try:
            entry = self._entry(agent, request.entry_id)
            signed = self._core.signing.x509(
                entry.spiffe_id,
                request.csr,
                self._core.x509_life(entry),
                dns_names=entry.dns_names,
                agent_id=agent.spiffe_id,
                entry_id=entry.id,
            )
        except MeshtlsError as error:
            return server_pb.SignedEntry(refusal=server_pb.Refusal(status=status_of(error).value, message=str(error)))
        records.append(signed.record)
        return server_pb.SignedEntry(svid=svid_message(entry.spiffe_id, signed.chain, entry.id))

    def _entry(self, agent: AgentRecord, key: str) -> Entry:
        """The entry of this id, if this agent may serve it now."""
        entry = self._core.hub.index.get(key)
        # One answer for what is not there and what is another's: an agent learns nothing of others' entries.
        if entry is None or not self._core.hub.index.is_reachable(entry, _node(agent)):
            raise NotFoundError(f"entry {key}: agent {agent.spiffe_id} may serve none with this id")
        if entry.expired(self._core.clock.now()):
            raise NotFoundError(f"entry {key} of {entry.spiffe_id} has expired")
        return entry


def _agent() -> AgentRecord:
    agent = current_caller().agent
    if agent is None:
        raise AccessError("this is for agents")
    return agent


def _peer() -> VerifiedPeer:
    peer = current_caller().peer
    if peer is None:
        raise AccessError("this is for agents")
    return peer


def _node(agent: AgentRecord) -> Node:
    return Node(agent.spiffe_id, frozenset(agent.selectors))
