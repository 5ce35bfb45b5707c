"""Agents and join tokens, for administrators."""

from __future__ import annotations

import secrets
import uuid
from datetime import timedelta

from grpclib.server import Stream

from meshtls.errors import NotFoundError, RequestError
from meshtls.proto import server_grpc, server_pb
from meshtls.registration import Entry, Selector, agent_id
from meshtls.rpc.calls import received
from meshtls.server.core import Core, lifetime, page_size
from meshtls.server.store import agents, entries, tokens
from meshtls.serverapi.messages import agent_message, seconds
from meshtls.spiffeid import SpiffeId

__all__ = ["AgentsService"]

_TOKEN_LIFE = timedelta(minutes=10)
_TOKEN_BYTES = 32


class AgentsService(server_grpc.AgentsBase):
    """A ban or an eviction is committed, and the agent's streams are woken to end, before its answer."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def CreateJoinToken(self, stream: Stream[server_pb.CreateJoinTokenRequest, server_pb.JoinToken]) -> None:
        request = await received(stream)
        if not self._core.config.join_token:
            raise RequestError("join_token: this node attestor is not configured here")
        expires_at = self._core.clock.now() + lifetime(request.ttl, _TOKEN_LIFE)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        agent = agent_id(self._core.hub.trust_domain, "join_token", str(uuid.uuid4()))
        names = [self._alias(agent, SpiffeId.parse(request.spiffe_id))] if request.spiffe_id else []
        async with self._core.database.write() as tx:
            await entries.insert_entries(tx, names)
            await tokens.add_token(tx, token, agent, expires_at)
        await self._core.hub.written()
        await stream.send_message(server_pb.JoinToken(token=token, agent_id=str(agent), expires_at=seconds(expires_at)))

    async def GetAgent(self, stream: Stream[server_pb.AgentId, server_pb.Agent]) -> None:
        spiffe_id = SpiffeId.parse((await received(stream)).spiffe_id)
        async with self._core.database.read() as tx:
            agent = await agents.find_agent(tx, spiffe_id)
        if agent is None:
            raise NotFoundError(f"agent {spiffe_id}: there is none with this ID")
        await stream.send_message(agent_message(agent))

    async def ListAgents(self, stream: Stream[server_pb.ListAgentsRequest, server_pb.AgentList]) -> None:
        request = await received(stream)
        size = page_size(request.page_size)
        async with self._core.database.read() as tx:
            page = await agents.list_agents(tx, request.page_token, size, banned=request.only_banned or None)
        following = str(page[-1].spiffe_id) if len(page) == size else ""
        await stream.send_message(server_pb.AgentList(agents=map(agent_message, page), next_page_token=following))

    async def BanAgent(self, stream: Stream[server_pb.AgentId, server_pb.Done]) -> None:
        spiffe_id = SpiffeId.parse((await received(stream)).spiffe_id)
        async with self._core.database.write() as tx:
            await agents.ban_agent(tx, spiffe_id)
        await self._core.hub.written()
        await stream.send_message(server_pb.Done())

    async def EvictAgent(self, stream: Stream[server_pb.AgentId, server_pb.Done]) -> None:
        spiffe_id = SpiffeId.parse((await received(stream)).spiffe_id)
        async with self._core.database.write() as tx:
            await agents.evict_agent(tx, spiffe_id)
        await self._core.hub.written()
        await stream.send_message(server_pb.Done())

    def _alias(self, agent: SpiffeId, name: SpiffeId) -> Entry:
        if not name.member_of(self._core.hub.trust_domain):
            raise RequestError(f"{name}: wanted a name in trust domain {self._core.hub.trust_domain}")
        # No workload has a selector of this type: the entry stands for the node, and others hang below it.
        return Entry(spiffe_id=name, parent_id=agent, selectors=(Selector("spiffe_id", str(agent)),))
