"""``meshtls sidecar``: run one, look at its file, ask one that runs."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

import click

from meshtls.cli.health import readiness_at, tell_health
from meshtls.cli.options import config_option, log_to_stderr, output_option
from meshtls.cli.output import Output, tell
from meshtls.cli.sidecar_record import config_does, config_record, serving_record
from meshtls.cli.sidecar_source import source_of
from meshtls.cli.signals import GRACE, end_within
from meshtls.cli.summary import summary
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.observe.access_log import AccessLog, LineStream
from meshtls.sidecar.config import load_config, with_workers
from meshtls.sidecar.descriptors import make_room, sockets_beside_connections
from meshtls.sidecar.loop import run as run_on_own_loop
from meshtls.sidecar.run import run_until_signal
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import MOST_WORKERS, SidecarConfig
from meshtls.sidecar.whole_lines import WholeLines
from meshtls.sidecar.workers import Workers

__all__ = ["sidecar"]

log = logger("meshtls.sidecar")


@click.group()
def sidecar() -> None:
    """One sidecar: plaintext to its app, mutual TLS to its peers."""


@sidecar.command()
@config_option
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), help="Processes that serve; 1, or what the file says.")
@output_option
def run(config: Path, workers: int | None, out: Output) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Access log on standard output, logs on standard error.

    With --output json a line on standard output, too, says that it serves: the one with an "event".
    """
    loaded = with_workers(load_config(config), workers)
    log_to_stderr(logging.getLevelNamesMapping()[loaded.log_level])
    for notice in loaded.notices:
        log.warning("%s", notice)
    make_room(loaded.limits.connections, sockets_beside_connections(loaded))
    if loaded.workers == 1:
        run_on_own_loop(_run(loaded, sys.stdout, out))
        return
    with WholeLines(sys.stdout) as lines:
        status = Workers(loaded.workers, lambda parent: run_on_own_loop(_run(loaded, lines, out, parent))).run()
    sys.exit(status)


@sidecar.command()
@config_option
@output_option
def validate(config: Path, out: Output) -> None:
    """Read the file, and say what it makes or all that is wrong with it."""
    loaded = load_config(config)
    makes = f"sidecar {loaded.name} is {loaded.spiffe_id}"
    out.record(config_record(loaded), summary(config, makes, tuple(config_does(loaded)), loaded.notices))


@sidecar.command()
@config_option
@output_option
def healthcheck(config: Path, out: Output) -> int:
    """Ask the sidecar of this file whether it is ready."""
    loaded = load_config(config)
    if loaded.health is None:
        raise ConfigError(f"{config}: health: wanted the address that the sidecar answers probes on; it is missing")
    return tell_health(out, asyncio.run(readiness_at(loaded.health, "/ready")))


async def _run(config: SidecarConfig, lines: LineStream, out: Output, parent: int | None = None) -> None:
    def tell_serving() -> None:
        if out.as_json:
            # By the access log's own stream: several workers write whole lines to it.
            lines.write(json.dumps(serving_record(running)) + "\n")
            lines.flush()
        else:
            tell(f"serving: {running!r}", err=True)

    async with (
        source_of(config) as source,
        Sidecar(config, source, on_result=AccessLog(lines)) as running,
    ):
        drained = config.limits.drain + GRACE
        await run_until_signal(running, parent, tell_serving, lambda number: end_within(drained, number))
