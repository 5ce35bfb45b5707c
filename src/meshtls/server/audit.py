"""The audit trail of a server: a record of each act that changes or issues something, in the transaction of the act."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.bundle import TrustBundle
from meshtls.ca.authority_states import AuthorityState
from meshtls.clock import Clock
from meshtls.observe.audit import AuditHead, AuditRecord, bounded
from meshtls.registration import AgentRecord, Entry
from meshtls.server.access import Caller
from meshtls.server.store import audit
from meshtls.server.store.authorities import AuthorityRecord
from meshtls.server.store.database import Step, run_steps
from meshtls.svid.x509 import fingerprint_of

__all__ = ["AuditTrail", "agent_state", "authority_state", "bundle_state", "entry_state", "expiry_act"]


class AuditTrail:
    """Makes records, and appends them in the caller's transaction, as its last step: other writers wait for its end."""

    def __init__(self, server_id: str, clock: Clock) -> None:
        self._server_id = server_id
        self._clock = clock
        # The head after our last append, which may have been rolled back, or followed by another server's.
        self._expected = AuditHead()

    def record(
        self,
        caller: Caller | None,
        act: str,
        subject: object = "",
        *,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        credential: str = "",
    ) -> AuditRecord:
        """The record of an act now; None as caller is the server itself. ``credential`` replaces the caller's."""
        return AuditRecord(
            at=int(self._clock.now().timestamp()),
            act=act,
            role=caller.role.value if caller else "the server itself",
            name=caller.name if caller else self._server_id,
            server_id=self._server_id,
            credential=credential or (caller.credential if caller else ""),
            subject=str(subject),
            before=None if before is None else bounded(before),
            after=None if after is None else bounded(after),
        )

    async def append(self, tx: AsyncConnection, records: Sequence[AuditRecord]) -> None:
        """Raises StoreError."""
        if records:
            head, steps = self.plan(records)
            if not await run_steps(tx, steps):
                self._expected = await audit.read_head(tx)
                head, steps = self.plan(records)
                await run_steps(tx, steps)
            self.appended(head)

    def plan(self, records: Sequence[AuditRecord]) -> tuple[AuditHead, list[Step]]:
        """The head afterwards, and the steps of ``append`` if the head is the expected one, which is the first step."""
        return audit.append_steps(self._expected, [bytes(one) for one in records])

    def appended(self, head: AuditHead) -> None:
        """The steps of the plan with this head are done."""
        self._expected = head


def expiry_act(trail: AuditTrail, authority: AuthorityRecord) -> AuditRecord:
    """The record of an authority that has left the bundle at its end; ``authority`` as it was before."""
    after = {"state": AuthorityState.EXPIRED.name}
    return trail.record(None, "expire authority", authority, before=authority_state(authority), after=after)


def authority_state(authority: AuthorityRecord) -> Mapping[str, str]:
    return {"state": authority.state.name}


def entry_state(entry: Entry) -> Mapping[str, Any]:
    """The fields of an entry that are set."""
    expires_at = None if entry.expires_at is None else int(entry.expires_at.timestamp())
    state = {**entry.values(), "expires_at": expires_at}
    return {name: value for name, value in state.items() if value}


def agent_state(agent: AgentRecord) -> Mapping[str, Any]:
    return {
        "attestation": agent.type,
        "serials": list(agent.serials),
        "not_after": int(agent.not_after.timestamp()),
        "banned": agent.banned,
        "selectors": list(map(str, agent.selectors)),
    }


def bundle_state(bundle: TrustBundle) -> Mapping[str, Any]:
    return {
        "sha256": hashlib.sha256(bundle.to_jwks().encode()).hexdigest(),
        "sequence": bundle.sequence,
        "x509_authorities": [fingerprint_of(one) for one in bundle.x509_authorities],
        "jwt_authorities": sorted(bundle.jwt_authorities),
    }
