"""What may keep new or changed entries from doing what they are for, though the server takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from meshtls.cli.access import gathered
from meshtls.clock import SystemClock
from meshtls.registration import Entry
from meshtls.server.reach import Reach, unproduced
from meshtls.serverapi.admin import AdminClient

__all__ = ["missing_bundles", "warnings_of"]


async def warnings_of(api: AdminClient, new: Sequence[Entry]) -> list[str]:
    """Why no agent can serve an entry at present, and which bundles it lacks. New entries may be parents of each other.

    Raises what the client raises.
    """
    kept, agents = await gathered(api.entries()), await gathered(api.agents())
    numbered = [replace(entry, id=f"new {number}") for number, entry in enumerate(new)]
    domain = new[0].spiffe_id.trust_domain
    reach = Reach(domain, [*kept, *numbered], agents, SystemClock().now())
    found = []
    for entry in numbered:
        obstacle = reach.obstacle(entry)
        reasons = [*([f"no agent can serve it yet: {obstacle}"] if obstacle else []), *unproduced(entry, domain)]
        found += [f"entry {entry.spiffe_id}: {reason}" for reason in reasons]
    return found + await missing_bundles(api, new)


async def missing_bundles(api: AdminClient, entries: Sequence[Entry]) -> list[str]:
    """A line for each trust domain that an entry federates with and of which the server has no bundle."""
    wanted = {domain: one for one in reversed(entries) for domain in one.federates_with}
    if not wanted:
        return []
    present = {one.trust_domain for one in await api.bundles()}
    followed = {one.relation.trust_domain for one in await api.relations()}
    found = []
    for domain in sorted(set(wanted) - present, key=str):
        mend = (
            f"its endpoint has given none yet: see `meshtls federation show --trust-domain {domain}`"
            if domain in followed
            else f"have it fetched with `meshtls federation create --trust-domain {domain} ...`, or set it with"
            f" `meshtls bundle set --id {domain} ...`"
        )
        found.append(
            f"entry {wanted[domain].spiffe_id} federates with {domain}, of which this server has no bundle: its"
            f" workloads can't verify peers of {domain}; {mend}"
        )
    return found
