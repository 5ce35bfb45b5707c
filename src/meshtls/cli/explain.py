"""``meshtls explain``: which registration entries match a process, and why others do not."""

from __future__ import annotations

import asyncio
import pwd

import click

from meshtls.agent.attest.attestor import Attestor, Caller
from meshtls.agent.attest.digests import DEFAULT_SIZE_LIMIT
from meshtls.agent.attest.proc_text import parse_status
from meshtls.agent.attest.process import ProcessDirectory
from meshtls.cli.access import ServerAccess, gathered, server_options
from meshtls.cli.admin.explain_connection import connection
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


@click.group(invoke_without_command=True)
@click.option("--pid", type=click.IntRange(1, MOST_PID), help="A process on this machine.")
@click.option(
    "--uid", type=click.IntRange(min=0), help="Any process of this user, with the selectors of the user and group only."
)
@click.option("--gid", type=click.IntRange(min=0), help="With --uid: the group, if it is not the user's primary group.")
@click.option("--agent", type=SPIFFE_ID, help="Only entries that this agent may serve; default: those of all agents.")
@server_options
@click.pass_context
def explain(
    ctx: click.Context,
    access: ServerAccess,
    out: Output,
    pid: int | None,
    uid: int | None,
    gid: int | None,
    agent: SpiffeId | None,
) -> int:
    """Show the selectors of a process, the entries that match it, and what is missing for the near misses.

    An entry matches if an agent has attested, the entry's parents lead to that agent, and the process has every
    selector. Exit code 1: no entry matches.

    `meshtls explain connection ID` explains a connection instead.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    credentials = _credentials(pid, uid, gid)

    async def attest() -> frozenset[Selector]:
        caller = Caller(credentials)
        try:
            return await Attestor().attest(caller)
        finally:
            caller.close()

    selectors = asyncio.run(attest())
    if uid is not None and gid is None and _own_group(uid) is None:
        out.notice(
            f"uid {uid} has no account on this machine, so its group is unknown: use --gid to match group selectors"
        )
        group = ("gid", "group")
        selectors = frozenset(
            one for one in selectors if one.type != "unix" or one.value.partition(":")[0] not in group
        )
    if pid is not None:
        kinds = {one.value.partition(":")[0] for one in selectors}
        if "sha256" not in kinds:
            out.notice(
                f"pid {pid}: no sha256 selector: its program can't be read by this user (run as root to read it), or is"
                f" larger than {DEFAULT_SIZE_LIMIT} bytes"
            )
        if "path" not in kinds:
            out.notice(
                f"pid {pid}: no path selector: the path of its program leads to another file here; was the program"
                " replaced while it ran, or does the process run in another mount namespace?"
            )

    async def explain_at(api: AdminClient) -> Explanation:
        entries, agents = await gathered(api.entries()), await gathered(api.agents())
        if agent is not None:
            await api.agent(agent)  # raises NotFoundError
        domain, now = TrustDomain((await api.health()).trust_domain), SystemClock().now()
        return explain_process(selectors, entries, Reach(domain, entries, agents, now), agent, now)

    found = access.ask(explain_at)
    if out.as_json:
        out.record(_document(found))
    else:
        _show(found)
    return 0 if found.matching else 1


explain.add_command(connection)


def _credentials(pid: int | None, uid: int | None, gid: int | None) -> Credentials:
    if (pid is None) == (uid is None) or (pid is not None and gid is not None):
        raise click.UsageError("wanted one of --pid and --uid; --gid goes with --uid")
    if pid is not None:
        with ProcessDirectory(pid) as process:
            try:
                owners = parse_status(process.content("status"))
            except OSError as error:
                raise AccessError(f"pid {pid}: it has ended, or /proc hides it: {error.strerror}") from error
        return Credentials(pid, owners.uid, owners.gid)
    assert uid is not None  # noqa: S101  # exactly one of the two is set
    return Credentials(0, uid, gid if gid is not None else _own_group(uid) or 0)


def _own_group(uid: int) -> int | None:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return None


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
            tell(f"    only on request by its ID: an entry above it has the same hint {entry.hint!r}")
    misses = []
    for miss in found.near:
        lacks = f"missing {', '.join(map(str, miss.missing))}"
        obstacle = found.obstacles.get(miss.entry.id)
        reasons = f"{lacks}, and {obstacle}" if obstacle else lacks
        misses.append(f"{miss.entry.spiffe_id}: {reasons} (entry {miss.entry.id})")
    misses += [f"{one.spiffe_id}: {found.obstacles[one.id]} (entry {one.id})" for one in found.unserved]
    for one in found.expired:
        end = moment(one.expires_at) if one.expires_at else "an unknown time"
        misses.append(f"{one.spiffe_id}: expired at {end} (entry {one.id})")
    misses += [f"{one.spiffe_id}: {_agents(one, found)}, not by this one (entry {one.id})" for one in found.elsewhere]
    if misses:
        tell("near misses")
    for line in misses:
        tell(f"  {line}")


def _agents(entry: Entry, found: Explanation) -> str:
    first, *others = found.served_by[entry.id]
    return f"served by {first}" + (f" and {len(others)} more" if others else "")
