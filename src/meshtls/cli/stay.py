"""The mesh that stays up: its apps call each other, and a person or a program watches, until a signal drains it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.live import Live

from meshtls.cli.http import HttpError, get
from meshtls.cli.journal import Journal, Tell, json_lines, text_lines
from meshtls.cli.live import picture
from meshtls.cli.local_mesh import LocalMesh, Member, local_mesh
from meshtls.cli.output import Terminal, tell
from meshtls.cli.publish import publish_bundle
from meshtls.cli.signals import GRACE, stop_signal
from meshtls.sidecar.settings import SidecarConfig

__all__ = ["Plan", "stay"]

_REFRESH_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """The command line, read. ``call_every`` is how often each app calls the one it knows."""

    sidecars: Sequence[SidecarConfig]
    svid_ttl: timedelta
    data_dir: Path | None
    certs: Path
    call_every: timedelta
    json: bool


async def stay(plan: Plan) -> int:
    """Run until SIGTERM or SIGINT, then drain; the exit code."""
    console = Terminal(highlight=False)
    watched = console.is_terminal and not plan.json
    journal = Journal(_tell(plan, watched))
    drained = max((config.limits.drain for config in plan.sidecars), default=0.0)
    with stop_signal(drained + GRACE) as stopped:
        async with local_mesh(plan.sidecars, plan.svid_ttl, plan.data_dir, journal.connection) as mesh:
            publish_bundle(plan.certs, mesh.authority.bundle)
            _say(f"serving {', '.join(member.name for member in mesh.members)}")
            async with asyncio.TaskGroup() as tasks:
                work = [tasks.create_task(one) for one in _work(plan, mesh, journal, console if watched else None)]
                await stopped.wait()
                for task in work:
                    task.cancel()
            _say("draining")
            await asyncio.gather(*(member.sidecar.drain() for member in mesh.members))
    _say("stopped")
    return 0


def _tell(plan: Plan, watched: bool) -> Tell:
    if watched:
        return lambda event: None  # the table shows it
    return (json_lines if plan.json else text_lines)(tell)


def _say(text: str) -> None:
    tell(text, err=True)


def _work(
    plan: Plan, mesh: LocalMesh, journal: Journal, console: Console | None
) -> Iterator[Coroutine[None, None, None]]:
    for member in mesh.members:
        yield _watch_rotations(member, journal)
    for caller, _ in mesh.calls:
        yield _keep_calling(caller, plan.call_every.total_seconds(), mesh)
    if console:
        yield _keep_drawing(mesh, journal, console)


async def _watch_rotations(member: Member, journal: Journal) -> None:
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
            _say(f"app {caller.name}: {error}")
        await mesh.clock.sleep(seconds)


async def _keep_drawing(mesh: LocalMesh, journal: Journal, console: Console) -> None:
    with Live(picture(mesh, journal), console=console, auto_refresh=False) as live:
        while True:
            await mesh.clock.sleep(_REFRESH_SECONDS)
            live.update(picture(mesh, journal), refresh=True)
