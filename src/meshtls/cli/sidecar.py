"""``meshtls sidecar``: run one, look at its file, ask one that runs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from meshtls.cli.http import HttpError, get
from meshtls.cli.options import config_option, log_to_stderr
from meshtls.cli.sidecar_source import source_of
from meshtls.errors import ConfigError
from meshtls.observe.access_log import AccessLog, LineStream
from meshtls.sidecar.address import Address
from meshtls.sidecar.config import SidecarConfig, load_config, with_workers
from meshtls.sidecar.descriptors import make_room
from meshtls.sidecar.loop import run as run_on_own_loop
from meshtls.sidecar.run import run_until_signal
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.whole_lines import WholeLines
from meshtls.sidecar.workers import Workers

__all__ = ["sidecar"]


@click.group()
def sidecar() -> None:
    """One sidecar: plaintext to its app, mutual TLS to its peers."""


@sidecar.command()
@config_option
@click.option("--workers", type=click.IntRange(min=1), help="Processes that serve; default: what the file says, or 1.")
def run(config: Path, workers: int | None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Access log on standard output, logs on standard error."""
    log_to_stderr()
    loaded = with_workers(load_config(config), workers)
    make_room(loaded.limits.connections)
    if loaded.workers == 1:
        run_on_own_loop(_run(loaded, sys.stdout))
        return
    with WholeLines(sys.stdout) as lines:
        status = Workers(loaded.workers, lambda parent: run_on_own_loop(_run(loaded, lines, parent))).run()
    sys.exit(status)


@sidecar.command()
@config_option
def validate(config: Path) -> None:
    """Read the file, and say what it configures or what is wrong with it."""
    loaded = load_config(config)
    click.echo(f"{config}: sidecar {loaded.name} is {loaded.spiffe_id}")
    for door in loaded.inbound:
        allowed = ", ".join(map(str, door.allow)) or "nobody"
        click.echo(f"  inbound {door.listen} ({door.mode.value}) to the app at {door.app}; allowed: {allowed}")
    for way in loaded.outbound:
        click.echo(f"  outbound {way.listen} to {way.to}, which must be {way.peer}")


@sidecar.command()
@config_option
def healthcheck(config: Path) -> None:
    """Ask the sidecar of this file whether it is ready."""
    loaded = load_config(config)
    if loaded.health is None:
        raise ConfigError(f"{config}: health: wanted the address that the sidecar answers probes on; it is missing")
    asyncio.run(_check(loaded.health))


async def _run(config: SidecarConfig, lines: LineStream, parent: int | None = None) -> None:
    async with (
        source_of(config) as source,
        Sidecar(config, source, on_result=AccessLog(lines)) as running,
    ):
        await run_until_signal(running, parent, lambda: click.echo(f"serving: {running!r}", err=True))


async def _check(health: Address) -> None:
    try:
        answer = await get(health, "/ready", 3.0)
    except HttpError as error:
        raise click.ClickException(f"not ready: {error}") from error
    if answer.status != 200:
        raise click.ClickException(f"not ready: {answer.body.decode('utf-8', 'replace').strip()}")
    click.echo("ready")
