"""The mesh that stays up until a signal drains it: its apps call each other, and its events are shown as they happen.

On a terminal the events are shown as a live table, elsewhere as lines of text or JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from meshtls.cli.admin.sockets import VARIABLE
from meshtls.cli.demo.addresses import address_record, address_table
from meshtls.cli.demo.mesh import LocalMesh, Member, local_mesh
from meshtls.cli.demo.report import duration
from meshtls.cli.demo.shown import Shown
from meshtls.cli.http import HttpError, get
from meshtls.cli.output import Terminal, tell
from meshtls.cli.serving import GRACE, stop_signal
from meshtls.cli.svid_files import publish_bundle
from meshtls.errors import LocalIdentityError
from meshtls.observe.access_log import access_line
from meshtls.observe.events import ConnectionResult, Outcome
from meshtls.printable import printable, printable_json
from meshtls.sidecar.settings import SidecarConfig
from meshtls.svid.x509 import X509Svid

__all__ = ["Journal", "Plan", "json_line", "stay", "table_of", "text_line"]

_REFRESH_SECONDS = 0.5
_RECENT = 8
#: A connection that ended, or the SVID of a rotation.
Event = ConnectionResult | X509Svid


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of the command line. ``call_every`` is the interval at which each app calls the other.

    ``dashboard``: serve one as well, where its extra is installed.
    """

    sidecars: Sequence[SidecarConfig]
    svid_ttl: timedelta
    data_dir: Path | None
    certs: Path
    call_every: timedelta
    json: bool
    dashboard: bool = True


class Journal:
    """Counts the events of a mesh and keeps its last refusals. Each event is printed as ``line`` of it, unless None."""

    def __init__(self, line: Callable[[Event], str] | None) -> None:
        self._line = line
        self.outcomes: Counter[tuple[str, Outcome]] = Counter()
        self.refusals: deque[ConnectionResult] = deque(maxlen=_RECENT)

    def connection(self, result: ConnectionResult) -> None:
        """A connection ended."""
        self.outcomes[result.sidecar, result.outcome] += 1
        if not result.outcome.allowed:
            self.refusals.append(result)
        if self._line:
            tell(self._line(result))

    def rotated(self, svid: X509Svid) -> None:
        """A sidecar has a new SVID."""
        if self._line:
            tell(self._line(svid))

    def connections(self, sidecar: str, *, allowed: bool) -> int:
        """The number of ended connections of this sidecar that were allowed, or that were refused."""
        return sum(
            count for (name, outcome), count in self.outcomes.items() if (name, outcome.allowed) == (sidecar, allowed)
        )


def text_line(event: Event) -> str:
    """The event as a sentence."""
    now = f"{datetime.now(UTC):%H:%M:%SZ}"
    if isinstance(event, X509Svid):
        return f"{now} rotated {event.spiffe_id}: SVID {event.serial} until {event.not_after:%H:%M:%SZ}"
    ends = f"{event.source_id or 'unknown'} -> {event.destination_id or 'unknown'}"
    what = f"{event.sidecar} {event.direction.value} {event.outcome.name}"
    named = f" [{event.connection_id}]" if event.connection_id else ""
    return f"{now} {what} {ends}: {printable(event.detail)}{named}"


def json_line(event: Event) -> str:
    """The event as a JSON object; a connection has the fields of the access log."""
    fields: dict[str, object]
    if isinstance(event, X509Svid):
        expiry = f"{event.not_after:%Y-%m-%dT%H:%M:%SZ}"
        fields = {
            "event": "rotated",
            "spiffe_id": str(event.spiffe_id),
            "serial": event.serial,
            "expiry": expiry,
        }
    else:
        fields = {"event": "connection", **msgspec.to_builtins(access_line(event))}
    return _one_line(fields)


def _one_line(fields: dict[str, object]) -> str:
    return printable_json(msgspec.json.encode(fields).decode())


