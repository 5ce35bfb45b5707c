"""``meshtls x509``: an X509-SVID from the server itself, for what can't have an agent."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import click

from meshtls.bundle import BundleSet
from meshtls.ca.profile import BACKDATE
from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.options import SPIFFE_ID, TTL
from meshtls.cli.output import Output
from meshtls.cli.records import moment, x509_record
from meshtls.cli.svid_files import contents, write_files
from meshtls.clock import SystemClock
from meshtls.identity.request import checked_svid, new_key, request_for
from meshtls.serverapi.admin import AdminClient
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid

__all__ = ["x509"]


@click.group()
def x509() -> None:
    """X509-SVIDs without an agent."""


@x509.command()
@click.option("--spiffe-id", type=SPIFFE_ID, required=True, help="The identity.")
@click.option("--ttl", type=TTL, default="0", help="How long it lives; the server's default where it is not given.")
@click.option("--dns", "dns_names", multiple=True, help="A DNS name in the certificate.")
@click.option(
    "--write", type=click.Path(path_type=Path, file_okay=False), help="Write svid.pem, key.pem and bundle.pem there."
)
@server_options
def mint(
    access: ServerAccess, out: Output, spiffe_id: SpiffeId, ttl: int, dns_names: tuple[str, ...], write: Path | None
) -> None:
    """Make a key here and let the server sign for it. Without --write, key and certificates are printed."""

    async def minted(api: AdminClient) -> X509Context:
        key, bundle = new_key(), await api.bundle()
        chain = await api.mint_x509(spiffe_id, request_for(key), timedelta(seconds=ttl), dns_names)
        svid = checked_svid(chain, key, BundleSet([bundle]), SystemClock())
        return X509Context(1, (svid,), BundleSet([bundle]))

    context = access.ask(minted)
    _tell_what_was_cut(out, timedelta(seconds=ttl), context.svid)
    told = dict(x509_record(context.svid))
    if write:
        paths = write_files(write, contents(context))
        out.record(told | {"files": [str(path) for path in paths]})
        return
    pem = {name: content.decode() for name, content in contents(context).items()}
    out.record(told | pem, "".join(reversed(pem.values())).rstrip())


def _tell_what_was_cut(out: Output, asked: timedelta, svid: X509Svid) -> None:
    """By the certificate's own times: the server's clock need not be ours."""
    given = svid.not_after - (svid.not_before + BACKDATE)
    if given < asked:
        out.notice(
            f"--ttl: asked for {asked}, given {given}, until {moment(svid.not_after)}:"
            " no SVID outlives the server's own CA certificate (ca_ttl)"
        )
