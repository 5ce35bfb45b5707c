"""Records what the servers issue: in the record of issuances and as leaves of the transparency log, together.

``record`` is part of the caller's transaction. ``commit`` shares one transaction, and so one flush to disk, among all
calls that wait for the one before.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from cryptography import x509
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.ca.tlog.leaf import Leaf, LeafKind
from meshtls.errors import MeshtlsError
from meshtls.observe.audit import AuditRecord
from meshtls.registration import Issuance
from meshtls.server.audit import AuditTrail
from meshtls.server.signing import Signed, SignedJwt
from meshtls.server.store import bundles, issuances
from meshtls.server.store.database import Database, run_steps
from meshtls.server.transparency import TransparencyLog
from meshtls.svid.x509 import fingerprint_of, format_serial

__all__ = ["Ledger"]

#: Calls that share a transaction: as many as do not keep other writers waiting.
_MOST_CALLS = 256
#: SVIDs that one audit record lists.
_MOST_SVIDS = 32

Recorded = Signed | SignedJwt
_Act = tuple[AuditRecord, Sequence[Recorded]]


@dataclass(slots=True, eq=False)
class _Waiting:
    act: AuditRecord
    issued: Sequence[Recorded]
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Ledger:
    """The ledger of one server. Each SVID is durable in it before it leaves the server.

    ``on_issued`` is a hook for metrics, called with the kind of each thing that is durable: x509, jwt or ca.
    """

    def __init__(self, database: Database, log: TransparencyLog, trail: AuditTrail) -> None:
        self._database = database
        self._log = log
        self.trail = trail
        self.on_issued: Callable[[str], None] = _unobserved
        self._waiting: list[_Waiting] = []
        self._writing = asyncio.Lock()
        self._intermediates: set[str] = set()

    async def commit(self, act: AuditRecord, issued: Sequence[Recorded]) -> None:
        """Record these, all or none, with the act that issued them; they are durable at the end.

        Raises ConfigError, StoreError.
        """
        mine = _Waiting(act, issued)
        self._waiting.append(mine)
        try:
            async with self._writing:
                # The holder of the lock writes for those behind it, which then have nothing left to do.
                while not mine.done.done():
                    await self._write(self._waiting[:_MOST_CALLS])
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
            mine.done.cancel()  # where this call was cancelled or failed: nothing else would end it, and settle waits
        mine.done.result()

    async def settle(self) -> None:
        """Wait until everything that ``commit`` was called with before this is recorded, or has failed."""
        pending = [one.done for one in self._waiting]
        if pending:
            await asyncio.wait(pending)

    def committed(self, issued: Sequence[Recorded]) -> None:
        """The transaction in which ``record`` recorded these is committed."""
        for one in issued:
            self.on_issued(one.record.kind)

    async def record(self, tx: AsyncConnection, acts: Sequence[_Act]) -> None:
        """Record each act with what it issued, in this transaction, which should do nothing else afterwards.

        Call ``committed`` after its commit.
        """
        issued = [one for _, several in acts for one in several]
        # By serial, since one transaction may have the same token or intermediate twice.
        pairs = {row.serial: (leaf, row) for one in issued for leaf, row in await self._unknown(tx, one)}
        if not pairs:
            await self.trail.append(tx, _audit_records(acts, {}))
            return
        leaves, rows = [bytes(leaf) for leaf, _ in pairs.values()], [row for _, row in pairs.values()]
        if not await self._append(tx, leaves, rows, acts):
            await self._log.catch_up(tx)
            await self._append(tx, leaves, rows, acts)

    async def _append(
        self, tx: AsyncConnection, leaves: Sequence[bytes], rows: Sequence[Issuance], acts: Sequence[_Act]
    ) -> bool:
        """Append to the log, the record and the trail at once; False, and no change, if the log has another tree."""
        appending = self._log.plan(leaves)
        numbered = [replace(row, log_index=appending.first + at) for at, row in enumerate(rows)]
        told = [self._new_ca(row) for row in numbered if row.kind == "ca" and row.entry_id is None]
        told += _audit_records(acts, {row.serial: row.log_index for row in numbered})
        head, lines = self.trail.plan(told)
        before = [*appending.steps, issuances.record_step(numbered)]
        done = await run_steps(tx, [*before, *lines])
        if done == 0:
            return False
        self._log.appended(appending)
        if done == len(before):
            await self.trail.append(tx, told)
        else:
            self.trail.appended(head)
        return True

    def _new_ca(self, row: Issuance) -> AuditRecord:
        """The first SVID below an intermediate of this server is recorded, and so is that it signs now."""
        after = {"serial": row.serial, "not_after": int(row.not_after.timestamp()), "log_index": row.log_index}
        return self.trail.record(None, "sign with new CA", row.spiffe_id, after=after)

    async def record_authorities(self, tx: AsyncConnection, server_id: str, trust_domain: str) -> None:
        """Append the authorities that this server has published and that are not in the log yet."""
        new = await bundles.unlogged(tx, server_id)
        if new:
            leaves = [_authority_leaf(one, server_id, trust_domain) for one in new]
            first = await self._log.append(tx, list(map(bytes, leaves)))
            await bundles.note_logged(tx, [(one, first + at) for at, one in enumerate(new)])
            acts = [self.trail.record(None, "publish authority", f"{one.kind} {one.name}") for one in new]
            await self.trail.append(tx, acts)

    async def _write(self, batch: Sequence[_Waiting]) -> None:
        try:
            async with self._database.write() as tx:
                await self.record(tx, [(waiting.act, waiting.issued) for waiting in batch])
        except MeshtlsError as error:
            if len(batch) > 1:
                # Perhaps the fault of one call only, which must not be that of the others.
                for waiting in batch:
                    await self._write([waiting])
                return
            self._end(batch, error)
            return
        self._end(batch, None)

    def _end(self, batch: Sequence[_Waiting], error: MeshtlsError | None) -> None:
        for waiting in batch:
            if error is None:
                self.committed(waiting.issued)
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            if waiting.done.done():
                continue
            if error is None:
                waiting.done.set_result(None)
            else:
                waiting.done.set_exception(error)

    async def _unknown(self, tx: AsyncConnection, one: Recorded) -> list[tuple[Leaf, Issuance]]:
        """The leaves and rows for an SVID: two where its intermediate is new, none for a token that is known.

        RSA signs equal claims to equal tokens, so two requests may give one token.
        """
        if isinstance(one, SignedJwt):
            if await issuances.is_recorded(tx, one.record.serial):
                return []
            digest = hashlib.sha256(one.svid.token.encode()).hexdigest()
            return [(_leaf(LeafKind.JWT_SVID, one.record, digest), one.record)]
        leaf, *above = one.chain
        if one.record.kind == "ca":  # perhaps signed by the root, which is in no chain
            return [(_leaf(LeafKind.X509_INTERMEDIATE, one.record, fingerprint_of(leaf)), one.record)]
        issuer = above[0]
        found = [(_leaf(LeafKind.X509_SVID, one.record, fingerprint_of(leaf), fingerprint_of(issuer)), one.record)]
        serial = format_serial(issuer)
        if serial not in self._intermediates:
            if await issuances.is_recorded(tx, serial):
                self._intermediates.add(serial)
            else:
                found.insert(0, _intermediate(issuer, serial, one.record))
        return found


def _unobserved(kind: str) -> None:
    return None


def _audit_records(acts: Sequence[_Act], indexes: Mapping[str, int | None]) -> list[AuditRecord]:
    """The acts that issued something, with what they issued. ``indexes`` are the leaves by serial."""
    return [msgspec.structs.replace(act, after=_summary(issued, indexes)) for act, issued in acts if issued]


def _summary(issued: Sequence[Recorded], indexes: Mapping[str, int | None]) -> Mapping[str, Any]:
    """What an act issued: the first of many in full, all by their number. All are in the transparency log."""
    rows: list[dict[str, Any]] = [
        {
            "kind": one.record.kind,
            "spiffe_id": str(one.record.spiffe_id),
            "serial": one.record.serial,
            "log_index": indexes.get(one.record.serial),
            "entry_id": one.record.entry_id,
        }
        for one in issued[:_MOST_SVIDS]
    ]
    return {
        "count": len(issued),
        "svids": [{name: value for name, value in row.items() if value is not None} for row in rows],
    }


def _leaf(kind: LeafKind, row: Issuance, digest: str, issuer: str = "") -> Leaf:
    return Leaf(
        kind=kind,
        spiffe_id=str(row.spiffe_id),
        serial=row.serial,
        digest=digest,
        server_id=row.server_id,
        not_before=int(row.not_before.timestamp()),
        not_after=int(row.not_after.timestamp()),
        issuer=issuer,
        agent_id=str(row.agent_id or ""),
        entry_id=row.entry_id or "",
    )


def _intermediate(issuer: x509.Certificate, serial: str, first: Issuance) -> tuple[Leaf, Issuance]:
    row = Issuance(
        kind="ca",
        serial=serial,
        spiffe_id=first.spiffe_id.trust_domain.id,
        server_id=first.server_id,
        issued_at=first.issued_at,
        not_before=issuer.not_valid_before_utc,
        not_after=issuer.not_valid_after_utc,
    )
    return _leaf(LeafKind.X509_INTERMEDIATE, row, fingerprint_of(issuer)), row


def _authority_leaf(one: bundles.Published, server_id: str, trust_domain: str) -> Leaf:
    return Leaf(
        kind=LeafKind.X509_AUTHORITY if one.kind == "x509" else LeafKind.JWT_AUTHORITY,
        spiffe_id=trust_domain,
        serial=one.name,
        digest=hashlib.sha256(one.der).hexdigest(),
        server_id=server_id,
        not_after=int(one.expires_at.timestamp()),
    )
