"""``meshtls x509`` and ``meshtls jwt``: SVIDs from the server itself, and a look at any certificate."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import click

from meshtls.bundle import BundleSet
from meshtls.ca.profile import BACKDATE
from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.log_access import LogAccess, proof_of
from meshtls.cli.options import MOMENT, SPIFFE_ID, TTL, output_option
from meshtls.cli.output import Output
from meshtls.cli.records import jwt_record, moment, x509_record
from meshtls.cli.svid_files import PROOF, SVID, Choice, contents, pinned, publish, write_files
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError
from meshtls.identity.request import checked_svid, new_key, request_for
from meshtls.serverapi.admin import AdminClient
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.jwt import parse_unverified

__all__ = ["jwt", "x509"]

_identity = click.option("--spiffe-id", type=SPIFFE_ID, required=True, help="The identity.")
_ttl = click.option("--ttl", type=TTL, default="0", help="The lifetime; default: the server's.")


@click.group()
def x509() -> None:
    """X509-SVIDs without an agent, and certificates in words."""


@x509.command("inspect")
@click.argument("source", metavar="FILE|-|HOST:PORT")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Verify the path to an authority of this trust bundle, as PEM or as a SPIFFE bundle.",
)
@click.option("--at", type=MOMENT, help="Judge as of this time; default: now.")
@click.option(
    "--proxy-protocol",
    type=click.Choice(["v1", "v2"]),
    help="Send this PROXY protocol header first, for a listener that reads one (proxy_protocol_from); it names nobody.",
)
@output_option
def inspect_x509(out: Output, source: str, bundle: Path | None, at: datetime | None, proxy_protocol: str | None) -> int:
    """Print a chain in words, and which rules of X509-SVID it keeps.

    The certificates are those of a file (PEM or DER), of standard input, or those that a server presents, which is not
    trusted. Exit code 1: a rule is broken, or the server presents nothing.
    """
    from meshtls.cli.x509_inspect import inspect_chain, read_chain

    return inspect_chain(read_chain(source, proxy_protocol), out, at or SystemClock().now(), bundle)


@x509.command("mint")
@_identity
@_ttl
@click.option("--dns", "dns_names", multiple=True, help="A DNS name in the certificate.")
@click.option(
    "--write", type=click.Path(path_type=Path, file_okay=False), help="Write svid.pem, key.pem and bundle.pem there."
)
@click.option(
    "--proof", is_flag=True, help=f"With --write: also write {PROOF}, which proves that the SVID is in the log."
)
@server_options
def mint_x509(
    access: ServerAccess,
    out: Output,
    spiffe_id: SpiffeId,
    ttl: int,
    dns_names: tuple[str, ...],
    write: Path | None,
    proof: bool,
) -> None:
    """Generate a key here and have the server sign for it. Without --write, key and certificates are printed."""
    if proof and write is None:
        raise click.UsageError("--proof goes with --write")
    if write is not None and (others := pinned(write, Choice()).spiffe_id) not in (None, spiffe_id):
        raise ConfigError(
            f"{write}: has the SVID of {others}, which that of {spiffe_id} would replace; write to another directory,"
            f" or delete {write / SVID} first"
        )

    async def mint(api: AdminClient) -> X509Context:
        key, bundle = new_key(), await api.bundle()
        chain = await api.mint_x509(spiffe_id, request_for(key), timedelta(seconds=ttl), dns_names)
        svid = checked_svid(chain, key, BundleSet([bundle]), SystemClock())
        return X509Context(1, (svid,), BundleSet([bundle]))

    context = access.ask(mint)
    # By the certificate's own times, since the server's clock may differ from ours.
    svid, requested = context.svid, timedelta(seconds=ttl)
    issued = svid.not_after - (svid.not_before + BACKDATE)
    if issued < requested:
        out.notice(
            f"--ttl: requested {requested}, got {issued}, until {moment(svid.not_after)}:"
            " no SVID outlives the server's own CA certificate (ca_ttl)"
        )
    record = dict(x509_record(svid))
    if write:
        paths = write_files(write, contents(context))
        if proof:
            log = LogAccess(access, None, (), ())
            proof_file = log.ask(lambda reader: proof_of(reader, svid.chain[0]))
            publish(write / PROOF, bytes(proof_file), "the proof")
            paths = (*paths, write / PROOF)
        out.record(record | {"files": [str(path) for path in paths]})
        return
    pem = {name: content.decode() for name, content in contents(context).items()}
    out.record(record | pem, "".join(reversed(pem.values())).rstrip())


@click.group()
def jwt() -> None:
    """JWT-SVIDs without an agent."""


@jwt.command("mint")
@_identity
@click.option("--audience", required=True, multiple=True, help="An audience of the token.")
@_ttl
@server_options
def mint_jwt(access: ServerAccess, out: Output, spiffe_id: SpiffeId, audience: tuple[str, ...], ttl: int) -> None:
    """Have the server sign a token, and print it."""
    token = access.ask(lambda api: api.mint_jwt(spiffe_id, audience, timedelta(seconds=ttl)))
    out.record({**jwt_record(parse_unverified(token)), "token": token}, token)
