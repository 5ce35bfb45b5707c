"""Periodic cleanup: expired entries, tokens and authorities are removed, and the logs are pruned."""

from __future__ import annotations

from datetime import timedelta

from meshtls.clock import Clock, first_of
from meshtls.errors import StoreError
from meshtls.logs import logger
from meshtls.server.audit import AuditTrail, expiry_act
from meshtls.server.clock_jumps import ClockJumps
from meshtls.server.hub import Hub
from meshtls.server.store import audit, authorities, changes, entries, issuances, tokens
from meshtls.server.store.database import Database

__all__ = ["clean_up", "keep_clean"]

_KEPT_CHANGES = 100_000
#: How long the record of an expired SVID is kept, and how many records one run looks at: more than are signed between
#: two runs.
_KEPT_ON_RECORD = timedelta(days=30)
_OLDEST_ISSUANCES = 10_000
_OLDEST_AUDIT = 10_000
_LONGEST_SLEEP = 30.0

log = logger("meshtls.server")


async def clean_up(
    hub: Hub, database: Database, clock: Clock, trail: AuditTrail, keep_audit: int, *, in_doubt: bool = False
) -> None:
    """Remove everything that has expired, and all but the newest ``keep_audit`` audit records. Raises StoreError.

    If ``in_doubt``, the clock may be ahead: authorities and the records of SVIDs stay, which nobody can make again.
    """
    now = clock.now()
    async with database.write() as tx:
        ended = await entries.end_entries(tx, now)
        gone = [] if in_doubt else await authorities.expire_ended(tx, hub.trust_domain, now)
        await tokens.prune_tokens(tx, now)
        await changes.prune_changes(tx, _KEPT_CHANGES)
        if not in_doubt:
            await issuances.prune_issuances(tx, now - _KEPT_ON_RECORD, _OLDEST_ISSUANCES)
        pruned = await audit.prune_audit(tx, keep_audit, _OLDEST_AUDIT)
        acts = [trail.record(None, "remove expired entries", after={"count": ended})] * bool(ended)
        acts += [expiry_act(trail, one) for one in gone]
        acts += [trail.record(None, "prune audit records", after={"up_to": pruned})] * bool(pruned)
        await trail.append(tx, acts)
    if ended:
        log.info("%d entries expired", ended)
    for authority in gone:
        log.info("%s has left the bundle: no SVID that hangs on it is valid any more", authority)
    await hub.written()


async def keep_clean(
    hub: Hub, database: Database, clock: Clock, trail: AuditTrail, keep_audit: int, jumps: ClockJumps
) -> None:
    """Clean up when the next entry expires, and at least every 30 seconds, forever."""
    while True:
        expiring = hub.expiring
        try:
            await clean_up(hub, database, clock, trail, keep_audit, in_doubt=jumps.is_in_doubt())
            seconds = await _until_expiry(database, clock)
        except StoreError as error:
            log.warning("cleanup failed, retrying: %s", error)
            seconds = _LONGEST_SLEEP
        await first_of(expiring.wait(), clock.sleep(seconds))


async def _until_expiry(database: Database, clock: Clock) -> float:
    async with database.read() as tx:
        soonest = await entries.next_expiry(tx)
    if soonest is None:
        return _LONGEST_SLEEP
    return min(_LONGEST_SLEEP, max(0.0, soonest - clock.now().timestamp()))
