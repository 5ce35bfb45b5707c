"""``meshtls sidecar``: run one, look at its file, ask one that runs."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

import click

from meshtls.cli.health import readiness_at, tell_health
from meshtls.cli.options import config_option, log_to_stderr, output_option
from meshtls.cli.output import Output, tell
from meshtls.cli.sidecar_record import config_does, config_record, serving_record
from meshtls.cli.sidecar_reload import ConfigFile, ConfigSource, SharedConfig, keep_reloading
from meshtls.cli.sidecar_source import source_of
from meshtls.cli.signals import GRACE, end_within
from meshtls.cli.summary import summary
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.observe.access_log import AccessLog, LineStream
from meshtls.reloading import hangup_signal
from meshtls.sidecar.config import load_config
from meshtls.sidecar.loop import run as run_on_own_loop
from meshtls.sidecar.run import run_until_signal
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import MOST_WORKERS
from meshtls.sidecar.whole_lines import WholeLines
from meshtls.sidecar.workers import Workers
from meshtls.workload.background import in_background

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

    At SIGHUP, and when the file changes, it is read again: listeners, allow lists and limits change without a restart,
    and what a restart needs is logged.

    With --output json a line on standard output, too, says that it serves: the one with an "event".
    """
    file = ConfigFile(config, workers)
    log_to_stderr(logging.getLevelNamesMapping()[file.running.log_level])
    for notice in file.running.notices:
        log.warning("%s", notice)
    if file.running.workers == 1:
        run_on_own_loop(_run(file, sys.stdout, out))
        return
    with WholeLines(sys.stdout) as lines, SharedConfig(file) as shared:

        def serve(parent: int) -> None:
            run_on_own_loop(_run(shared, lines, out, parent))

        status = Workers(file.running.workers, serve, shared.reread).run()
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


async def _run(config: ConfigSource, lines: LineStream, out: Output, parent: int | None = None) -> None:
    def tell_serving() -> None:
        if not out.as_json:
            tell(f"serving: {running!r}", err=True)
            return
        try:
            # By the access log's own stream: several workers write whole lines to it.
            lines.write(json.dumps(serving_record(running)) + "\n")
            lines.flush()
        except OSError as error:
            log.error("could not write that it serves to standard output: %s", error)  # noqa: TRY400  # says it all

    def on_stop(number: signal.Signals) -> None:
        end_within(running.config.limits.drain + GRACE, number)

    with hangup_signal() as hangup:
        loaded = config.load()
        async with (
            source_of(loaded) as source,
            Sidecar(loaded, source, on_result=AccessLog(lines)) as running,
            in_background(keep_reloading(running, config, hangup), "reload"),
        ):
            await run_until_signal(running, parent, tell_serving, on_stop)
