"""A whole agent from its configuration: `meshtls agent run`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from meshtls.address import Address
from meshtls.admin.draining import Draining
from meshtls.admin.serving import admin_notice, serving_admin
from meshtls.agent.admin import agent_pages
from meshtls.agent.config import AgentConfig, reloaded
from meshtls.agent.metrics.service import AgentMetrics
from meshtls.agent.node.own_svid import NodeIdentity
from meshtls.agent.node.store import opened_store
from meshtls.agent.node.upstream import ServerUpstream
from meshtls.agent.service import Agent
from meshtls.clock import Clock, SystemClock
from meshtls.config.changes import Changes
from meshtls.logs import logger
from meshtls.observe.readiness import Readiness
from meshtls.rpc.scrapes import serving_scrapes

__all__ = ["RunningAgent", "running_agent"]

log = logger("meshtls.agent")


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """A running agent. ``reload`` applies the live keys of a configuration, and returns the keys that differ.

    ``metrics`` is the address for scrapes, if there is one.
    """

    agent: Agent
    reload: Callable[[AgentConfig], Changes]
    metrics: Address | None = None


@asynccontextmanager
async def running_agent(config: AgentConfig, clock: Clock = SystemClock()) -> AsyncIterator[RunningAgent]:
    """Run while the body runs. Enters with the socket open, whether or not the server is reachable yet.

    Raises ConfigError.
    """
    for notice in config.notices:
        log.warning("%s", notice)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(opened_store(config.data_dir)) if config.data_dir else None
        identity = NodeIdentity(config.bundle, store, clock)
        upstream = await stack.enter_async_context(ServerUpstream(config.server, identity, config.proof, clock))
        agent = await stack.enter_async_context(Agent(config.endpoint, upstream, clock))
        running = config

        def reload(wanted: AgentConfig) -> Changes:
            nonlocal running
            running, changes = reloaded(running, wanted)
            upstream.set_proof(running.proof)
            agent.set_limits(running.endpoint.limits)
            return changes

        draining = Draining()
        agent.also = lambda: draining.readiness(Readiness(True, admin_notice(config.admin)))
        metrics = AgentMetrics(agent, identity, upstream)
        pages = agent_pages(agent, identity, lambda: running, draining, metrics)
        await stack.enter_async_context(serving_admin(config.admin, pages))
        scrapes = await stack.enter_async_context(serving_scrapes(config.metrics, metrics.scrape))
        yield RunningAgent(agent, reload, scrapes)
