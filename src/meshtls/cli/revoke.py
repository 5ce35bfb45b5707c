"""``meshtls revoke``, ``readmit`` and ``revoked``: take back what was issued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from meshtls.cli.access import ServerAccess, gathered, server_options
from meshtls.cli.options import SPIFFE_ID
from meshtls.cli.output import Output, Record
from meshtls.cli.records import moment
from meshtls.registration import EntryFilter
from meshtls.scalars import count_of
from meshtls.serverapi.values import LEAF_REASONS, Block, Revoked, RevokedSvid, Subject, SubjectKind
from meshtls.spiffeid import SpiffeId

__all__ = ["readmit", "revoke", "revoked"]

F = TypeVar("F", bound=Callable[..., Any])


def _words(reason: str) -> str:
    return reason.replace("_", "-")


def _subject_options(command: F) -> F:
    for option in (
        click.option("--entry", metavar="ID", help="All SVIDs of a registration entry."),
        click.option("--agent", type=SPIFFE_ID, help="An agent, and all SVIDs that it has requested."),
        click.option("--spiffe-id", type=SPIFFE_ID, help="All SVIDs with this SPIFFE ID."),
        click.option("--serial", metavar="HEX", help="One SVID, or the CA of a downstream server."),
    ):
        command = option(command)
    return command


@click.command()
@_subject_options
@click.option(
    "--reason",
    type=click.Choice(list(map(_words, LEAF_REASONS))),
    default="unspecified",
    show_default=True,
    help="Why.",
)
@server_options
def revoke(
    access: ServerAccess,
    out: Output,
    serial: str | None,
    spiffe_id: SpiffeId | None,
    agent: SpiffeId | None,
    entry: str | None,
    reason: str,
) -> None:
    """Have SVIDs refused everywhere, now. Live connections of their holders are closed.

    Of a SPIFFE ID or an entry nothing is issued until it is readmitted, and agents stop serving it. An agent is banned.
    In the place of a single SVID its agent requests another one, with another key. The CA of a downstream server is
    revoked by its serial, or with the entry, the SPIFFE ID or the agent that it was issued to, and everything that it
    has signed is refused with it.
    """
    subject = _subject(serial, spiffe_id, agent, entry)
    done = access.ask(lambda api: api.revoke(subject, reason.replace("-", "_")))
    _tell(out, "revoked", subject, done)
    if spiffe_id is not None and not (done.certificates or done.tokens or done.cas):
        wanted = EntryFilter(spiffe_id=spiffe_id)
        if not access.ask(lambda api: api.count_entries(wanted)):
            out.notice(
                f"no entry has {spiffe_id}, and no SVID with it was to be revoked. It is refused from now on; if it was"
                " mistyped, revoke the right one, and readmit this one"
            )


@click.command()
@_subject_options
@server_options
def readmit(
    access: ServerAccess,
    out: Output,
    serial: str | None,
    spiffe_id: SpiffeId | None,
    agent: SpiffeId | None,
    entry: str | None,
) -> None:
    """Issue for a revoked SPIFFE ID or entry again, or let a banned agent attest again.

    SVIDs that were issued before stay revoked, unless they were revoked with --reason certificate-hold.
    """
    subject = _subject(serial, spiffe_id, agent, entry)
    _tell(out, "reinstated", subject, access.ask(lambda api: api.readmit(subject)))


@click.command()
@server_options
def revoked(access: ServerAccess, out: Output) -> None:
    """List the SPIFFE IDs and entries that are revoked, and the revoked SVIDs that have not expired."""
    found = access.ask(lambda api: gathered(api.revocations()))
    out.records("revocations", list(map(_record, found)))


def _subject(serial: str | None, spiffe_id: SpiffeId | None, agent: SpiffeId | None, entry: str | None) -> Subject:
    given = [
        Subject(kind, str(name))
        for kind, name in (
            (SubjectKind.SERIAL, serial),
            (SubjectKind.SPIFFE_ID, spiffe_id),
            (SubjectKind.AGENT, agent),
            (SubjectKind.ENTRY, entry),
        )
        if name is not None
    ]
    if len(given) != 1:
        raise click.UsageError(f"wanted one of --serial, --spiffe-id, --agent and --entry, got {len(given)} of them")
    return given[0]


def _tell(out: Output, verb: str, subject: Subject, done: Revoked) -> None:
    counts = f"{count_of(done.certificates, 'X509-SVID')} and {count_of(done.tokens, 'JWT-SVID')}"
    if done.cas:
        counts += f" and {count_of(done.cas, 'CA of a downstream server', 'CAs of downstream servers')}"
    out.record(
        {
            "subject": subject.kind.value,
            "name": subject.name,
            f"{verb}_certificates": done.certificates,
            f"{verb}_tokens": done.tokens,
            f"{verb}_cas": done.cas,
            "of_other_servers": done.of_other_servers,
        },
        text=f"{subject}: {counts} {verb}",
    )
    if done.of_other_servers:
        were = "was" if done.of_other_servers == 1 else "were"
        out.notice(
            f"{done.of_other_servers} of these certificates {were} issued by other servers. Each signs its own list:"
            " one that is not running has to be started, or its authority revoked, before they are refused"
        )


def _record(one: Block | RevokedSvid) -> Record:
    if isinstance(one, Block):
        return {
            "subject": one.subject.kind.value,
            "name": one.subject.name,
            "reason": _words(one.reason),
            "since": moment(one.since),
        }
    return {
        "subject": SubjectKind.SERIAL.value,
        "name": one.serial,
        "kind": one.kind,
        "spiffe_id": str(one.spiffe_id),
        "reason": _words(one.reason),
        "since": moment(one.revoked_at) if one.revoked_at else None,
        "expires_at": moment(one.not_after),
    }
