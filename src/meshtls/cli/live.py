"""The running mesh as a table that stays up to date."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from meshtls.cli.demo_report import duration
from meshtls.cli.journal import Journal
from meshtls.cli.local_mesh import LocalMesh, Member
from meshtls.errors import LocalIdentityError
from meshtls.printable import printable

__all__ = ["picture"]


def picture(mesh: LocalMesh, journal: Journal) -> Group:
    """What is to be seen now."""
    hint = Text("\nCtrl-C drains and stops.", style="dim")
    return Group(_identities(mesh, journal), _refusals(journal), hint)


def _identities(mesh: LocalMesh, journal: Journal) -> Table:
    table = _table(str(mesh.authority.trust_domain.id))
    for name in ("sidecar", "identity", "serial"):
        table.add_column(name, overflow="fold")
    for name in ("left", "rotated", "open", "served", "refused"):
        table.add_column(name, justify="right")
    for member in mesh.members:
        status = member.source.status
        table.add_row(
            member.name,
            status.spiffe_id.path,
            _serial(member),
            duration((status.not_after - mesh.clock.now()).total_seconds()),
            str(status.generation - 1),
            str(len(member.sidecar.registry)),
            str(journal.connections(member.name, allowed=True)),
            str(journal.connections(member.name, allowed=False)),
        )
    return table


def _serial(member: Member) -> str:
    try:
        return member.source.snapshot().svid.serial[:8]
    except LocalIdentityError:
        return "expired"


def _refusals(journal: Journal) -> Table | Text:
    if not journal.refusals:
        return Text("no refusals yet")
    table = _table("last refusals")
    for name in ("time", "sidecar", "outcome", "why"):
        table.add_column(name, overflow="fold")
    for result in journal.refusals:
        table.add_row(f"{result.started:%H:%M:%S}", result.sidecar, result.outcome.name, printable(result.detail))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
