"""CRL files of other trust domains' CAs, read again when they change, and judged beside the CRLs of the Workload API.

A trust domain that has a section here needs a fresh CRL for each issuer of its peers: with a file that is missing,
stale or invalid its peers are refused. A file that becomes unreadable leaves the CRLs that it had, until these are
stale.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec

from meshtls.clock import Clock, first_of
from meshtls.config.keys import FLAG, PATH, TRUST_DOMAIN, Key
from meshtls.errors import LocalIdentityError
from meshtls.logs import logger
from meshtls.observe.readiness import Readiness, readiness_from
from meshtls.reloading import FileWatch, is_irregular
from meshtls.revocation.crl import Crl, CrlError, parse_crls
from meshtls.revocation.lists import CrlLists, CrlRule
from meshtls.sidecar.off_loop import off_loop
from meshtls.spiffeid import TrustDomain
from meshtls.svid.context import WithdrawableSource, X509Context, X509ContextSource

__all__ = ["CrlFiles", "CrlKeys", "JudgedByFiles"]

#: Seconds between two looks at the files. Two looks in a row have to see the same: a change is live within a second.
_INTERVAL = 0.3

log = logger("meshtls.sidecar")


class CrlKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The CRLs of one trust domain's CAs."""

    trust_domain: Annotated[TrustDomain, Key("Whose peers these CRLs are for.", TRUST_DOMAIN)]
    files: Annotated[
        tuple[Path, ...],
        Key("Files with CRLs, in PEM or DER, relative to this file's directory. They are watched.", PATH),
    ]
    leaves_only: Annotated[
        bool, Key("A CRL is needed of the issuer of the peer's own certificate only, not of the CAs above it.", FLAG)
    ] = False
    accept_peers_without_a_fresh_crl: Annotated[
        bool,
        Key(
            "Peers are accepted though a CRL is missing or stale: a revoked one may be among them. What the newest CRL"
            " lists is refused all the same.",
            FLAG,
        ),
    ] = False


class CrlFiles:
    """The rules of a sidecar's file, with what the files have now. ``changed`` is set at each change of ``rules``, and
    replaced by a new event; ``generation`` counts these changes.
    """

    def __init__(self, keys: Sequence[CrlKeys], clock: Clock) -> None:
        self.changed = asyncio.Event()
        self.generation = 0
        self._keys = tuple(keys)
        self._clock = clock
        self._kept: dict[Path, tuple[Crl, ...]] = {}
        self._watch = FileWatch([file for one in self._keys for file in one.files], clock)
        self.rules = self._read()

    async def follow(self) -> None:
        """Read the files again when one has changed, forever."""
        while True:
            await self._clock.sleep(_INTERVAL)
            if not self._watch.changed():
                continue
            rules = await off_loop(self._read, "meshtls CRLs")
            if rules != self.rules:
                self.rules = rules
                self.generation += 1
                changed, self.changed = self.changed, asyncio.Event()
                changed.set()
                log.info("CRLs read again: %s", self._watch)

    def _read(self) -> dict[TrustDomain, CrlRule]:
        return {
            one.trust_domain: CrlRule(
                tuple(crl for file in one.files for crl in self._crls(file)),
                accept_peers_without_a_fresh_crl=one.accept_peers_without_a_fresh_crl,
                leaves_only=one.leaves_only,
            )
            for one in self._keys
        }

    def _crls(self, file: Path) -> tuple[Crl, ...]:
        try:
            self._kept[file] = _read(file)
        except (OSError, CrlError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            left = "the CRLs that it had before stay in use" if file in self._kept else "its peers are refused"
            log.error("CRL file %s can't be used: %s; %s", file, why, left)  # noqa: TRY400  # the message says it all
        return self._kept.get(file, ())


def _read(file: Path) -> tuple[Crl, ...]:
    """Raises OSError and CrlError."""
    if is_irregular(file):
        raise CrlError("wanted a regular file, since it is read again")
    return parse_crls(file.read_bytes())


class JudgedByFiles:
    """A source whose contexts are judged by CRL files as well. Implements WithdrawableSource and ReportsReadiness."""

    def __init__(self, source: X509ContextSource, files: CrlFiles, clock: Clock) -> None:
        self._source = source
        self._files = files
        self._clock = clock

    def snapshot(self) -> X509Context:
        """Raises LocalIdentityError."""
        return _judged(self._source.snapshot(), self._files)

    async def withdrawn(self) -> LocalIdentityError:
        """As the source's own; never of a source whose identity is not withdrawn."""
        if isinstance(self._source, WithdrawableSource):
            return await self._source.withdrawn()
        never: asyncio.Future[LocalIdentityError] = asyncio.get_running_loop().create_future()
        return await never

    async def changed(self, after_generation: int | None = None) -> X509Context:
        """As the source's own, and for each change of the files. Raises LocalIdentityError."""
        after = self._generation() if after_generation is None else after_generation
        while True:
            files_changed = self._files.changed
            try:
                context = self._source.snapshot()
            except LocalIdentityError:
                present = None
            else:
                present = context.generation
                if context.generation + self._files.generation > after:
                    return _judged(context, self._files)
            if isinstance(self._source, WithdrawableSource):
                await first_of(self._source.changed(present), files_changed.wait())
            else:
                await files_changed.wait()

    def readiness(self) -> Readiness:
        return readiness_from(self._source, self._clock.now())

    def _generation(self) -> int:
        try:
            return self.snapshot().generation
        except LocalIdentityError:
            return -1

    def __repr__(self) -> str:
        return f"<JudgedByFiles {self._source!r}>"


def _judged(context: X509Context, files: CrlFiles) -> X509Context:
    lists = context.revocations.lists
    given = lists if isinstance(lists, CrlLists) else CrlLists()
    revocations = replace(context.revocations, lists=replace(given, rules=files.rules))
    return replace(context, generation=context.generation + files.generation, revocations=revocations)