async def stay(plan: Plan) -> int:
    """Run until SIGTERM or SIGINT, then drain. Returns the exit code."""
    console = Terminal(highlight=False)
    live = console.is_terminal and not plan.json
    journal = Journal(None if live else json_line if plan.json else text_line)
    drain = max((config.limits.drain for config in plan.sidecars), default=0.0)
    with stop_signal(drain + GRACE) as stopped:
        async with contextlib.AsyncExitStack() as opened:
            shown = opened.enter_context(Shown.beside(plan.sidecars))
            mesh = await opened.enter_async_context(
                local_mesh(shown.sidecars, plan.svid_ttl, plan.data_dir, journal.connection)
            )
            publish_bundle(plan.certs, mesh.authority.bundle)
            tell(f"serving {', '.join(member.name for member in mesh.members)}", err=True)
            tell(f"to ask it: export {VARIABLE}={','.join(one.name for one in shown.interfaces)}", err=True)
            dashboard = None
            if plan.dashboard and not shown.has_dashboard:
                tell("no dashboard: pip install 'meshtls[dashboard]'", err=True)
            elif plan.dashboard:
                dashboard = f"http://{await opened.enter_async_context(shown.serving())}/"
                tell(f"dashboard: {dashboard}", err=True)
            if plan.json:
                sidecars = [address_record(one) for one in mesh.members]
                tell(_one_line({"event": "serving", "dashboard": dashboard, "sidecars": sidecars}))
            else:
                tell(*address_table(mesh.members), err=True)
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(_follow_rotations(member, journal)) for member in mesh.members]
                seconds = plan.call_every.total_seconds()
                work += [tasks.create_task(_keep_calling(caller, seconds, mesh)) for caller, _ in mesh.calls]
                if live:
                    work.append(tasks.create_task(_keep_drawing(mesh, journal, console)))
                await stopped.wait()
                for task in work:
                    task.cancel()
            tell("draining", err=True)
            await asyncio.gather(*(member.sidecar.drain() for member in mesh.members))
    tell("stopped", err=True)
    return 0


async def _follow_rotations(member: Member, journal: Journal) -> None:
    generation = member.source.snapshot().generation
    while True:
        context = await member.source.changed(generation)
        generation = context.generation
        journal.rotated(context.svid)


async def _keep_calling(caller: Member, seconds: float, mesh: LocalMesh) -> None:
    while caller.app:
        try:
            await get(caller.app, "/call")
        except HttpError as error:
            tell(f"app {caller.name}: {error}", err=True)
        await mesh.clock.sleep(seconds)


async def _keep_drawing(mesh: LocalMesh, journal: Journal, console: Console) -> None:
    with Live(table_of(mesh, journal), console=console, auto_refresh=False) as live:
        while True:
            await mesh.clock.sleep(_REFRESH_SECONDS)
            live.update(table_of(mesh, journal), refresh=True)


def table_of(mesh: LocalMesh, journal: Journal) -> Group:
    """The current state of the mesh: its identities and its last refusals."""
    identities = _table(str(mesh.authority.trust_domain.id))
    for name in ("sidecar", "identity", "serial"):
        identities.add_column(name, overflow="fold")
    for name in ("left", "rotated", "open", "served", "refused"):
        identities.add_column(name, justify="right")
    for member in mesh.members:
        status = member.source.status
        try:
            serial = member.source.snapshot().svid.serial[:8]
        except LocalIdentityError:
            serial = "expired"
        identities.add_row(
            member.name,
            status.spiffe_id.path,
            serial,
            duration((status.not_after - mesh.clock.now()).total_seconds()),
            str(status.generation - 1),
            str(len(member.sidecar.registry)),
            str(journal.connections(member.name, allowed=True)),
            str(journal.connections(member.name, allowed=False)),
        )
    refusals = _table("last refusals")
    for name in ("time", "sidecar", "outcome", "why"):
        refusals.add_column(name, overflow="fold")
    for result in journal.refusals:
        refusals.add_row(f"{result.started:%H:%M:%S}", result.sidecar, result.outcome.name, printable(result.detail))
    hint = Text("\nCtrl-C drains and stops.", style="dim")
    return Group(identities, refusals if journal.refusals else Text("no refusals yet"), hint)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
