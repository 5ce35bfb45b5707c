"""SVIDs: those that agents request for their entries, those that administrators mint, and the record of all.

Every SVID is on record before its operation returns.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta

from meshtls.errors import MeshtlsError, NotFoundError, RequestError
from meshtls.registration import RESERVED, AgentRecord, Entry, Issuance
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core, lifetime, page_size
from meshtls.server.entries import Node
from meshtls.server.operations.permission import allowed_to
from meshtls.server.signing import Signed, SignedJwt
from meshtls.server.store import issuances
from meshtls.spiffeid import SpiffeId

__all__ = ["list_issuances", "mint_jwt", "mint_x509", "sign_jwt", "sign_x509"]

# Signatures that are made before the event loop runs other tasks: about 3 ms.
_SLICE = 16


@allowed_to(Role.AGENT)
async def sign_x509(core: Core, caller: Caller, requests: Sequence[tuple[str, bytes]]) -> list[Signed | MeshtlsError]:
    """For each (entry id, CSR), in order: an SVID of the entry, or the error. Raises StoreError."""
    agent, _ = caller.as_agent()
    results: list[Signed | MeshtlsError] = []
    for start in range(0, len(requests), _SLICE):
        for entry_id, csr in requests[start : start + _SLICE]:
            try:
                results.append(_signed(core, agent, entry_id, csr))
            except MeshtlsError as error:
                results.append(error)
        await asyncio.sleep(0)
    # An entry may have been revoked meanwhile. From here to ``commit`` nothing else runs.
    for place, (entry_id, _) in enumerate(requests):
        if isinstance(results[place], Signed):
            try:
                _served_entry(core, agent, entry_id)
            except MeshtlsError as error:
                results[place] = error
    signed = [one for one in results if isinstance(one, Signed)]
    if signed:
        await core.ledger.commit(core.trail.record(caller, "sign X509-SVIDs", agent.spiffe_id), signed)
    return results


@allowed_to(Role.AGENT)
async def sign_jwt(core: Core, caller: Caller, entry_id: str, audience: Collection[str]) -> SignedJwt:
    """A JWT-SVID of the entry with this id. Raises NotFoundError, RequestError, StoreError."""
    agent, _ = caller.as_agent()
    entry = _served_entry(core, agent, entry_id)
    ttl = timedelta(seconds=entry.jwt_svid_ttl) if entry.jwt_svid_ttl else core.config.default_jwt_svid_ttl
    signed = core.signing.jwt(entry.spiffe_id, audience, ttl, agent_id=agent.spiffe_id, entry_id=entry.id)
    await core.ledger.commit(core.trail.record(caller, "sign JWT-SVID", entry.spiffe_id), [signed])
    return signed


@allowed_to(Role.ADMIN)
async def mint_x509(
    core: Core, caller: Caller, spiffe_id: SpiffeId, csr: bytes, ttl: int = 0, dns_names: Collection[str] = ()
) -> Signed:
    """An SVID without entry. ``ttl`` is in seconds, 0 for the default. Raises RequestError, ConfigError, StoreError."""
    _check_mintable(core, spiffe_id)
    life = lifetime(ttl, core.config.default_x509_svid_ttl)
    signed = core.signing.x509(spiffe_id, csr, life, dns_names=dns_names)
    await core.ledger.commit(core.trail.record(caller, "mint X509-SVID", spiffe_id), [signed])
    return signed


@allowed_to(Role.ADMIN)
async def mint_jwt(
    core: Core, caller: Caller, spiffe_id: SpiffeId, audience: Collection[str], ttl: int = 0
) -> SignedJwt:
    """A JWT-SVID without entry. ``ttl`` is in seconds, 0 for the default. Raises RequestError, StoreError."""
    _check_mintable(core, spiffe_id)
    if not spiffe_id.member_of(core.hub.trust_domain):
        raise RequestError(f"{spiffe_id}: this CA issues for trust domain {core.hub.trust_domain} only")
    signed = core.signing.jwt(spiffe_id, audience, lifetime(ttl, core.config.default_jwt_svid_ttl))
    await core.ledger.commit(core.trail.record(caller, "mint JWT-SVID", spiffe_id), [signed])
    return signed


@allowed_to(Role.ADMIN)
async def list_issuances(
    core: Core, caller: Caller, after: int = 0, limit: int = 0, *, spiffe_id: SpiffeId | None = None, serial: str = ""
) -> list[Issuance]:
    """A page of the record, oldest first, of numbers above ``after``. Raises RequestError, StoreError."""
    async with core.database.read() as tx:
        return await issuances.list_issuances(tx, after, page_size(limit), spiffe_id=spiffe_id, serial=serial or None)


def _signed(core: Core, agent: AgentRecord, entry_id: str, csr: bytes) -> Signed:
    entry = _served_entry(core, agent, entry_id)
    return core.signing.x509(
        entry.spiffe_id,
        csr,
        timedelta(seconds=entry.x509_svid_ttl) if entry.x509_svid_ttl else core.config.default_x509_svid_ttl,
        dns_names=entry.dns_names,
        agent_id=agent.spiffe_id,
        entry_id=entry.id,
    )


def _served_entry(core: Core, agent: AgentRecord, entry_id: str) -> Entry:
    """The entry with this id, if this agent may serve it now."""
    entry = core.hub.index.get(entry_id)
    # The same error for a missing entry and for another agent's: an agent learns nothing about other agents' entries.
    if entry is None or not core.hub.index.is_reachable(entry, Node.of(agent)):
        raise NotFoundError(f"entry {entry_id}: agent {agent.spiffe_id} may serve no entry with this id")
    if entry.expired(core.clock.now()):
        raise NotFoundError(f"entry {entry_id} of {entry.spiffe_id} has expired")
    return entry


def _check_mintable(core: Core, spiffe_id: SpiffeId) -> None:
    if spiffe_id in core.hub.blocks.spiffe_ids:
        raise RequestError(f"{spiffe_id}: this ID was revoked; readmit it first: meshtls readmit --spiffe-id")
    if not spiffe_id.path or spiffe_id.segments[:1] == (RESERVED,):
        raise RequestError(f"{spiffe_id}: wanted a workload's ID; those below /{RESERVED}/ are servers and agents")
