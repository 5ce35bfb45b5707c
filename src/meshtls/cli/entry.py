"""``meshtls entry``: who shall get which identity."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from meshtls.cli.access import ServerAccess, gathered, server_options
from meshtls.cli.entry_batch import apply_batch
from meshtls.cli.entry_data import EntryData, read_entries, read_ids
from meshtls.cli.options import MOMENT, SELECTOR, SPIFFE_ID, TRUST_DOMAIN, TTL
from meshtls.cli.output import Output, Record
from meshtls.cli.records import entry_record
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError, RequestError
from meshtls.printable import indented
from meshtls.registration import Entry, EntryFilter, Selector
from meshtls.server.reach import Reach, unproduced
from meshtls.serverapi.admin import AdminClient
from meshtls.spiffeid import SpiffeId

__all__ = ["entry"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
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


_fields = _options(
    click.option("--spiffe-id", type=SPIFFE_ID, help="The identity."),
    click.option("--parent-id", type=SPIFFE_ID, help="The agent, or the entry, that it hangs below."),
    click.option(
        "--selector",
        "selectors",
        type=SELECTOR,
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
_NEEDED = ("spiffe_id", "parent_id", "selectors")
_data = _options(
    click.option(
        "--data",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE|-",
        help="Entries as JSON, ours (as `entry show --output json`) or SPIRE's, in place of the options.",
    ),
    click.option("--all-or-none", is_flag=True, help="With --data: all as one change; else each for itself."),
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
@_fields
@_data
@click.option("--strict", is_flag=True, help="Refuse what is only warned about: no agent reaches it, no such selector.")
@server_options
def create(
    access: ServerAccess, out: Output, data: Path | None, all_or_none: bool, strict: bool, **options: Any
) -> int:
    """Register a workload, or many of a file: their agents are notified at once.

    An entry that no agent can serve as things are is created, with a warning that says why.
    """
    told = _told(options)
    _check_use(data, all_or_none, told)
    if data is None:
        _check_needed(told)
        new = [EntryData("entry", "", told)]
    else:
        new = _read(data, read_entries)
        _check_needed_of_data(data, new)
        if any(one.id or "revision" in one.fields for one in new):
            out.notice(f"{data}: ids and revisions are the server's to give: those of the file are not used")
        new = [EntryData(one.place, "", {k: v for k, v in one.fields.items() if k != "revision"}) for one in new]
    wanted = _entries(data, new)

    async def warned(api: AdminClient) -> list[str]:
        return await _warnings(api, wanted)

    async def change(api: AdminClient, some: Sequence[Entry]) -> Sequence[Record]:
        return list(map(entry_record, await api.create_entries(some)))

    warnings = access.ask(warned)
    if warnings and strict:
        raise RequestError("nothing was created, since --strict was given:", *indented(warnings))
    code = _apply(access, out, data, "created", wanted, change, all_or_none)
    for warning in warnings:
        out.notice(warning)
    return code


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
@click.option("--entry-id", help="Which one.")
@_fields
@click.option("--clear", type=click.Choice(list(_CLEARED)), multiple=True, help="Leave this without a value.")
@_data
@server_options
def update(
    access: ServerAccess,
    out: Output,
    entry_id: str | None,
    clear: tuple[str, ...],
    data: Path | None,
    all_or_none: bool,
    **options: Any,
) -> int:
    """Change what is told, and nothing else. A list that is told replaces the present one."""
    told = _told(options) | dict(_CLEARED[name] for name in clear)
    _check_use(data, all_or_none, told | ({"entry_id": entry_id} if entry_id else {}))
    if data is None:
        if entry_id is None:
            raise click.UsageError("Missing option '--entry-id'.")
        changes = [EntryData("entry", entry_id, told)]
    else:
        changes = _read(data, read_entries)
        _check_ids_of_data(data, changes)

    async def change(api: AdminClient, some: Sequence[EntryData]) -> Sequence[Record]:
        changed = [_changed(await api.entry(one.id), one) for one in some]
        return list(map(entry_record, await api.update_entries(changed)))

    return _apply(access, out, data, "updated", [(one.name, one) for one in changes], change, all_or_none)


@entry.command()
@click.option("--entry-id", "entry_ids", multiple=True, help="Which one; all of them or none.")
@_data
@server_options
def delete(access: ServerAccess, out: Output, entry_ids: tuple[str, ...], data: Path | None, all_or_none: bool) -> int:
    """Take an identity back: its workloads lose it at once."""
    _check_use(data, all_or_none, {"entry_ids": entry_ids} if entry_ids else {})
    if data is None:
        if not entry_ids:
            raise click.UsageError("Missing option '--entry-id'.")
        access.ask(lambda api: api.delete_entries(entry_ids))
        out.record({"deleted": list(entry_ids)})
        return 0
    ids = _read(data, read_ids)

    async def change(api: AdminClient, some: Sequence[str]) -> Sequence[Record]:
        await api.delete_entries(some)
        return [{"id": one} for one in some]

    return _apply(access, out, data, "deleted", [(one, one) for one in ids], change, all_or_none)


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


def _apply(
    access: ServerAccess,
    out: Output,
    data: Path | None,
    verb: str,
    items: Sequence[tuple[str, T]],
    change: Callable[[AdminClient, Sequence[T]], Awaitable[Sequence[Record]]],
    all_or_none: bool,
) -> int:
    """Without a file it is one, and its record is the answer."""
    if data is None:
        [record] = access.ask(lambda api: change(api, [item for _, item in items]))
        out.record(record)
        return 0
    batch = access.ask(lambda api: apply_batch(items, lambda some: change(api, some), all_or_none=all_or_none))
    return batch.tell(out, verb)


async def _warnings(api: AdminClient, new: Sequence[tuple[str, Entry]]) -> list[str]:
    """What is in the way of each, as things are now; the new ones may be each other's parents."""
    kept, agents = await gathered(api.entries()), await gathered(api.agents())
    numbered = [(name, replace(entry, id=f"new {number}")) for number, (name, entry) in enumerate(new)]
    domain = new[0][1].spiffe_id.trust_domain
    reach = Reach(domain, [*kept, *(entry for _, entry in numbered)], agents, SystemClock().now())
    found = []
    for _, entry in numbered:
        obstacle = reach.obstacle(entry)
        reasons = [*([f"no agent can serve it yet: {obstacle}"] if obstacle else []), *unproduced(entry, domain)]
        found += [f"entry {entry.spiffe_id}: {reason}" for reason in reasons]
    return found


