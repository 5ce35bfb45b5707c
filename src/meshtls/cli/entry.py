"""``meshtls entry``: registration entries, one from options or many from a file."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from meshtls.cli.access import ServerAccess, gathered, server_options
from meshtls.cli.entry_data import EntryData, read_entries, read_ids
from meshtls.cli.entry_warnings import missing_bundles, warnings_of
from meshtls.cli.options import MOMENT, SELECTOR, SPIFFE_ID, TRUST_DOMAIN, TTL
from meshtls.cli.output import Output, Record, tell, tell_progress
from meshtls.cli.records import entry_record
from meshtls.errors import ConfigError, RequestError
from meshtls.printable import indented
from meshtls.registration import Entry, EntryFilter, Selector
from meshtls.scalars import count_of
from meshtls.serverapi.admin import AdminClient
from meshtls.spiffeid import SpiffeId

__all__ = ["Batch", "apply_batch", "entry"]

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
    click.option("--parent-id", type=SPIFFE_ID, help="The agent, or the identity of the entry, that is its parent."),
    click.option(
        "--selector",
        "selectors",
        type=SELECTOR,
        multiple=True,
        help="A selector such as unix:uid:1000; a workload must have all of them.",
    ),
    click.option("--x509-svid-ttl", type=TTL, help="A duration such as 1h, or seconds; 0 for the server's default."),
    click.option("--jwt-svid-ttl", type=TTL, help="The same for JWT-SVIDs."),
    click.option(
        "--federates-with", type=TRUST_DOMAIN, multiple=True, help="Another trust domain whose bundle it gets."
    ),
    click.option("--dns", "dns_names", multiple=True, help="A DNS name in its X509-SVID."),
    click.option("--hint", help="Distinguishes its SVID from others of the same workload."),
    click.option("--admin/--no-admin", default=None, help="The workload may administer the server."),
    click.option("--downstream/--no-downstream", default=None, help="The workload may run a downstream server."),
    click.option("--expires-at", type=MOMENT, help="When the entry expires."),
)
_NEEDED = ("spiffe_id", "parent_id", "selectors")
#: Changes per message, unless all are one change.
_CHUNK = 500
_data = _options(
    click.option(
        "--data",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE|-",
        help="Entries as JSON, ours (as `entry show --output json`) or SPIRE's, instead of the options.",
    ),
    click.option(
        "--all-or-none",
        is_flag=True,
        help="With --data: as one change, all or none; else the server accepts or refuses each entry separately."
        " An invalid file is refused whole.",
    ),
)


_filter = _options(
    click.option("--spiffe-id", type=SPIFFE_ID, help="Only entries with this identity."),
    click.option("--parent-id", type=SPIFFE_ID, help="Only entries with this parent."),
    click.option("--selector", "selectors", type=SELECTOR, multiple=True, help="Only entries with this selector."),
    click.option("--hint", help="Only entries with this hint."),
)


@click.group()
def entry() -> None:
    """Registration entries: which workloads get which identity."""


@entry.command()
@_fields
@_data
@click.option(
    "--strict", is_flag=True, help="Fail on warnings: no agent can serve the entry, unknown selector, no bundle."
)
@server_options
def create(
    access: ServerAccess, out: Output, data: Path | None, all_or_none: bool, strict: bool, **options: Any
) -> int:
    """Create an entry, or those of a file. Their agents are notified immediately.

    An entry that no agent can serve at present is created, with a warning that gives the reason; so is one that
    federates with a trust domain of which the server has no bundle.
    """
    told = _told(options)
    _check_use(data, all_or_none, told)
    if data is None:
        for name in _NEEDED:
            if name not in told:
                option = "--selector" if name == "selectors" else f"--{name.replace('_', '-')}"
                raise click.UsageError(f"Missing option '{option}'.")
        new = [EntryData("entry", "", told)]
    else:
        new = _read(data, read_entries)
        missing = [f"{one.place}: wanted {name}" for one in new for name in _NEEDED if not one.fields.get(name)]
        _refuse(data, missing)
        if any(one.id or "revision" in one.fields for one in new):
            out.notice(f"{data}: ids and revisions in the file are ignored: the server assigns them")
        new = [EntryData(one.place, "", {k: v for k, v in one.fields.items() if k != "revision"}) for one in new]
    wanted = _entries(data, new)

    async def warned(api: AdminClient) -> list[str]:
        return await warnings_of(api, [one for _, one in wanted])

    async def change(api: AdminClient, some: Sequence[Entry]) -> Sequence[Record]:
        return list(map(entry_record, await api.create_entries(some)))

    warnings = access.ask(warned)
    if warnings and strict:
        raise RequestError("nothing was created, because of --strict:", *indented(warnings))
    code = _apply(access, out, data, "created", wanted, change, all_or_none)
    for warning in warnings:
        out.notice(warning)
    return code


@entry.command()
@click.option("--entry-id", help="Only the entry with this id.")
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
    """Show one entry, or all that match the other options."""
    if entry_id is not None:
        found = [access.ask(lambda api: api.entry(entry_id))]
    else:
        wanted = EntryFilter(spiffe_id, parent_id, selectors, hint)
        found = access.ask(lambda api: gathered(api.entries(wanted)))
    out.records("entries", list(map(entry_record, found)))


@entry.command()
@click.option("--entry-id", help="The entry to update.")
@_fields
@click.option("--clear", type=click.Choice(list(_CLEARED)), multiple=True, help="Remove the value of this field.")
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
    """Change the given fields of an entry, or of those in a file. A given list replaces the present one."""
    told = _told(options) | dict(_CLEARED[name] for name in clear)
    _check_use(data, all_or_none, told | ({"entry_id": entry_id} if entry_id else {}))
    if data is None:
        if entry_id is None:
            raise click.UsageError("Missing option '--entry-id'.")
        changes = [EntryData("entry", entry_id, told)]
    else:
        changes = _read(data, read_entries)
        _refuse(data, [f"{one.place}: wanted id, that of the entry to update" for one in changes if not one.id])

    warnings: list[str] = []

    async def change(api: AdminClient, some: Sequence[EntryData]) -> Sequence[Record]:
        changed = []
        for one in some:
            present = await api.entry(one.id)
            try:
                changed.append(replace(present, **one.fields))
            except RequestError as error:
                raise RequestError(f"{one.name}: {error}") from error
        updated = await api.update_entries(changed)
        warnings.extend(await missing_bundles(api, updated))
        return list(map(entry_record, updated))

    code = _apply(access, out, data, "updated", [(one.name, one) for one in changes], change, all_or_none)
    for warning in warnings:
        out.notice(warning)
    return code


@entry.command()
@click.option(
    "--entry-id", "entry_ids", multiple=True, help="The entry to delete; of several, all or none are deleted."
)
@_data
@server_options
def delete(access: ServerAccess, out: Output, entry_ids: tuple[str, ...], data: Path | None, all_or_none: bool) -> int:
    """Delete entries. Their workloads lose the identity immediately."""
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
    """Count the entries, or those that match the options."""
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
    """Apply the change and print the result. Without a file there is one item, and its record is the answer."""
    if data is None:
        [record] = access.ask(lambda api: change(api, [item for _, item in items]))
        out.record(record)
        return 0
    batch = access.ask(lambda api: apply_batch(items, lambda some: change(api, some), all_or_none=all_or_none))
    return batch.tell(out, verb)


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
        raise ConfigError(f"{data}: wanted at least one entry, got none")
    return found


def _refuse(data: Path | None, problems: Sequence[str]) -> None:
    if problems:
        raise ConfigError(f"{data}: it can't be used:", *indented(problems))


def _check_use(data: Path | None, all_or_none: bool, told: dict[str, Any]) -> None:
    if data is not None and told:
        raise click.UsageError("wanted --data or the options of one entry, got both")
    if data is None and all_or_none:
        raise click.UsageError("wanted --all-or-none together with --data")


def _entries(data: Path | None, new: Sequence[EntryData]) -> list[tuple[str, Entry]]:
    found, problems = [], []
    for one in new:
        try:
            found.append((one.name, Entry(**one.fields)))
        except RequestError as error:
            problems.append(f"{one.place}: {error}" if data else str(error))
    if problems and data is None:
        raise click.UsageError(problems[0])
    _refuse(data, problems)
    return found


def _told(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, ())}


@dataclass(slots=True)
class Batch:
    """The result: the records of ``done``, and a name and a reason for each of ``failed``."""

    done: list[Record] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def tell(self, out: Output, verb: str) -> int:
        """Print the result. Returns the exit code, 1 if one failed."""
        failed = [{"entry": name, "message": message} for name, message in self.failed]
        if out.as_json:
            out.record({verb: self.done, "failed": failed})
        else:
            tell(f"{verb} {len(self.done)} of {count_of(len(self.done) + len(failed), 'entry', 'entries')}")
            for name, message in self.failed:
                tell(f"{name}: {message}", err=True)
        return 1 if failed else 0


async def apply_batch(
    items: Sequence[tuple[str, T]],
    change: Callable[[Sequence[T]], Awaitable[Sequence[Record]]],
    *,
    all_or_none: bool,
) -> Batch:
    """Apply ``change`` to items, each with its name in messages. One call of ``change`` applies all its items or none.

    With ``all_or_none`` there is one call, and its error is raised. Otherwise each item that can be changed is, the
    others are reported in the result, and only an error of the connection to the server is raised.
    """
    batch = Batch()
    if all_or_none:
        batch.done.extend(await change([item for _, item in items]))
        return batch
    for start in range(0, len(items), _CHUNK):
        await _apply_some(items[start : start + _CHUNK], change, batch)
        done = min(start + _CHUNK, len(items))
        if len(items) > _CHUNK and sys.stderr.isatty():
            tell_progress(f"{done} of {len(items)} entries", last=done == len(items))
    return batch


async def _apply_some(
    items: Sequence[tuple[str, T]], change: Callable[[Sequence[T]], Awaitable[Sequence[Record]]], batch: Batch
) -> None:
    try:
        batch.done.extend(await change([item for _, item in items]))
    except RequestError as error:
        if len(items) == 1:
            batch.failed.append((items[0][0], str(error)))
            return
        # Find the faulty item by bisection, so that the others are sent in messages as large as possible.
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            await _apply_some(half, change, batch)
