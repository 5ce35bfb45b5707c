"""The pages of an agent's admin interface."""

from __future__ import annotations

from collections.abc import Callable

from meshtls.admin.certs import bundles_record, context_record, svid_record
from meshtls.admin.draining import Draining
from meshtls.admin.info import ProcessInfo
from meshtls.admin.levels import logging_page
from meshtls.admin.pages import Page, Pages, Query, Record, prometheus_page, ready_page
from meshtls.admin.plain import plain
from meshtls.agent.config import AgentConfig
from meshtls.agent.metrics.service import AgentMetrics
from meshtls.agent.node.own_svid import NodeIdentity
from meshtls.agent.service import Agent
from meshtls.errors import LocalIdentityError
from meshtls.svid.x509 import format_moment

__all__ = ["agent_pages"]


def agent_pages(
    agent: Agent,
    identity: NodeIdentity,
    config: Callable[[], AgentConfig],
    draining: Draining,
    metrics: AgentMetrics,
) -> Pages:
    """The pages of an agent. ``config`` is the one in use."""
    clock = agent.identities.clock
    info = ProcessInfo(agent.process, clock)
    cache = agent.identities.cache

    def certs(query: Query) -> Record:
        now = clock.now()
        try:
            own: Record = context_record(identity.snapshot(), now)
        except LocalIdentityError as error:
            own = {"missing": str(error)}
        held = [svid for one in cache.entries if (svid := cache.svid_of(one.id)) is not None]
        return {
            "agent": own,
            "workloads": [svid_record(one, now) for one in held],
            "bundles": bundles_record(cache.bundles, now),
        }

    def stats(query: Query) -> Record:
        entries = tuple(cache.entries)
        return {
            "entries": len(entries),
            "svids": sum(cache.svid_of(one.id) is not None for one in entries),
            "untried": bool(cache.untried),
            "watchers": agent.identities.watching_now,
            "upstream_trouble": agent.identities.upstream.trouble or "",
        }

    def policies(query: Query) -> Record:
        found = []
        for one in cache.entries:
            schedule, svid = cache.schedule_of(one.id), cache.svid_of(one.id)
            found.append(
                {
                    "entry": one.id,
                    "spiffe_id": str(one.spiffe_id),
                    "selectors": [str(selector) for selector in one.selectors],
                    "serial": svid.serial if svid is not None else None,
                    "not_after": format_moment(svid.not_after) if svid is not None else None,
                    "renewal_due": format_moment(schedule.due) if schedule is not None else None,
                    "last_error": schedule.last_error if schedule is not None else "",
                }
            )
        return {"entries": found}

    def routes(query: Query) -> Record:
        running = config()
        return {
            "workload_api": agent.address,
            "attestors": list(running.endpoint.attestors),
            "server": str(running.server),
            "upstream_trouble": agent.identities.upstream.trouble or "",
        }

    def server_info(query: Query) -> Record:
        svid = identity.svid
        return info.record(
            spiffe_id=str(svid.spiffe_id) if svid is not None else None,
            state=draining.state,
        )

    return Pages(
        [
            Page("/certs", "The agent's own SVID, those of its workloads, and the bundles.", certs),
            Page(
                "/config_dump",
                "The configuration in use, without secrets.",
                lambda query: {"config": plain(config().file)},
            ),
            Page("/stats", "Counts as of now.", stats),
            prometheus_page(metrics.scrape),
            Page(
                "/connections",
                "Callers that are being served.",
                lambda query: {"watchers": agent.identities.watching_now},
            ),
            Page("/routes", "What it serves, and which server it follows.", routes),
            Page("/policies", "The entries: which workloads get which identity, and when it is renewed.", policies),
            ready_page(lambda: draining.readiness(agent.readiness()), agent.process),
            draining.page(),
            logging_page(),
            Page("/server_info", "What runs here, and since when.", server_info),
        ]
    )
