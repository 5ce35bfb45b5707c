"""``meshtls audit``: who did what to the servers, and whether that record is whole."""

from __future__ import annotations

import json

import click

from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.options import parsed_type
from meshtls.cli.output import Output
from meshtls.cli.records import moment_of
from meshtls.errors import RequestError
from meshtls.observe.audit import AuditLine, AuditRecord, ChainCheck
from meshtls.scalars import shown
from meshtls.serverapi.admin import AdminClient

__all__ = ["audit"]


def _head(text: str) -> tuple[int, bytes]:
    number, _, digest = text.partition(":")
    try:
        known = int(number), bytes.fromhex(digest)
    except ValueError:
        known = 0, b""
    if known[0] < 1 or len(known[1]) != 32:
        raise RequestError(f"wanted NUMBER:HASH as `meshtls audit verify` prints it, got {shown(text)}")
    return known


@click.group()
def audit() -> None:
    """The audit trail: every administrative and issuing act, joined by a chain of hashes."""


@audit.command()
@click.option("--after", type=click.IntRange(min=0), default=0, help="Begin after the record with this number.")
@click.option("--act", help="Only acts with this name, such as `create entry`.")
@click.option("--about", help="Only acts about this identity or thing.")
@click.option("--by", help="Only acts of this caller, such as `uid 0`.")
@click.option("--last", "-n", type=click.IntRange(min=1), help="Only the newest records, as many as this.")
@server_options
def show(
    access: ServerAccess, out: Output, after: int, act: str | None, about: str | None, by: str | None, last: int | None
) -> None:
    """Print the records, oldest first."""

    async def found(api: AdminClient) -> list[tuple[AuditLine, AuditRecord]]:
        kept: list[tuple[AuditLine, AuditRecord]] = []
        async for line in api.audit(after):
            record = AuditRecord.parse(line.record)
            if (
                act in (None, record.act)
                and by in (None, record.name)
                and (about is None or about == record.subject or f'"{about}"'.encode() in line.record)
            ):
                kept.append((line, record))
                if last is not None and len(kept) > last:
                    del kept[0]
        return kept

    records = access.ask(found)
    if out.as_json:
        told = [{"number": one.number, "hash": one.hash.hex(), **json.loads(one.record)} for one, _ in records]
        out.records("audit", told)
        return
    for line, record in records:
        out.event({}, _text(line, record))
    if not records:
        out.records("audit", [])


@audit.command()
@click.option("--head", "heads", type=parsed_type("NUMBER:HASH", _head), multiple=True, help="A hash noted earlier.")
@server_options
def verify(access: ServerAccess, out: Output, heads: tuple[tuple[int, bytes], ...]) -> None:
    """Recompute the chain of hashes. Keep the head that it prints elsewhere, and give it the next time with --head."""

    async def checked(api: AdminClient) -> ChainCheck:
        check = ChainCheck(dict(heads), await api.audit_head())
        async for line in api.audit():
            check.add([line])
        check.finish()
        return check

    check = access.ask(checked)
    first, last = check.first, check.last
    if first is None or last is None:
        out.record({"records": 0, "head": None}, "the audit trail is empty")
        return
    head = f"{last.number}:{last.hash.hex()}"
    pruned = "" if first.number == 1 else f"; those before {first.number} were removed, as audit_records says"
    told = f"audit records {first.number} to {last.number} form one chain{pruned}\nhead {head}"
    out.record(
        {"first": first.number, "last": last.number, "records": last.number - first.number + 1, "head": head}, told
    )


def _text(line: AuditLine, record: AuditRecord) -> str:
    by = f"{record.name} ({record.credential})" if record.credential else record.name
    changed = [
        f"{name} {json.dumps(state)}" for name, state in (("before", record.before), ("after", record.after)) if state
    ]
    about = f" {record.subject}" if record.subject else ""
    return f"{line.number}  {moment_of(record.at)}  {record.act}{about}  by {by}" + "".join(
        f"  {one}" for one in changed
    )
