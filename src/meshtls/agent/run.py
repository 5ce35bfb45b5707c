"""A whole agent from its configuration: `meshtls agent run`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from meshtls.agent.config import AgentConfig
from meshtls.agent.node.identity import NodeIdentity
from meshtls.agent.node.store import opened_store
from meshtls.agent.node.upstream import ServerUpstream
from meshtls.agent.service import Agent
from meshtls.clock import Clock, SystemClock
from meshtls.logs import logger

__all__ = ["run_agent", "running_agent"]

log = logger("meshtls.agent")


async def run_agent(
    config: AgentConfig, clock: Clock = SystemClock(), opened: Callable[[Agent], None] | None = None
) -> None:
    """Serve until cancelled; ``opened`` is called once the socket is open. Raises ConfigError."""
    async with running_agent(config, clock) as agent:
        if opened is not None:
            opened(agent)
        await asyncio.get_running_loop().create_future()


@asynccontextmanager
async def running_agent(config: AgentConfig, clock: Clock = SystemClock()) -> AsyncIterator[Agent]:
    """The same for the length of a body. Enters with the socket open, whether or not the server answers yet."""
    for notice in config.notices:
        log.warning("%s", notice)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(opened_store(config.data_dir)) if config.data_dir else None
        identity = NodeIdentity(config.bundle, store, clock)
        upstream = await stack.enter_async_context(ServerUpstream(config.server, identity, config.proof, clock))
        yield await stack.enter_async_context(Agent(config.endpoint, upstream, clock))
