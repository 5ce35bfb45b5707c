"""``meshtls token``: what a new node attests with."""

from __future__ import annotations

from datetime import timedelta

import click

from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.options import SPIFFE_ID, TTL
from meshtls.cli.output import Output
from meshtls.cli.records import moment
from meshtls.spiffeid import SpiffeId

__all__ = ["token"]


@click.group()
def token() -> None:
    """Join tokens: each attests one node, once."""


@token.command()
@click.option("--ttl", type=TTL, default="10m", show_default=True, help="How long it may be used.")
@click.option("--spiffe-id", type=SPIFFE_ID, help="A name of the node's own, as parent of its entries.")
@server_options
def generate(access: ServerAccess, out: Output, ttl: int, spiffe_id: SpiffeId | None) -> None:
    """Make a token, and say which agent it makes."""
    made = access.ask(lambda api: api.create_join_token(timedelta(seconds=ttl), spiffe_id))
    out.record({"token": made.token, "agent_id": str(made.agent_id), "expires_at": moment(made.expires_at)})
