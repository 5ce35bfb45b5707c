"""An agent's metrics as a whole: counted where things happen, asked at a scrape."""

from __future__ import annotations

from meshtls.agent.metrics.state import State
from meshtls.agent.node.own_svid import NodeIdentity
from meshtls.agent.node.upstream import ServerUpstream
from meshtls.agent.service import Agent
from meshtls.observe.metrics import Scrape
from meshtls.observe.metrics.kept_scrapes import KeptScrapes

__all__ = ["AgentMetrics"]


class AgentMetrics:
    """What ``agent`` counts, and what it and these are like at a scrape."""

    def __init__(self, agent: Agent, identity: NodeIdentity, upstream: ServerUpstream) -> None:
        metrics = agent.counting.metrics
        State(metrics, agent, identity, upstream)
        self._kept = KeptScrapes(metrics.snapshot)

    async def scrape(self, accept: str = "") -> Scrape:
        """The answer to a scrape with this Accept header."""
        return self._kept.scrape(accept)
