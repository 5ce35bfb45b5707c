"""``meshtls federation``: trust domains whose bundles the server fetches."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from meshtls.bundle import TrustBundle
from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.bundle_file import read_bundle
from meshtls.cli.options import SPIFFE_ID, TRUST_DOMAIN, parsed_type
from meshtls.cli.output import Output, Record
from meshtls.cli.records import moment
from meshtls.errors import NotFoundError, RequestError
from meshtls.serverapi.federation import Profile, Relation, RelationStatus, endpoint_url
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["federation"]

F = TypeVar("F", bound=Callable[..., Any])

_domain_option = click.option(
    "--trust-domain", "--id", "trust_domain", type=TRUST_DOMAIN, required=True, help="The other trust domain."
)


def _relation_options(verb: F) -> F:
    """Options for whose bundle is fetched and how, which the verb is given as ``relation`` and ``bundle``."""

    @_domain_option
    @click.option(
        "--bundle-endpoint-url",
        "url",
        type=parsed_type("URL", endpoint_url),
        required=True,
        help="Where its bundle is: an https URL.",
    )
    @click.option(
        "--bundle-endpoint-profile",
        "profile",
        type=click.Choice([one.value for one in Profile]),
        required=True,
        help="How the endpoint is authenticated: by its X509-SVID, or by its host name.",
    )
    @click.option("--endpoint-spiffe-id", type=SPIFFE_ID, help="The ID of the endpoint's server, with https_spiffe.")
    @click.option(
        "--trust-domain-bundle-path",
        "path",
        type=click.Path(path_type=Path),
        help="A file with its bundle, to begin with: https_spiffe needs one to authenticate the endpoint.",
    )
    @click.option(
        "--trust-domain-bundle-format",
        "form",
        type=click.Choice(["pem", "spiffe"]),
        default="spiffe",
        show_default=True,
        help="A SPIFFE bundle document, or PEM certificates.",
    )
    @wraps(verb)
    def with_relation(
        trust_domain: TrustDomain,
        url: str,
        profile: str,
        endpoint_spiffe_id: SpiffeId | None,
        path: Path | None,
        form: str,
        **others: Any,
    ) -> Any:
        relation = Relation(
            trust_domain=trust_domain, url=url, profile=Profile(profile), endpoint_id=endpoint_spiffe_id
        )
        bundle = read_bundle(trust_domain, path, form, "--trust-domain-bundle-format") if path is not None else None
        return verb(relation=relation, bundle=bundle, **others)

    return with_relation  # type: ignore[return-value]  # it takes the options instead of the two


@click.group()
def federation() -> None:
    """Federation: trust domains whose bundles the server fetches."""


@federation.command()
@_relation_options
@server_options
def create(access: ServerAccess, out: Output, relation: Relation, bundle: TrustBundle | None) -> None:
    """Begin to fetch the bundle of another trust domain. Its entries say which workloads get it."""
    _tell(out, access.ask(lambda api: api.create_relation(relation, bundle)), bundle)


@federation.command("list")
@server_options
def list_relations(access: ServerAccess, out: Output) -> None:
    """List the trust domains whose bundles are fetched."""
    out.records("relations", list(map(_record, access.ask(lambda api: api.relations()))))


@federation.command()
@_domain_option
@server_options
def show(access: ServerAccess, out: Output, trust_domain: TrustDomain) -> None:
    """Show one of them, and how the server gets on with it."""
    found = [one for one in access.ask(lambda api: api.relations()) if one.relation.trust_domain == trust_domain]
    if not found:
        raise NotFoundError(f"federation with {trust_domain}: there is none; see `meshtls federation list`")
    out.record(_record(found[0]))


@federation.command()
@_relation_options
@server_options
def update(access: ServerAccess, out: Output, relation: Relation, bundle: TrustBundle | None) -> None:
    """Fetch the bundle from another endpoint, or in another way. The bundle in use stays until then."""
    _tell(out, access.ask(lambda api: api.update_relation(relation, bundle)), bundle)


@federation.command()
@_domain_option
@click.option("--keep-bundle", is_flag=True, help="Trust the other trust domain on, by the bundle of now.")
@server_options
def delete(access: ServerAccess, out: Output, trust_domain: TrustDomain, keep_bundle: bool) -> None:
    """Stop trusting another trust domain: connections with its workloads are closed."""
    access.ask(lambda api: api.delete_relation(trust_domain, keep_bundle=keep_bundle))
    out.record({"deleted": str(trust_domain)})


@federation.command()
@_domain_option
@server_options
def refresh(access: ServerAccess, out: Output, trust_domain: TrustDomain) -> None:
    """Fetch the bundle now. Fails if the endpoint gives none that can be used; the bundle in use is then kept."""
    status = access.ask(lambda api: api.refresh_relation(trust_domain))
    if status.failure:
        raise RequestError(f"federation with {trust_domain}: {status.failure}")
    out.record(_record(status))


def _tell(out: Output, status: RelationStatus, given: TrustBundle | None) -> None:
    """The relation, and what of the bundle that it was given can't be used."""
    for line in given.unusable if given else ():
        out.notice(line)
    out.record(_record(status))


def _record(status: RelationStatus) -> Record:
    relation, bundle = status.relation, status.bundle
    return {
        "trust_domain": str(relation.trust_domain),
        "bundle_endpoint_url": relation.url,
        "bundle_endpoint_profile": relation.profile.value,
        "endpoint_spiffe_id": str(relation.endpoint_id) if relation.endpoint_id else None,
        "configured": status.configured,
        "x509_authorities": None if bundle is None else len(bundle.x509_authorities),
        "jwt_authorities": None if bundle is None else len(bundle.jwt_authorities),
        "sequence": None if bundle is None else bundle.sequence,
        "refresh_hint": None if bundle is None else bundle.refresh_hint,
        "fetched_at": moment(status.fetched_at) if status.fetched_at else None,
        "next_at": moment(status.next_at) if status.next_at else None,
        "failure": status.failure,
    }
