"""``meshtls agents`` and ``meshtls token``: the attested nodes, and the tokens that new nodes attest with."""

from __future__ import annotations

from datetime import timedelta

import click

from meshtls.cli.access import ServerAccess, gathered, server_options
from meshtls.cli.options import SPIFFE_ID, TTL
from meshtls.cli.output import Output
from meshtls.cli.records import agent_record, moment
from meshtls.spiffeid import SpiffeId

__all__ = ["agents", "token"]

_which = click.option("--spiffe-id", type=SPIFFE_ID, required=True, help="The agent.")


@click.group()
def agents() -> None:
    """The attested nodes."""


@agents.command("list")
@click.option("--banned", is_flag=True, help="Only banned agents.")
@server_options
def list_agents(access: ServerAccess, out: Output, banned: bool) -> None:
    """List all agents."""
    found = access.ask(lambda api: gathered(api.agents(only_banned=banned)))
    out.records("agents", list(map(agent_record, found)))


@agents.command()
@_which
@server_options
def show(access: ServerAccess, out: Output, spiffe_id: SpiffeId) -> None:
    """Show one agent."""
    out.record(agent_record(access.ask(lambda api: api.agent(spiffe_id))))


@agents.command()
@_which
@server_options
def ban(access: ServerAccess, out: Output, spiffe_id: SpiffeId) -> None:
    """Refuse an agent from now on, even if it attests again."""
    access.ask(lambda api: api.ban_agent(spiffe_id))
    out.record({"banned": str(spiffe_id)})


@agents.command()
@_which
@server_options
def evict(access: ServerAccess, out: Output, spiffe_id: SpiffeId) -> None:
    """Remove an agent. It may attest again, and must."""
    access.ask(lambda api: api.evict_agent(spiffe_id))
    out.record({"evicted": str(spiffe_id)})


@click.group()
def token() -> None:
    """Join tokens: each attests one node, once."""


@token.command()
@click.option("--ttl", type=TTL, default="10m", show_default=True, help="How long the token is valid.")
@click.option("--spiffe-id", type=SPIFFE_ID, help="An alias of the node, for use as parent of entries.")
@server_options
def generate(access: ServerAccess, out: Output, ttl: int, spiffe_id: SpiffeId | None) -> None:
    """Create a token, and print it with the ID of the agent that will use it."""
    made = access.ask(lambda api: api.create_join_token(timedelta(seconds=ttl), spiffe_id))
    out.record({"token": made.token, "agent_id": str(made.agent_id), "expires_at": moment(made.expires_at)})
