"""Agents and join tokens, over gRPC."""

from __future__ import annotations

from grpclib.server import Stream

from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations import agents
from meshtls.serverapi.messages import agent_message, join_token_message
from meshtls.spiffeid import SpiffeId

__all__ = ["AgentsService"]


class AgentsService(server_grpc.AgentsBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def CreateJoinToken(self, stream: Stream[server_pb.CreateJoinTokenRequest, server_pb.JoinToken]) -> None:
        request = await received(stream)
        alias = SpiffeId.parse(request.spiffe_id) if request.spiffe_id else None
        made = await agents.create_join_token(self._core, self._caller, request.ttl, alias)
        await stream.send_message(join_token_message(made))

    async def GetAgent(self, stream: Stream[server_pb.AgentId, server_pb.Agent]) -> None:
        spiffe_id = SpiffeId.parse((await received(stream)).spiffe_id)
        await stream.send_message(agent_message(await agents.get_agent(self._core, self._caller, spiffe_id)))

    async def ListAgents(self, stream: Stream[server_pb.ListAgentsRequest, server_pb.AgentList]) -> None:
        request = await received(stream)
        page, following = await agents.list_agents(
            self._core, self._caller, request.page_token, request.page_size, only_banned=request.only_banned
        )
        await stream.send_message(server_pb.AgentList(agents=map(agent_message, page), next_page_token=following))

    async def BanAgent(self, stream: Stream[server_pb.AgentId, server_pb.Done]) -> None:
        await agents.ban_agent(self._core, self._caller, SpiffeId.parse((await received(stream)).spiffe_id))
        await stream.send_message(server_pb.Done())

    async def EvictAgent(self, stream: Stream[server_pb.AgentId, server_pb.Done]) -> None:
        await agents.evict_agent(self._core, self._caller, SpiffeId.parse((await received(stream)).spiffe_id))
        await stream.send_message(server_pb.Done())
