"""``meshtls explain``: which registration entries match a process, and why others do not."""

from __future__ import annotations

import asyncio
import pwd

import click

from meshtls.agent.attest.attestor import Attestor, Caller
from meshtls.agent.attest.digests import DEFAULT_SIZE_LIMIT
from meshtls.agent.attest.proc_text import parse_status
from meshtls.agent.attest.process import ProcessDirectory
from meshtls.agent.entries import NearMiss
from meshtls.cli.access import ServerAccess, gathered, server_options
from meshtls.cli.explanation import Explanation, explain_process
from meshtls.cli.options import SPIFFE_ID
from meshtls.cli.output import Output, Record, tell
from meshtls.cli.records import entry_record, moment
from meshtls.cli.telling import MOST_PID
from meshtls.clock import SystemClock
from meshtls.errors import AccessError
from meshtls.registration import Entry, Selector
from meshtls.rpc.peer_credentials import Credentials
from meshtls.server.reach import Reach
from meshtls.serverapi.admin import AdminClient
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["explain"]


@click.command()
@click.option("--pid", type=click.IntRange(1, MOST_PID), help="A process of this machine.")
@click.option("--uid", type=click.IntRange(min=0), help="Any process of this user, of which nothing else is known.")
@click.option("--gid", type=click.IntRange(min=0), help="With --uid: its group, where it is not the user's own.")
@click.option("--agent", type=SPIFFE_ID, help="Only what this agent may serve; without it, entries of all agents.")
@server_options
def explain(
    access: ServerAccess, out: Output, pid: int | None, uid: int | None, gid: int | None, agent: SpiffeId | None
) -> int:
    """Show the selectors of a process, the entries that match it, and what is missing for the near misses.

    An entry matches where the whole path holds: an agent that has attested, a parent that leads to it, and every
    selector. Exit code 1: none does.
    """
    selectors = asyncio.run(_attested(_credentials(pid, uid, gid)))
    if uid is not None and gid is None and _own_group(uid) is None:
        out.notice(f"uid {uid} has no name here, and so no group: give --gid to match selectors of its group")
        selectors = frozenset(one for one in selectors if not _is_of_group(one))
    if pid is not None:
        _say_what_is_wanting(out, pid, {one.value.partition(":")[0] for one in selectors})

    async def asked(api: AdminClient) -> Explanation:
        entries, agents = await gathered(api.entries()), await gathered(api.agents())
        if agent is not None:
            await api.agent(agent)  # raises NotFoundError
        domain, now = TrustDomain((await api.health()).trust_domain), SystemClock().now()
        return explain_process(selectors, entries, Reach(domain, entries, agents, now), agent, now)

    found = access.ask(asked)
    if out.as_json:
        out.record(_document(found))
    else:
        _show(found)
    return 0 if found.matching else 1


def _say_what_is_wanting(out: Output, pid: int, kinds: set[str]) -> None:
    if "sha256" not in kinds:
        out.notice(
            f"pid {pid}: no sha256: its program can't be read by us, where asking as root helps, or is larger than"
            f" {DEFAULT_SIZE_LIMIT} bytes"
        )
    if "path" not in kinds:
        out.notice(
            f"pid {pid}: has no path: what it calls its program is another file here; was it replaced while it ran,"
            " or does it run in another mount namespace?"
        )


def _credentials(pid: int | None, uid: int | None, gid: int | None) -> Credentials:
    if (pid is None) == (uid is None) or (pid is not None and gid is not None):
        raise click.UsageError("wanted one of --pid and --uid; --gid goes with --uid")
    if pid is not None:
        return _of_process(pid)
    assert uid is not None  # noqa: S101  # one of the two is
    return Credentials(0, uid, gid if gid is not None else _own_group(uid) or 0)


def _of_process(pid: int) -> Credentials:
    with ProcessDirectory(pid) as process:
        try:
            owners = parse_status(process.content("status"))
        except OSError as error:
            raise AccessError(f"pid {pid}: it has ended, or /proc hides it: {error.strerror}") from error
    return Credentials(pid, owners.uid, owners.gid)


def _own_group(uid: int) -> int | None:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return None


def _is_of_group(selector: Selector) -> bool:
    return selector.type == "unix" and selector.value.partition(":")[0] in ("gid", "group")


async def _attested(credentials: Credentials) -> frozenset[Selector]:
    caller = Caller(credentials)
    try:
        return await Attestor().attest(caller)
    finally:
        caller.close()


def _document(found: Explanation) -> Record:
    def served(entry: Entry) -> Record:
        return {**entry_record(entry), "agents": list(map(str, found.served_by.get(entry.id, ())))}

    return {
        "selectors": list(map(str, found.selectors)),
        "matching": list(map(served, found.matching)),
        "hidden": [entry.id for entry in found.hidden],
        "near": [
            {
                **served(one.entry),
                "missing": list(map(str, one.missing)),
                "obstacle": found.obstacles.get(one.entry.id),
            }
            for one in found.near
        ],
        "expired": list(map(entry_record, found.expired)),
        "elsewhere": list(map(served, found.elsewhere)),
        "unserved": [{**entry_record(one), "obstacle": found.obstacles[one.id]} for one in found.unserved],
    }


def _show(found: Explanation) -> None:
    tell("selectors")
    for selector in found.selectors:
        tell(f"  {selector}")
    tell("identities" if found.matching else "no matching registration entry")
    for entry in found.matching:
        tell(f"  {entry.spiffe_id} (entry {entry.id}, parent {entry.parent_id}, {_agents(entry, found)})")
        if entry in found.hidden:
            tell(f"    only when asked for by its ID: an entry above it has the same hint {entry.hint!r}")
    misses = [f"{one.entry.spiffe_id}: {_missing(one, found)} (entry {one.entry.id})" for one in found.near]
    misses += [f"{one.spiffe_id}: {found.obstacles[one.id]} (entry {one.id})" for one in found.unserved]
    misses += [f"{one.spiffe_id}: expired at {_end(one)} (entry {one.id})" for one in found.expired]
    misses += [f"{one.spiffe_id}: {_agents(one, found)}, not by this one (entry {one.id})" for one in found.elsewhere]
    if misses:
        tell("near misses")
    for line in misses:
        tell(f"  {line}")


def _missing(miss: NearMiss, found: Explanation) -> str:
    missing = f"missing {', '.join(map(str, miss.missing))}"
    obstacle = found.obstacles.get(miss.entry.id)
    return f"{missing}, and {obstacle}" if obstacle else missing


def _agents(entry: Entry, found: Explanation) -> str:
    first, *others = found.served_by[entry.id]
    return f"served by {first}" + (f" and {len(others)} more" if others else "")


def _end(entry: Entry) -> str:
    return moment(entry.expires_at) if entry.expires_at else "an unknown time"
