"""``meshtls fetch`` and ``meshtls validate-jwt``: one call to the Workload API."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from meshtls.bundle import BundleSet
from meshtls.ca.tlog.note import NoteKey
from meshtls.cli.log_keys import LOG_KEY, URL
from meshtls.cli.options import SPIFFE_ID, choice_options, output_option, workload_address, workload_option
from meshtls.cli.output import Output, tell
from meshtls.cli.records import bundle_record, jwt_record, x509_record
from meshtls.cli.svid_files import PROOF, Choice, contents, pinned, publish, write_files
from meshtls.errors import InvalidSvidError, LocalIdentityError, RequestError
from meshtls.spiffeid import SpiffeId
from meshtls.workload.client import WorkloadApiClient

__all__ = ["fetch", "validate_jwt"]

T = TypeVar("T")


@click.group()
def fetch() -> None:
    """Fetch the SVIDs, tokens and bundles of this process once from the Workload API."""


@fetch.command()
@click.option(
    "--write",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write svid.pem, key.pem and bundle.pem to this directory, replacing older ones.",
)
@click.option(
    "--all", "every", is_flag=True, help="With --write: also write each SVID to files named after its identity."
)
@click.option("--log", "log_url", type=URL, help=f"With --write: also write {PROOF}, from the log below this URL.")
@click.option("--log-key", "log_keys", type=LOG_KEY, multiple=True, help="With --log: a key of the log.")
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
    log_url: str | None,
    log_keys: tuple[NoteKey, ...],
) -> None:
    """Fetch the X509-SVIDs, the default first. A key is only written to a file (--write), never printed.

    Files of one identity are not replaced by those of another, unless --spiffe-id or --hint selects it.
    """
    if every and write is None:
        raise click.UsageError("--all goes with --write")
    if (log_url is None) != (not log_keys) or (log_url and write is None):
        raise click.UsageError("--log goes with --log-key and --write")
    asked = Choice(spiffe_id, hint)
    choice = pinned(write, asked) if write else asked
    given = _ask(workload_socket, lambda api: api.fetch_x509_context())
    try:
        context = choice.of(given)
    except LocalIdentityError as error:
        if asked:
            raise
        advice = f"the files in {write} belong to it: select another identity with --spiffe-id"
        raise LocalIdentityError(f"{error}; {advice}") from error
    paths = write_files(write, contents(context, every=every)) if write else ()
    if write and log_url:
        from meshtls.cli.log_access import proof_of
        from meshtls.serverapi.log_reader import HttpLog, LogReader

        reader = LogReader(HttpLog(log_url), log_keys)
        publish(write / PROOF, bytes(asyncio.run(proof_of(reader, context.svid.chain[0]))), "the proof")
        paths = (*paths, write / PROOF)
    if asked:
        context = replace(context, svids=context.svids[:1])
    if out.as_json:
        out.record(
            {
                "svids": [{**x509_record(svid), "chain": svid.chain_pem().decode()} for svid in context.svids],
                "bundles": [
                    {"trust_domain": str(one.trust_domain), "pem": one.to_pem().decode()} for one in context.bundles
                ],
                "files": [str(path) for path in paths],
            }
        )
        return
    out.records("svids", list(map(x509_record, context.svids)))
    for path in paths:
        tell(f"wrote {path}")


@fetch.command()
@click.option("--audience", required=True, multiple=True, help="An audience of the token.")
@click.option("--spiffe-id", type=SPIFFE_ID, help="Only the token of this identity.")
@workload_option
@output_option
def jwt(out: Output, workload_socket: str | None, audience: tuple[str, ...], spiffe_id: SpiffeId | None) -> None:
    """Fetch a token of each identity, one per line, the default first."""
    svids = _ask(workload_socket, lambda api: api.fetch_jwt_svids(audience, spiffe_id))
    told = [{**jwt_record(svid), "token": svid.token} for svid in svids]
    out.record({"svids": told}, "\n".join(svid.token for svid in svids))


@fetch.command()
@workload_option
@output_option
def bundles(out: Output, workload_socket: str | None) -> None:
    """Fetch the trust bundles of this process: as text PEM certificates, as JSON SPIFFE bundles with the JWT keys."""

    async def fetch_both(api: WorkloadApiClient) -> tuple[BundleSet, BundleSet]:
        return await api.fetch_x509_bundles(), await api.fetch_jwt_bundles()

    x509_bundles, jwt_bundles = _ask(workload_socket, fetch_both)
    by_domain = {one.trust_domain: one for one in x509_bundles}
    for one in jwt_bundles:
        known = by_domain.get(one.trust_domain, one)
        by_domain[one.trust_domain] = replace(known, jwt_authorities=one.jwt_authorities)
    found = list(by_domain.values())
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


@click.command()
@click.option("--audience", required=True, help="The audience that the token must have: this program.")
@click.option("--token", default="-", help="The token; - reads it from standard input, hidden from other users.")
@workload_option
@output_option
def validate_jwt(out: Output, workload_socket: str | None, audience: str, token: str) -> int:
    """Have the Workload API validate a token against the bundles of this process. Exit code 1: it is invalid."""
    given = sys.stdin.buffer.read().decode("utf-8", "replace") if token == "-" else token  # noqa: S105  # "-" is no secret
    text = given.strip()
    if not text:
        raise RequestError("validate-jwt: wanted a token, got nothing")
    try:
        svid = _ask(workload_socket, lambda api: api.validate_jwt_svid(text, audience))
    except InvalidSvidError as error:
        if not out.as_json:
            raise
        out.record({"valid": False, "reason": str(error)})
        return 1
    out.record({"valid": True, **jwt_record(svid)})
    return 0
