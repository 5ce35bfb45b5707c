"""``meshtls entry``: who shall get which identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from meshtls.ca.registration import Entry, EntryFilter, Selector
from meshtls.cli.access import ServerAccess, gathered, server_options
from meshtls.cli.options import MOMENT, SELECTOR, SPIFFE_ID, TRUST_DOMAIN, TTL
from meshtls.cli.output import Output
from meshtls.cli.records import entry_record
from meshtls.errors import RequestError
from meshtls.proto.server_admin import AdminClient
from meshtls.spiffeid import SpiffeId

__all__ = ["entry"]

F = TypeVar("F", bound=Callable[..., Any])
_CLEARED: dict[str, tuple[str, object]] = {
    "federates-with": ("federates_with", ()),
    "dns": ("dns_names", ()),
    "hint": ("hint", ""),
    "expires-at": ("expires_at", None),
}


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _fields(*, required: bool) -> Callable[[F], F]:
    return _options(
        click.option("--spiffe-id", type=SPIFFE_ID, required=required, help="The identity."),
        click.option(
            "--parent-id", type=SPIFFE_ID, required=required, help="The agent, or the entry, that it hangs below."
        ),
        click.option(
            "--selector",
            "selectors",
            type=SELECTOR,
            required=required,
            multiple=True,
            help="Such as unix:uid:1000; all have to hold.",
        ),
        click.option("--x509-svid-ttl", type=TTL, help="Seconds, or such as 1h; 0 for the server's default."),
        click.option("--jwt-svid-ttl", type=TTL, help="The same for JWT-SVIDs."),
        click.option("--federates-with", type=TRUST_DOMAIN, multiple=True, help="Whose bundle it gets, too."),
        click.option("--dns", "dns_names", multiple=True, help="A DNS name in its X509-SVID."),
        click.option("--hint", help="Tells its SVID from others of the same workload."),
        click.option("--admin/--no-admin", default=None, help="It may administer the server."),
        click.option("--downstream/--no-downstream", default=None, help="It may run a server below this one."),
        click.option("--expires-at", type=MOMENT, help="When the entry ends by itself."),
    )


_filter = _options(
    click.option("--spiffe-id", type=SPIFFE_ID, help="Those of this identity."),
    click.option("--parent-id", type=SPIFFE_ID, help="Those below this parent."),
    click.option("--selector", "selectors", type=SELECTOR, multiple=True, help="Those that ask for it."),
    click.option("--hint", help="Those with it."),
)


@click.group()
def entry() -> None:
    """Registration entries: who shall get which identity."""


@entry.command()
@_fields(required=True)
@server_options
def create(access: ServerAccess, out: Output, **options: Any) -> None:
    """Register a workload: its agent hears of it at once."""
    wanted = _entry(None, _told(options))
    [made] = access.ask(lambda api: api.create_entries([wanted]))
    out.record(entry_record(made))


@entry.command()
@click.option("--entry-id", help="The one with this id.")
@_filter
@server_options
def show(
    access: ServerAccess,
    out: Output,
    entry_id: str | None,
    spiffe_id: SpiffeId | None,
    parent_id: SpiffeId | None,
    selectors: tuple[Selector, ...],
    hint: str | None,
) -> None:
    """One entry, or all that the other options let through."""
    if entry_id is not None:
        found = [access.ask(lambda api: api.entry(entry_id))]
    else:
        wanted = EntryFilter(spiffe_id, parent_id, selectors, hint)
        found = access.ask(lambda api: gathered(api.entries(wanted)))
    out.records("entries", list(map(entry_record, found)))


@entry.command()
@click.option("--entry-id", required=True, help="Which one.")
@_fields(required=False)
@click.option("--clear", type=click.Choice(list(_CLEARED)), multiple=True, help="Leave this without a value.")
@server_options
def update(access: ServerAccess, out: Output, entry_id: str, clear: tuple[str, ...], **options: Any) -> None:
    """Change what is told, and nothing else. A list that is told replaces the present one."""
    changes = _told(options) | dict(_CLEARED[name] for name in clear)

    async def change(api: AdminClient) -> Entry:
        return await api.update_entry(_entry(await api.entry(entry_id), changes))

    out.record(entry_record(access.ask(change)))


@entry.command()
@click.option("--entry-id", "entry_ids", required=True, multiple=True, help="Which one; all of them or none.")
@server_options
def delete(access: ServerAccess, out: Output, entry_ids: tuple[str, ...]) -> None:
    """Take an identity back: its workloads lose it at once."""
    access.ask(lambda api: api.delete_entries(entry_ids))
    out.record({"deleted": list(entry_ids)})


@entry.command()
@_filter
@server_options
def count(
    access: ServerAccess,
    out: Output,
    spiffe_id: SpiffeId | None,
    parent_id: SpiffeId | None,
    selectors: tuple[Selector, ...],
    hint: str | None,
) -> None:
    """How many entries there are, or how many the options let through."""
    number = access.ask(lambda api: api.count_entries(EntryFilter(spiffe_id, parent_id, selectors, hint)))
    out.record({"count": number}, str(number))


def _told(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, ())}


def _entry(present: Entry | None, fields: dict[str, Any]) -> Entry:
    try:
        return Entry(**fields) if present is None else replace(present, **fields)
    except RequestError as error:
        raise click.UsageError(str(error)) from error
