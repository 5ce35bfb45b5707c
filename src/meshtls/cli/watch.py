"""``meshtls watch``: follow the X509-SVIDs of this process, and hand them to a program that does not speak SPIFFE."""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
from pathlib import Path

import click

from meshtls.cli.options import choice_options, log_to_stderr, output_option, workload_option
from meshtls.cli.output import Output
from meshtls.cli.signals import run_until_stopped
from meshtls.cli.svid_files import Choice
from meshtls.cli.telling import MOST_PID, RunProgram, SendSignal, Teller
from meshtls.cli.watching import Watch
from meshtls.cli.workload_socket import workload_address
from meshtls.spiffeid import SpiffeId

__all__ = ["watch"]


@click.command()
@click.option(
    "--write",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep svid.pem, key.pem and bundle.pem there up to date.",
)
@click.option("--all", "every", is_flag=True, help="With --write: each SVID also in files named after its identity.")
@choice_options
@click.option(
    "--exec", "program", metavar="CMD", help="Run this at each SVID, without a shell; MESHTLS_* say what is new."
)
@click.option("--signal", "signal_name", metavar="SIG", help="Send this at each SVID, such as HUP.")
@click.option("--pid", type=click.IntRange(1, MOST_PID), help="To this process.")
@click.option(
    "--pid-file",
    type=click.Path(path_type=Path),
    help="To the process that this file names at that time; tried again until it names one that runs.",
)
@workload_option
@output_option
def watch(
    out: Output,
    workload_socket: str | None,
    write: Path | None,
    every: bool,
    spiffe_id: SpiffeId | None,
    hint: str | None,
    program: str | None,
    signal_name: str | None,
    pid: int | None,
    pid_file: Path | None,
) -> None:
    """Print each new X509-SVID of this process as it comes, the present one first, until SIGTERM or SIGINT.

    A program that fails is logged, and told of the next one all the same; while it runs the files are kept up to date,
    and then it is told of the newest. Files that can't be written are logged and tried again, unless nothing was ever
    written there and only you can mend that (no permission, no directory).

    It stays with one identity: the one that --spiffe-id or --hint says, else that of the files in the directory, else
    the default one at the start. While the Workload API does not give it, nothing is written and no program is told.
    Where it takes the identity back (the entry was deleted), its key is removed from the directory until it is given
    again.
    """
    if every and write is None:
        raise click.UsageError("--all goes with --write")
    tellers = [*_program(program), *_signal(signal_name, pid, pid_file)]
    log_to_stderr(logging.WARNING)
    watching = Watch(
        workload_address(workload_socket), write, tellers, out, choice=Choice(spiffe_id, hint), every=every
    )
    asyncio.run(run_until_stopped(watching.follow(), "watch"))


def _program(command: str | None) -> list[Teller]:
    if command is None:
        return []
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise click.BadParameter(f"{command!r}: {error}", param_hint="--exec") from error
    if not words:
        raise click.BadParameter("wanted a program with its arguments, got nothing", param_hint="--exec")
    return [RunProgram(words)]


def _signal(name: str | None, pid: int | None, pid_file: Path | None) -> list[Teller]:
    process = pid if pid is not None else pid_file
    if (name is None) != (process is None) or (pid is not None and pid_file is not None):
        raise click.UsageError("wanted --signal together with one of --pid and --pid-file")
    if name is None or process is None:
        return []
    try:
        return [SendSignal(signal.Signals["SIG" + name.upper().removeprefix("SIG")], process)]
    except KeyError as error:
        raise click.BadParameter(f"wanted a signal such as HUP or USR1, got {name!r}", param_hint="--signal") from error
