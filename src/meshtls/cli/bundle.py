"""``meshtls bundle``: whom this trust domain believes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from meshtls.bundle import TrustBundle
from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.options import TRUST_DOMAIN
from meshtls.cli.output import Output, tell
from meshtls.cli.records import bundle_record
from meshtls.errors import ConfigError, NotFoundError
from meshtls.spiffeid import TrustDomain

__all__ = ["bundle"]

_Format = click.Choice(["pem", "spiffe"])
_format = click.option(
    "--format", "form", type=_Format, default="pem", show_default=True, help="PEM certificates, or a SPIFFE bundle."
)


@click.group()
def bundle() -> None:
    """Trust bundles: the server's own, and those of the trust domains it federates with."""


@bundle.command()
@_format
@server_options
def show(access: ServerAccess, out: Output, form: str) -> None:
    """The server's own: what agents are given to believe it by."""
    own = access.ask(lambda api: api.bundle())
    out.record(bundle_record(own), _text(own, form))


@bundle.command("list")
@click.option("--id", "trust_domain", type=TRUST_DOMAIN, help="The one of this trust domain.")
@_format
@server_options
def list_bundles(access: ServerAccess, out: Output, trust_domain: TrustDomain | None, form: str) -> None:
    """Those of other trust domains."""
    found = [one for one in access.ask(lambda api: api.bundles()) if trust_domain in (None, one.trust_domain)]
    if trust_domain and not found:
        raise NotFoundError(f"bundle of trust domain {trust_domain}: there is none; see `meshtls bundle list`")
    if out.as_json:
        out.records("bundles", list(map(bundle_record, found)))
        return
    text = "\n\n".join(f"{one.trust_domain}\n{_text(one, form)}" for one in found)
    tell(*(text or "no bundles").split("\n"))


@bundle.command("set")
@click.option("--id", "trust_domain", type=TRUST_DOMAIN, required=True, help="Whose it is.")
@click.option("--path", type=click.Path(path_type=Path, allow_dash=True), default="-", help="A file; - for the input.")
@_format
@server_options
def set_bundle(access: ServerAccess, out: Output, trust_domain: TrustDomain, path: Path, form: str) -> None:
    """Federate with a trust domain, or take over its new bundle."""
    content = _read(path)
    read = TrustBundle.from_pem if form == "pem" else TrustBundle.from_jwks
    wanted = read(trust_domain, content)
    access.ask(lambda api: api.set_bundle(wanted))
    for line in wanted.unusable:
        out.notice(line)
    out.record({"set": str(trust_domain)})


@bundle.command()
@click.option("--id", "trust_domain", type=TRUST_DOMAIN, required=True, help="Whose it is.")
@server_options
def delete(access: ServerAccess, out: Output, trust_domain: TrustDomain) -> None:
    """Believe this trust domain no more."""
    access.ask(lambda api: api.delete_bundle(trust_domain))
    out.record({"deleted": str(trust_domain)})


def _text(shown: TrustBundle, form: str) -> str:
    return shown.to_pem().decode().rstrip() if form == "pem" else shown.to_jwks()


def _read(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: wanted a bundle to read: {error.strerror}") from error
