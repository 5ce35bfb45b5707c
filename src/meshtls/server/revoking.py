"""Revokes what the servers issued, and signs the CRLs of this server's intermediates.

Each server signs for its own: it alone has the keys. So a revocation is a row that every server catches up with, and
the server that carries it out signs its own CRLs in the same transaction. Where it can't, as with keys in a token that
is gone, the revocation stands, nothing more is issued, and ``catch_up`` signs later.

An intermediate has a CRL only while something of its authority is revoked, and the CRL ends with it: agents are sent
each new one, so an old one says nothing new, and a server that is away must not have its SVIDs refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.ca.profile import BACKDATE, Signer
from meshtls.ca.subordinate import X509Authority
from meshtls.clock import Clock
from meshtls.errors import ConfigError
from meshtls.revocation.building import CrlEntry, build_crl, crl_issuer
from meshtls.revocation.crl import parse_crl
from meshtls.server.authority_keys import AuthorityKeys
from meshtls.server.hub import Hub
from meshtls.server.ledger import Ledger
from meshtls.server.store import revocations
from meshtls.server.store.changes import lock_writers
from meshtls.server.store.database import Database
from meshtls.server.store.revocations import StoredCrl
from meshtls.serverapi.values import RevokedSvid, Subject

__all__ = ["Revoking", "crl_number", "revocable"]


class Revoking:
    """The revocations of one server. ``keys`` are those of its authorities.

    ``unsigned`` is why it could not sign all its CRLs when it last tried, None if it could.
    """

    def __init__(
        self, database: Database, hub: Hub, server_id: str, keys: AuthorityKeys, ledger: Ledger, clock: Clock
    ) -> None:
        self._database = database
        self._hub = hub
        self._server_id = server_id
        self._keys = keys
        self._ledger = ledger
        self._clock = clock
        self.unsigned: ConfigError | None = None

    async def revoke(self, tx: AsyncConnection, subjects: Collection[Subject], reason: str) -> list[RevokedSvid]:
        """Revoke what is valid of these, and return it. This server's CRLs say so when ``tx`` is committed, unless they
        are ``unsigned``.
        """
        await revocations.note_revocation(tx, subjects)
        revoked = await revocations.revoke_issued(tx, subjects, reason, self._clock.now())
        await self.sign(tx)
        return revoked

    async def reinstate(self, tx: AsyncConnection, subject: Subject) -> list[RevokedSvid]:
        """Take what is on hold of this subject off the CRLs, and return it."""
        await revocations.note_revocation(tx, [subject])
        freed = await revocations.reinstate(tx, subject, self._clock.now())
        await self.sign(tx)
        return freed

    async def sign(self, tx: AsyncConnection) -> None:
        """Sign a CRL for each intermediate of this server whose list has changed, and remove those that have ended.

        A CRL that can't be signed stays as it is, and ``unsigned`` tells why.
        """
        now = self._clock.now()
        self.unsigned = None
        await lock_writers(tx)
        stored = {one.issuer: one for one in await revocations.read_crls(tx) if one.server_id == self._server_id}
        # A copy: a new authority may be made meanwhile, of which nothing is revoked yet.
        for authority_id, authority in list(self._keys.x509.items()):
            for kinds, signers in revocable(authority):
                entries = await revocations.revoked_certificates(tx, kinds, authority_id, self._server_id, now)
                for signer in signers if entries else ():
                    await self._sign(tx, signer, entries, stored.pop(crl_issuer(signer.certificate), None), now)
        for ended in stored.values():
            await revocations.drop_crl(tx, ended.issuer)

    async def catch_up(self, subjects: Sequence[Subject], *, at_start: bool = False) -> None:
        """Revoke what this server was just signing for these when they were revoked, and sign what is due; ``at_start``
        also what was revoked while this server was stopped.

        Raises ConfigError, StoreError.
        """
        # An SVID that was requested before the hub knew of the revocation is on record after this.
        await self._ledger.settle()
        async with self._database.read() as tx:
            if not (subjects or at_start or await self._is_due(tx)):
                return
        async with self._database.write() as tx:
            now = self._clock.now()
            for reason, several in (await revocations.standing(tx, subjects)).items():
                await revocations.revoke_issued(tx, several, reason, now, server_id=self._server_id)
            await self.sign(tx)
        await self._hub.written()
        if self.unsigned is not None:
            raise self.unsigned

    async def _is_due(self, tx: AsyncConnection) -> bool:
        """Whether a CRL of this server has ended, or nothing that it lists can be presented any more."""
        now = self._clock.now()
        mine = [one for one in await revocations.read_crls(tx) if one.server_id == self._server_id]
        if not mine:
            return False
        if any(one.ends_at <= now for one in mine):
            return True
        for authority_id in list(self._keys.x509):
            if await revocations.has_revoked(tx, authority_id, self._server_id, now):
                return False
        return True

    async def _sign(
        self, tx: AsyncConnection, signer: Signer, entries: Sequence[CrlEntry], stored: StoredCrl | None, now: datetime
    ) -> None:
        if stored is not None and parse_crl(stored.der).serials == {one.serial_number for one in entries}:
            return
        issuer, ends_at = crl_issuer(signer.certificate), signer.certificate.not_valid_after_utc
        number = max(crl_number(now), stored.number + 1 if stored else 0)
        try:
            der = build_crl(
                signer.certificate, signer.private_key, entries, number=number, now=now - BACKDATE, next_update=ends_at
            )
        except ConfigError as error:
            self.unsigned = error
            return
        await revocations.put_crl(tx, StoredCrl(issuer, self._server_id, number, der, ends_at))


def revocable(authority: X509Authority) -> list[tuple[tuple[str, ...], tuple[Signer, ...]]]:
    """The kinds of certificates on record that hang on this authority, with what signs the CRLs of each."""
    leaves, cas = authority.crl_signers, authority.ca_crl_signers
    return [(("x509", "ca"), leaves)] if leaves == cas else [(("x509",), leaves), (("ca",), cas)]


def crl_number(now: datetime) -> int:
    """The number of a CRL that is signed now: milliseconds since 1970, so it increases (RFC 5280, section 5.2.3)."""
    return int(now.timestamp() * 1000)
