"""``meshtls bundle``: the server's own trust bundle, and those of federated trust domains."""

from __future__ import annotations

from pathlib import Path

import click

from meshtls.bundle import TrustBundle
from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.bundle_file import read_bundle
from meshtls.cli.options import TRUST_DOMAIN
from meshtls.cli.output import Output, tell
from meshtls.cli.records import bundle_record
from meshtls.errors import NotFoundError
from meshtls.spiffeid import TrustDomain

__all__ = ["bundle"]

_Format = click.Choice(["pem", "spiffe"])
_format = click.option(
    "--format",
    "form",
    type=_Format,
    default="pem",
    show_default=True,
    help="PEM certificates, or a SPIFFE bundle document.",
)


@click.group()
def bundle() -> None:
    """Trust bundles: the server's own, and those of federated trust domains."""


@bundle.command()
@_format
@server_options
def show(access: ServerAccess, out: Output, form: str) -> None:
    """Show the server's own bundle, which agents authenticate the server with."""
    own = access.ask(lambda api: api.bundle())
    out.record(bundle_record(own), _text(own, form))


@bundle.command("list")
@click.option("--id", "trust_domain", type=TRUST_DOMAIN, help="Only the bundle of this trust domain.")
@_format
@server_options
def list_bundles(access: ServerAccess, out: Output, trust_domain: TrustDomain | None, form: str) -> None:
    """List the bundles of other trust domains."""
    found = [one for one in access.ask(lambda api: api.bundles()) if trust_domain in (None, one.trust_domain)]
    if trust_domain and not found:
        raise NotFoundError(f"bundle of trust domain {trust_domain}: not found; see `meshtls bundle list`")
    if out.as_json:
        out.records("bundles", list(map(bundle_record, found)))
        return
    text = "\n\n".join(f"{one.trust_domain}\n{_text(one, form)}" for one in found)
    tell(*(text or "no bundles").split("\n"))


@bundle.command("set")
@click.option("--id", "trust_domain", type=TRUST_DOMAIN, required=True, help="The trust domain.")
@click.option(
    "--path",
    type=click.Path(path_type=Path, allow_dash=True),
    default="-",
    help="The file to read; - for standard input.",
)
@_format
@server_options
def set_bundle(access: ServerAccess, out: Output, trust_domain: TrustDomain, path: Path, form: str) -> None:
    """Federate with a trust domain, or replace its bundle."""
    wanted = read_bundle(trust_domain, path, form, "--format")
    access.ask(lambda api: api.set_bundle(wanted))
    for line in wanted.unusable:
        out.notice(line)
    out.record({"set": str(trust_domain)})


@bundle.command()
@click.option("--id", "trust_domain", type=TRUST_DOMAIN, required=True, help="The trust domain.")
@server_options
def delete(access: ServerAccess, out: Output, trust_domain: TrustDomain) -> None:
    """Stop trusting a trust domain."""
    access.ask(lambda api: api.delete_bundle(trust_domain))
    out.record({"deleted": str(trust_domain)})


def _text(shown: TrustBundle, form: str) -> str:
    return shown.to_pem().decode().rstrip() if form == "pem" else shown.to_jwks()