def _read(data: Path, reader: Callable[[bytes], list[T]]) -> list[T]:
    try:
        text = sys.stdin.buffer.read() if str(data) == "-" else data.read_bytes()
    except OSError as error:
        raise ConfigError(f"{data}: wanted JSON to read: {error.strerror or error}") from error
    try:
        found = reader(text)
    except RequestError as error:
        raise ConfigError(f"{data}: {error}") from error
    if not found:
        raise ConfigError(f"{data}: wanted one entry at least, got none")
    return found


def _check_use(data: Path | None, all_or_none: bool, told: dict[str, Any]) -> None:
    if data is not None and told:
        raise click.UsageError("wanted --data or the options of one entry, got both")
    if data is None and all_or_none:
        raise click.UsageError("--all-or-none goes with --data")


def _check_needed(told: dict[str, Any]) -> None:
    for name in _NEEDED:
        if name not in told:
            option = "--selector" if name == "selectors" else f"--{name.replace('_', '-')}"
            raise click.UsageError(f"Missing option '{option}'.")


def _check_needed_of_data(data: Path, new: Sequence[EntryData]) -> None:
    missing = [f"{one.place}: wanted {name}" for one in new for name in _NEEDED if not one.fields.get(name)]
    if missing:
        raise ConfigError(f"{data}: it can't be used:", *indented(missing))


def _check_ids_of_data(data: Path, changes: Sequence[EntryData]) -> None:
    missing = [f"{one.place}: wanted id, that of the entry to update" for one in changes if not one.id]
    if missing:
        raise ConfigError(f"{data}: it can't be used:", *indented(missing))


def _entries(data: Path | None, new: Sequence[EntryData]) -> list[tuple[str, Entry]]:
    found, problems = [], []
    for one in new:
        try:
            found.append((one.name, Entry(**one.fields)))
        except RequestError as error:
            problems.append(f"{one.place}: {error}" if data else str(error))
    if problems and data is None:
        raise click.UsageError(problems[0])
    if problems:
        raise ConfigError(f"{data}: it can't be used:", *indented(problems))
    return found


def _changed(present: Entry, one: EntryData) -> Entry:
    try:
        return replace(present, **one.fields)
    except RequestError as error:
        raise RequestError(f"{one.name}: {error}") from error


def _told(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, ())}
