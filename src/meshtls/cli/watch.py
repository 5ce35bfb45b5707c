"""``meshtls watch``: follow the X509-SVIDs of this process, for a program that does not support SPIFFE."""

from __future__ import annotations

import asyncio
import logging
import shlex
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from meshtls.cli.options import choice_options, log_to_stderr, output_option, workload_address, workload_option
from meshtls.cli.output import Output
from meshtls.cli.records import moment, x509_record
from meshtls.cli.serving import run_until_stopped
from meshtls.cli.svid_files import (
    BUNDLE,
    KEY,
    SVID,
    Choice,
    contents,
    is_permanent,
    pinned,
    remove_keys,
    write_files,
)
from meshtls.cli.telling import MOST_PID, RunProgram, SendSignal, Teller, Telling
from meshtls.errors import ConfigError, IdentityWithdrawnError, LocalIdentityError
from meshtls.logs import logger
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.workload.address import Address
from meshtls.workload.background import in_background
from meshtls.workload.x509_source import X509Source

__all__ = ["Watch", "watch"]


log = logger("meshtls.watch")


@click.command()
@click.option(
    "--write",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep svid.pem, key.pem and bundle.pem in this directory up to date.",
)
@click.option(
    "--all", "every", is_flag=True, help="With --write: also write each SVID to files named after its identity."
)
@choice_options
@click.option(
    "--exec",
    "program",
    metavar="CMD",
    help="Run this command at each new SVID, without a shell; MESHTLS_* variables describe the SVID.",
)
@click.option("--signal", "signal_name", metavar="SIG", help="Send this signal at each new SVID, such as HUP.")
@click.option("--pid", type=click.IntRange(1, MOST_PID), help="With --signal: the process to signal.")
@click.option(
    "--pid-file",
    type=click.Path(path_type=Path),
    help="With --signal: signal the process whose number is in this file; retried until that process runs.",
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
    """Print each new X509-SVID of this process, the current one first, until SIGTERM or SIGINT.

    A command that fails is logged, and run again at the next SVID. While it runs, the files are kept up to date; then
    it is run for the newest SVID. A failure to write the files is logged and retried, except a permanent one (such as
    missing permission) before the first success.

    The identity stays the same: that of --spiffe-id or --hint, else that of the files in the directory, else the
    default one at the start. While the Workload API does not offer it, nothing is written and no command is run. If the
    Workload API withdraws it (the entry was deleted), its key is removed from the directory until it is issued again.
    """
    if every and write is None:
        raise click.UsageError("--all goes with --write")
    tellers: list[Teller] = []
    if program is not None:
        try:
            words = shlex.split(program)
        except ValueError as error:
            raise click.BadParameter(f"{program!r}: {error}", param_hint="--exec") from error
        if not words:
            raise click.BadParameter("wanted a program with its arguments, got nothing", param_hint="--exec")
        tellers.append(RunProgram(words))
    process = pid if pid is not None else pid_file
    if (signal_name is None) != (process is None) or (pid is not None and pid_file is not None):
        raise click.UsageError("wanted --signal together with one of --pid and --pid-file")
    if signal_name is not None and process is not None:
        try:
            number = signal.Signals["SIG" + signal_name.upper().removeprefix("SIG")]
        except KeyError as error:
            wanted = f"wanted a signal such as HUP or USR1, got {signal_name!r}"
            raise click.BadParameter(wanted, param_hint="--signal") from error
        tellers.append(SendSignal(number, process))
    log_to_stderr(logging.WARNING)
    watching = Watch(
        workload_address(workload_socket), write, tellers, out, choice=Choice(spiffe_id, hint), every=every
    )
    asyncio.run(run_until_stopped(watching.follow(), "watch"))


@dataclass(slots=True)
class Watch:
    """Prints each SVID, keeps the files up to date, and notifies the programs.

    - ``directory``: where to write the files; None writes none.
    - ``pauses``: seconds before the first retry of a failed write, doubled up to the second number.
    - ``choice``: which SVID; after the first SVID, its identity.
    - ``every``: also write each SVID to files named after its identity.
    """

    address: Address
    directory: Path | None
    tellers: Sequence[Teller]
    out: Output
    pauses: tuple[float, float] = (1.0, 60.0)
    choice: Choice = field(default_factory=Choice)
    every: bool = False
    _ever_written: bool = field(default=False, init=False)

    async def follow(self) -> None:
        """Run until cancelled.

        Raises ConfigError if the files can't be written for a permanent reason before the first success, and
        LocalIdentityError if no SVID will ever be offered.
        """
        telling = Telling(self.tellers)
        if self.directory:
            self.choice = pinned(self.directory, self.choice)
        async with (
            X509Source(self.address, timeout=None) as source,
            in_background(telling.run(), "tell"),
            in_background(self._follow_withdrawals(source), "follow withdrawals"),
        ):
            generation = 0
            while True:
                newest = await source.changed(generation)
                generation = newest.generation
                try:
                    context = self.choice.of(newest)
                except LocalIdentityError as error:
                    self._withdrawn(f"{error}; nothing is written until then")
                    continue
                # Without a hint the choice is the identity: a later default SVID may be of another identity.
                self.choice = self.choice or Choice(context.svid.spiffe_id)
                context, paths = await self._written(source, context)
                generation = context.generation
                svid = context.svid
                record = {"event": "svid", **x509_record(svid), "files": [str(path) for path in paths]}
                self.out.event(record, f"{svid.spiffe_id}: SVID {svid.serial} until {moment(svid.not_after)}")
                environment = {
                    "MESHTLS_SPIFFE_ID": str(svid.spiffe_id),
                    "MESHTLS_SVID_SERIAL": svid.serial,
                    "MESHTLS_SVID_EXPIRES_AT": moment(svid.not_after),
                }
                if self.directory:
                    for variable, name in (("SVID", SVID), ("KEY", KEY), ("BUNDLE", BUNDLE)):
                        environment[f"MESHTLS_{variable}_FILE"] = str((self.directory / name).absolute())
                telling.news(environment)

    async def _written(self, source: X509Source, context: X509Context) -> tuple[X509Context, tuple[Path, ...]]:
        """Write the files of the newest context, retrying until that succeeds. Returns the context and the paths."""
        pause, longest = self.pauses
        while True:
            try:
                source.snapshot()
            except IdentityWithdrawnError:
                context = self._still(await source.changed(context.generation), context)
            except LocalIdentityError:
                pass  # expired: readers of the file can see that
            try:
                paths = write_files(self.directory, contents(context, every=self.every)) if self.directory else ()
            except ConfigError as error:
                if not self._ever_written and is_permanent(error):
                    raise
                log.error("%s; next try in %g s, or at the next SVID", error, pause)  # noqa: TRY400  # it says it all
            else:
                self._ever_written = True
                return context, paths
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    context = self._still(await source.changed(context.generation), context)
            pause = min(2 * pause, longest)

    def _still(self, newer: X509Context, context: X509Context) -> X509Context:
        """The newer context if it has the chosen identity, else the older."""
        try:
            return self.choice.of(newer)
        except LocalIdentityError:
            return context

    async def _follow_withdrawals(self, source: X509Source) -> None:
        with suppress(LocalIdentityError):  # the source has ended, which ``follow`` itself reports
            while True:
                self._withdrawn(str(await source.withdrawn()))
                await source.changed()

    def _withdrawn(self, why: str) -> None:
        """The identity must not be used any more: remove its key, so that no program loads it."""
        log.error("%s", why)
        if not self._ever_written:
            return  # the files in the directory may not be ours
        self.out.event({"event": "withdrawn", "reason": why}, f"withdrawn: {why}")
        if self.directory:
            try:
                remove_keys(self.directory)
            except ConfigError as error:
                log.error("%s", error)  # noqa: TRY400  # it says it all
