"""Revocation and readmission, for administrators."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cryptography import x509
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.errors import ConfigError, ConflictError, NotFoundError, RequestError
from meshtls.registration import RESERVED, is_agent_id
from meshtls.scalars import shown
from meshtls.server.access import Caller, Role
from meshtls.server.audit import agent_state
from meshtls.server.core import Core, page_size
from meshtls.server.operations.permission import allowed_to
from meshtls.server.store import agents, entries, revocations
from meshtls.server.store.changes import lock_writers
from meshtls.serverapi.values import LEAF_REASONS, Block, Revoked, RevokedSvid, Subject, SubjectKind
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import serial_text

__all__ = ["list_revocations", "readmit", "revoke"]


@allowed_to(Role.ADMIN)
async def revoke(core: Core, caller: Caller, subject: Subject, reason: str = "") -> Revoked:
    """Refuse what was issued to this subject, everywhere.

    Of a SPIFFE ID or an entry nothing is issued any more until it is readmitted, and agents stop serving it; an agent
    is banned. A serial is of one SVID, in whose place its agent requests another one, or of the CA of a downstream
    server, which requests another one. A CA is also revoked with the entry, the SPIFFE ID or the agent that got it.
    ``reason`` is a name of X.509's reasons, empty for unspecified; what is revoked with ``certificate_hold`` can be
    reinstated.

    Raises NotFoundError, RequestError, ConflictError for what is revoked already, StoreError; ConfigError where it is
    revoked and nothing more is issued, but this server can't sign the CRL at present.
    """
    wanted = _checked(core, subject)
    why = reason or x509.ReasonFlags.unspecified.name
    if why not in LEAF_REASONS:
        raise RequestError(f"reason: wanted one of {', '.join(LEAF_REASONS)}, got {shown(reason)}")
    async with core.change() as tx:
        await lock_writers(tx)
        before = await _shut(core, tx, wanted, why)
        revoked = await core.revoking.revoke(tx, [wanted], why)
        after = {**_done(wanted, is_revoked=True), "reason": why, **_state(revoked)}
        act = core.trail.record(caller, f"revoke {wanted.kind.value}", wanted.name, before=before, after=after)
        await core.trail.append(tx, [act])
    if core.revoking.unsigned is not None:
        raise ConfigError(
            f"{wanted} is revoked, and nothing more is issued for it, but what was issued is still accepted: this"
            f" server can't sign its CRL, and tries again every second: {core.revoking.unsigned}"
        )
    return _counted(revoked, core.signing.server_id)


@allowed_to(Role.ADMIN)
async def readmit(core: Core, caller: Caller, subject: Subject) -> Revoked:
    """Issue for this subject again, and take what was put on hold off it. All else stays revoked: its keys may be in
    wrong hands, and new SVIDs are issued at once.

    An agent may attest again, and must. A serial must be on hold. Raises NotFoundError, RequestError, StoreError.
    """
    wanted = _checked(core, subject)
    async with core.change() as tx:
        await lock_writers(tx)
        before = await _reopen(core, tx, wanted)
        freed = await core.revoking.reinstate(tx, wanted)
        after = {**_done(wanted, is_revoked=False), **_state(freed)}
        act = core.trail.record(caller, f"readmit {wanted.kind.value}", wanted.name, before=before, after=after)
        await core.trail.append(tx, [act])
    return _counted(freed, core.signing.server_id)


@allowed_to(Role.ADMIN)
async def list_revocations(
    core: Core, caller: Caller, after: int = 0, limit: int = 0
) -> tuple[list[Block], list[RevokedSvid]]:
    """A page of the revoked SVIDs that have not expired, with numbers above ``after``; with the first page all blocks.

    Raises RequestError, StoreError.
    """
    size = page_size(limit)
    async with core.database.read() as tx:
        blocks = [] if after else await revocations.list_blocks(tx)
        return blocks, await revocations.list_revoked(tx, after, size, core.clock.now())


def _counted(revoked: Collection[RevokedSvid], server_id: str) -> Revoked:
    """The numbers of these, as the server with this id tells them."""
    certificates = [one for one in revoked if one.kind != "jwt"]
    others = sum(one.server_id != server_id for one in certificates)
    cas = sum(one.kind == "ca" for one in certificates)
    return Revoked(len(certificates) - cas, len(revoked) - len(certificates), others, cas)


async def _shut(core: Core, tx: AsyncConnection, subject: Subject, reason: str) -> Mapping[str, Any]:
    """Have nothing more issued for the subject. Returns its state before, for the audit trail."""
    if subject.kind is SubjectKind.SERIAL:
        await _check_revocable(core, tx, subject.name)
    elif subject.kind is SubjectKind.AGENT:
        agent = await agents.find_agent(tx, SpiffeId.parse(subject.name))
        await agents.ban_agent(tx, SpiffeId.parse(subject.name))
        return agent_state(agent) if agent else {}
    else:
        if subject.kind is SubjectKind.ENTRY and not await entries.get_entries(tx, [subject.name]):
            raise NotFoundError(f"entry {subject.name}: no entry has this id")
        if not await revocations.block(tx, subject, reason, core.clock.now()):
            raise ConflictError(f"{subject}: it is revoked already; see `meshtls revoked`")
        await revocations.touch_entries(tx, subject)
    return _done(subject, is_revoked=False)


async def _check_revocable(core: Core, tx: AsyncConnection, serial: str) -> None:
    found = await revocations.find_certificate(tx, serial)
    if found is None:
        raise NotFoundError(f"serial {serial}: no SVID on record has it")
    if found.kind == "ca" and found.authority is None:
        raise RequestError(
            f"serial {serial}: wanted an SVID or the CA of a downstream server, got an intermediate CA of a server;"
            " replace its authority: meshtls authority"
        )
    if found.revoked_at is not None:
        raise ConflictError(f"serial {serial}: it is revoked already ({found.reason})")
    if found.not_after <= core.clock.now():
        raise RequestError(f"serial {serial}: it has expired already, at {found.not_after:%Y-%m-%dT%H:%M:%SZ}")


async def _check_on_hold(core: Core, tx: AsyncConnection, serial: str) -> RevokedSvid:
    found = await revocations.find_certificate(tx, serial)
    if found is None:
        raise NotFoundError(f"serial {serial}: no SVID on record has it")
    if found.revoked_at is None:
        raise RequestError(f"serial {serial}: it is not revoked; see `meshtls revoked`")
    if found.not_after <= core.clock.now():
        raise RequestError(f"serial {serial}: it has expired, at {found.not_after:%Y-%m-%dT%H:%M:%SZ}")
    if found.reason != x509.ReasonFlags.certificate_hold.name:
        raise RequestError(
            f"serial {serial}: wanted a certificate that was revoked with certificate_hold, got one that was revoked"
            f" for good ({found.reason}); its agent requests another one in its place"
        )
    return found


async def _reopen(core: Core, tx: AsyncConnection, subject: Subject) -> Mapping[str, Any]:
    """Have the subject issued for again. Returns its state before, for the audit trail."""
    if subject.kind is SubjectKind.SERIAL:
        held = await _check_on_hold(core, tx, subject.name)
        return {**_done(subject, is_revoked=True), "reason": held.reason}
    if subject.kind is SubjectKind.AGENT:
        agent = await agents.find_agent(tx, SpiffeId.parse(subject.name))
        if agent is None or not agent.banned:
            raise NotFoundError(f"agent {subject.name}: no banned agent has this ID")
        await agents.evict_agent(tx, agent.spiffe_id)
        return agent_state(agent)
    block = next((one for one in await revocations.list_blocks(tx) if one.subject == subject), None)
    if block is None:
        raise NotFoundError(f"{subject}: it is not revoked; see `meshtls revoked`")
    await revocations.unblock(tx, [subject])
    await revocations.touch_entries(tx, subject)
    return {**_done(subject, is_revoked=True), "reason": block.reason}


def _done(subject: Subject, *, is_revoked: bool) -> Mapping[str, bool]:
    """The state in which a command leaves the subject, or found it."""
    return {"banned" if subject.kind is SubjectKind.AGENT else "revoked": is_revoked}


def _checked(core: Core, subject: Subject) -> Subject:
    """The subject with its name as the store spells it."""
    kind, name = subject.kind, subject.name
    if kind is SubjectKind.SERIAL:
        digits = name.replace(":", "").lower()
        if not re.fullmatch(r"[0-9a-f]{1,64}", digits, re.ASCII):
            raise RequestError(f"wanted a serial in hexadecimal, got {shown(name)}")
        return Subject(kind, serial_text(digits))
    if kind is SubjectKind.ENTRY:
        return subject
    spiffe_id = SpiffeId.parse(name)
    if kind is SubjectKind.SPIFFE_ID:
        if not spiffe_id.member_of(core.hub.trust_domain):
            raise RequestError(f"{spiffe_id}: this server issues for {core.hub.trust_domain} only")
        if is_agent_id(spiffe_id):
            raise RequestError(f"{spiffe_id}: this is an agent's ID; revoke it as an agent")
        if not spiffe_id.path or spiffe_id.segments[:1] == (RESERVED,):
            raise RequestError(
                f"{spiffe_id}: wanted a workload's ID; to replace the server's keys, see meshtls authority"
            )
    return Subject(kind, str(spiffe_id))


def _state(revoked: Sequence[RevokedSvid]) -> dict[str, object]:
    return {"svids": len(revoked), "serials": [one.serial for one in revoked[:32]]}
