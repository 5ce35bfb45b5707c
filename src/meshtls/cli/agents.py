"""``meshtls agents``: the nodes that the server knows."""

from __future__ import annotations

import click

from meshtls.cli.access import ServerAccess, gathered, server_options
from meshtls.cli.options import SPIFFE_ID
from meshtls.cli.output import Output
from meshtls.cli.records import agent_record
from meshtls.spiffeid import SpiffeId

__all__ = ["agents"]

_which = click.option("--spiffe-id", type=SPIFFE_ID, required=True, help="The agent.")


@click.group()
def agents() -> None:
    """The nodes that attested."""


@agents.command("list")
@click.option("--banned", is_flag=True, help="Only those that are.")
@server_options
def list_agents(access: ServerAccess, out: Output, banned: bool) -> None:
    """All of them."""
    found = access.ask(lambda api: gathered(api.agents(only_banned=banned)))
    out.records("agents", list(map(agent_record, found)))


@agents.command()
@_which
@server_options
def show(access: ServerAccess, out: Output, spiffe_id: SpiffeId) -> None:
    """One of them."""
    out.record(agent_record(access.ask(lambda api: api.agent(spiffe_id))))


@agents.command()
@_which
@server_options
def ban(access: ServerAccess, out: Output, spiffe_id: SpiffeId) -> None:
    """Refuse it from now on, its next attestation too."""
    access.ask(lambda api: api.ban_agent(spiffe_id))
    out.record({"banned": str(spiffe_id)})


@agents.command()
@_which
@server_options
def evict(access: ServerAccess, out: Output, spiffe_id: SpiffeId) -> None:
    """Forget it: it has to attest again, and may."""
    access.ask(lambda api: api.evict_agent(spiffe_id))
    out.record({"evicted": str(spiffe_id)})
