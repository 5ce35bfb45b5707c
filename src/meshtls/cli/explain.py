"""``meshtls explain``: why a process is who it is, or nobody."""

from __future__ import annotations

import asyncio
import pwd

import click

from meshtls.agent.attest.attestor import Attestor, Caller
from meshtls.agent.attest.proc_text import parse_status
from meshtls.agent.attest.process import ProcessDirectory
from meshtls.ca.registration import Entry, Selector
from meshtls.cli.access import ServerAccess, gathered, server_options
from meshtls.cli.explanation import Explanation, explain_process
from meshtls.cli.options import SPIFFE_ID
from meshtls.cli.output import Output, Record
from meshtls.cli.records import entry_record, moment
from meshtls.cli.telling import MOST_PID
from meshtls.clock import SystemClock
from meshtls.errors import AccessError
from meshtls.proto.peer_credentials import Credentials
from meshtls.proto.server_admin import AdminClient
from meshtls.server.entries import EntryIndex, Node
from meshtls.spiffeid import SpiffeId

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
    """Which selectors a process has, which entries it therefore is, and what it lacks for those it nearly is.

    Exit code 1: it is nobody.
    """
    selectors = asyncio.run(_attested(_credentials(pid, uid, gid)))
    if pid is not None:
        _tell_what_is_wanting(pid, {one.value.partition(":")[0] for one in selectors})

    async def asked(api: AdminClient) -> Explanation:
        entries = await gathered(api.entries())
        reachable = await _reachable(api, agent, entries) if agent else None
        return explain_process(selectors, entries, reachable, SystemClock().now())

    found = access.ask(asked)
    if out.as_json:
        out.record(_document(found))
    else:
        _show(found)
    return 0 if found.matching else 1


def _tell_what_is_wanting(pid: int, kinds: set[str]) -> None:
    if "sha256" not in kinds:
        click.echo(f"pid {pid}: its program can't be read by us; ask as root to know its path and sha256", err=True)
    elif "path" not in kinds:
        click.echo(
            f"pid {pid}: has no path: what it calls its program is another file here; was it replaced while it ran,"
            " or does it run in another mount namespace?",
            err=True,
        )


def _credentials(pid: int | None, uid: int | None, gid: int | None) -> Credentials:
    if (pid is None) == (uid is None) or (pid is not None and gid is not None):
        raise click.UsageError("wanted one of --pid and --uid; --gid goes with --uid")
    if pid is not None:
        return _of_process(pid)
    assert uid is not None  # noqa: S101  # one of the two is
    return Credentials(0, uid, _own_group(uid) if gid is None else gid)


def _of_process(pid: int) -> Credentials:
    with ProcessDirectory(pid) as process:
        try:
            owners = parse_status(process.text("status"))
        except OSError as error:
            raise AccessError(f"pid {pid}: it has ended, or /proc hides it: {error.strerror}") from error
    return Credentials(pid, owners.uid, owners.gid)


def _own_group(uid: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError as error:
        raise click.UsageError(f"uid {uid} has no name here and so no group of its own: give --gid") from error


async def _attested(credentials: Credentials) -> frozenset[Selector]:
    caller = Caller(credentials)
    try:
        return await Attestor().attest(caller)
    finally:
        caller.close()


async def _reachable(api: AdminClient, agent: SpiffeId, entries: list[Entry]) -> set[str]:
    node = Node(agent, frozenset((await api.agent(agent)).selectors))
    return set(EntryIndex(agent.trust_domain, entries).reachable(node))


def _document(found: Explanation) -> Record:
    return {
        "selectors": list(map(str, found.selectors)),
        "matching": list(map(entry_record, found.matching)),
        "hidden": [entry.id for entry in found.hidden],
        "near": [{**entry_record(one.entry), "missing": list(map(str, one.missing))} for one in found.near],
        "expired": list(map(entry_record, found.expired)),
        "elsewhere": list(map(entry_record, found.elsewhere)),
    }


def _show(found: Explanation) -> None:
    click.echo("selectors")
    for selector in found.selectors:
        click.echo(f"  {selector}")
    click.echo("is" if found.matching else "is nobody: no entry matches")
    for entry in found.matching:
        click.echo(f"  {entry.spiffe_id} (entry {entry.id}, parent {entry.parent_id}){_hidden(entry, found)}")
    others = [f"{miss} (entry {miss.entry.id})" for miss in found.near]
    others += [f"{one.spiffe_id}, which expired at {_end(one)} (entry {one.id})" for one in found.expired]
    others += [f"{one.spiffe_id}, which another agent serves: parent {one.parent_id}" for one in found.elsewhere]
    if others:
        click.echo("is not")
    for line in others:
        click.echo(f"  {line}")


def _hidden(entry: Entry, found: Explanation) -> str:
    if entry not in found.hidden:
        return ""
    return f": only when asked for by its ID, since one above it has the same hint {entry.hint!r}"


def _end(entry: Entry) -> str:
    return moment(entry.expires_at) if entry.expires_at else "an unknown time"
