"""``meshtls fetch``: what this process is, by the Workload API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from meshtls.bundle import TrustBundle
from meshtls.cli.options import SPIFFE_ID, choice_options, output_option, workload_option
from meshtls.cli.output import Output, tell
from meshtls.cli.records import bundle_record, jwt_record, x509_record
from meshtls.cli.svid_files import Choice, contents, pinned, write_files
from meshtls.cli.workload_socket import workload_address
from meshtls.errors import LocalIdentityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.workload.client import WorkloadApiClient

__all__ = ["fetch"]

T = TypeVar("T")


@click.group()
def fetch() -> None:
    """Ask the Workload API once: SVIDs, tokens and bundles of this process."""


@fetch.command()
@click.option(
    "--write",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write svid.pem, key.pem and bundle.pem there, in place of those of before.",
)
@click.option("--all", "every", is_flag=True, help="With --write: each SVID also in files named after its identity.")
@choice_options
@workload_option
@output_option
def x509(
    out: Output,
    workload_socket: str | None,
    write: Path | None,
    every: bool,
    spiffe_id: SpiffeId | None,
    hint: str | None,
) -> None:
    """The X509-SVIDs, the default first. A key is written where --write says so and never printed.

    Files of one identity are not replaced by those of another, unless --spiffe-id or --hint says which is wanted.
    """
    if every and write is None:
        raise click.UsageError("--all goes with --write")
    asked = Choice(spiffe_id, hint)
    choice = pinned(write, asked) if write else asked
    given = _ask(workload_socket, lambda api: api.fetch_x509_context())
    try:
        context = choice.of(given)
    except LocalIdentityError as error:
        if asked:
            raise
        advice = f"the files in {write} are its own: say with --spiffe-id to write another's"
        raise LocalIdentityError(f"{error}; {advice}") from error
    paths = write_files(write, contents(context, every=every)) if write else ()
    if asked:
        context = replace(context, svids=context.svids[:1])
    if out.as_json:
        out.record(_document(context, paths))
        return
    out.records("svids", list(map(x509_record, context.svids)))
    for path in paths:
        tell(f"wrote {path}")


@fetch.command()
@click.option("--audience", required=True, multiple=True, help="Whom the token is for.")
@click.option("--spiffe-id", type=SPIFFE_ID, help="Of this identity alone.")
@workload_option
@output_option
def jwt(out: Output, workload_socket: str | None, audience: tuple[str, ...], spiffe_id: SpiffeId | None) -> None:
    """A token of each identity, a line each, the default first."""
    svids = _ask(workload_socket, lambda api: api.fetch_jwt_svids(audience, spiffe_id))
    told = [{**jwt_record(svid), "token": svid.token} for svid in svids]
    out.record({"svids": told}, "\n".join(svid.token for svid in svids))


@fetch.command()
@workload_option
@output_option
def bundles(out: Output, workload_socket: str | None) -> None:
    """Whom this process may believe: for people PEM certificates, in JSON SPIFFE bundles with the JWT keys."""
    found = _ask(workload_socket, _bundles)
    if out.as_json:
        out.records("bundles", list(map(bundle_record, found)))
        return
    text = "\n\n".join(f"{one.trust_domain}\n{one.to_pem().decode().rstrip()}" for one in found)
    tell(*text.split("\n"))


def _ask(socket: str | None, question: Callable[[WorkloadApiClient], Awaitable[T]]) -> T:
    async def ask() -> T:
        async with WorkloadApiClient(workload_address(socket)) as client:
            return await question(client)

    return asyncio.run(ask())


async def _bundles(api: WorkloadApiClient) -> list[TrustBundle]:
    x509_bundles, jwt_bundles = await api.fetch_x509_bundles(), await api.fetch_jwt_bundles()
    found = {one.trust_domain: one for one in x509_bundles}
    for one in jwt_bundles:
        known = found.get(one.trust_domain, one)
        found[one.trust_domain] = replace(known, jwt_authorities=one.jwt_authorities)
    return list(found.values())


def _document(context: X509Context, paths: tuple[Path, ...]) -> dict[str, object]:
    return {
        "svids": [{**x509_record(svid), "chain": svid.chain_pem().decode()} for svid in context.svids],
        "bundles": [{"trust_domain": str(one.trust_domain), "pem": one.to_pem().decode()} for one in context.bundles],
        "files": [str(path) for path in paths],
    }
