"""What ``meshtls watch`` does: print each X509-SVID, keep the files up to date, and let the programs be told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from meshtls.cli.output import Output
from meshtls.cli.records import moment, x509_record
from meshtls.cli.svid_files import (
    BUNDLE,
    KEY,
    SVID,
    Choice,
    contents,
    only_mended_by_hand,
    pinned,
    remove_keys,
    write_files,
)
from meshtls.cli.telling import Teller, Telling
from meshtls.errors import ConfigError, IdentityWithdrawnError, LocalIdentityError
from meshtls.logs import logger
from meshtls.svid.context import X509Context
from meshtls.workload.address import Address
from meshtls.workload.background import in_background
from meshtls.workload.x509_source import X509Source

__all__ = ["Watch"]

log = logger("meshtls.watch")


@dataclass(slots=True)
class Watch:
    """The command line, read. ``pauses`` are the seconds before the first and, doubled each time, at most before every
    further try to write what could not be written.
    """

    address: Address
    directory: Path | None
    tellers: Sequence[Teller]
    out: Output
    pauses: tuple[float, float] = (1.0, 60.0)
    #: Which SVID; from the first one on, that one's identity.
    choice: Choice = field(default_factory=Choice)
    every: bool = False
    _ever_written: bool = field(default=False, init=False)

    async def follow(self) -> None:
        """For ever.

        Raises ConfigError where files can't be written, none ever were and it is for people to mend, and
        LocalIdentityError where no SVID will come.
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
                    self._withdrawn(f"{error}; nothing is written until it does")
                    continue
                # An SVID without a hint to go by is its identity's: another default is another identity.
                self.choice = self.choice or Choice(context.svid.spiffe_id)
                context, paths = await self._written(source, context)
                generation = context.generation
                self._print(context, paths)
                telling.news(self._environment(context))

    async def _written(self, source: X509Source, context: X509Context) -> tuple[X509Context, tuple[Path, ...]]:
        """The newest context at the time when its files could be written, and these."""
        pause, longest = self.pauses
        while True:
            try:
                source.snapshot()
            except IdentityWithdrawnError:
                context = self._still(await source.changed(context.generation), context)
            except LocalIdentityError:
                pass  # it has expired: who reads the files sees that
            try:
                paths = write_files(self.directory, contents(context, every=self.every)) if self.directory else ()
            except ConfigError as error:
                if not self._ever_written and only_mended_by_hand(error):
                    raise
                log.error("%s; next try in %g s, or at the next SVID", error, pause)  # noqa: TRY400  # it says it all
            else:
                self._ever_written = True
                return context, paths
            context = self._still(await _newer(source, context, pause), context)
            pause = min(2 * pause, longest)

    def _still(self, newer: X509Context, context: X509Context) -> X509Context:
        """The newer one where it has our identity."""
        try:
            return self.choice.of(newer)
        except LocalIdentityError:
            return context

    async def _follow_withdrawals(self, source: X509Source) -> None:
        with suppress(LocalIdentityError):  # nothing can come any more, which ``follow`` itself is told
            while True:
                self._withdrawn(str(await source.withdrawn()))
                await source.changed()

    def _withdrawn(self, why: str) -> None:
        """Nobody may use the identity any more. Its key does not stay on the disk, where a program would find it."""
        log.error("%s", why)
        if not self._ever_written:
            return  # what is in the directory may be somebody else's
        self.out.event({"event": "withdrawn", "reason": why}, f"withdrawn: {why}")
        if self.directory:
            try:
                remove_keys(self.directory)
            except ConfigError as error:
                log.error("%s", error)  # noqa: TRY400  # it says it all

    def _print(self, context: X509Context, paths: Sequence[Path]) -> None:
        svid = context.svid
        record = {"event": "svid", **x509_record(svid), "files": [str(path) for path in paths]}
        self.out.event(record, f"{svid.spiffe_id}: SVID {svid.serial} until {moment(svid.not_after)}")

    def _environment(self, context: X509Context) -> dict[str, str]:
        svid = context.svid
        told = {
            "MESHTLS_SPIFFE_ID": str(svid.spiffe_id),
            "MESHTLS_SVID_SERIAL": svid.serial,
            "MESHTLS_SVID_EXPIRES_AT": moment(svid.not_after),
        }
        if self.directory:
            for variable, name in (("SVID", SVID), ("KEY", KEY), ("BUNDLE", BUNDLE)):
                told[f"MESHTLS_{variable}_FILE"] = str((self.directory / name).absolute())
        return told


async def _newer(source: X509Source, context: X509Context, seconds: float) -> X509Context:
    """The next context, or after so many seconds the same one."""
    try:
        async with asyncio.timeout(seconds):
            return await source.changed(context.generation)
    except TimeoutError:
        return context
