"""``meshtls jwt``: a JWT-SVID from the server itself."""

from __future__ import annotations

from datetime import timedelta

import click

from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.options import SPIFFE_ID, TTL
from meshtls.cli.output import Output
from meshtls.cli.records import jwt_record
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt import parse_unverified

__all__ = ["jwt"]


@click.group()
def jwt() -> None:
    """JWT-SVIDs without an agent."""


@jwt.command()
@click.option("--spiffe-id", type=SPIFFE_ID, required=True, help="The identity.")
@click.option("--audience", required=True, multiple=True, help="Whom the token is for.")
@click.option("--ttl", type=TTL, default="0", help="How long it lives; the server's default where it is not given.")
@server_options
def mint(access: ServerAccess, out: Output, spiffe_id: SpiffeId, audience: tuple[str, ...], ttl: int) -> None:
    """Let the server sign a token, and print it."""
    token = access.ask(lambda api: api.mint_jwt(spiffe_id, audience, timedelta(seconds=ttl)))
    out.record({**jwt_record(parse_unverified(token)), "token": token}, token)
