"""The server's clean-up, on the Clock."""

from __future__ import annotations

from datetime import timedelta

from meshtls.registration import Issuance
from meshtls.server.audit import AuditTrail
from meshtls.server.hub import Hub
from meshtls.server.store import issuances
from meshtls.server.store.database import Database
from meshtls.server.upkeep import clean_up
from meshtls.spiffeid import SpiffeId
from tests.support.clock import ManualClock
from tests.support.server import TD


async def test_an_svids_record_is_kept_for_a_month_after_its_expiry(database: Database) -> None:
    clock = ManualClock()
    hub = Hub(TD, database, clock, lambda bundle: None)
    start, end = clock.now(), clock.now() + timedelta(hours=1)
    async with database.write() as tx:
        one = Issuance(
            kind="x509",
            serial="01",
            spiffe_id=SpiffeId(TD, "/web"),
            server_id="s1",
            issued_at=start,
            not_before=start,
            not_after=end,
        )
        await issuances.record_issuances(tx, [one])

    async def on_record() -> list[str]:
        await clean_up(hub, database, clock, AuditTrail("server-1", clock), keep_audit=1000)
        async with database.read() as tx:
            return [kept.serial for kept in await issuances.list_issuances(tx, 0, 10)]

    clock.advance(timedelta(days=30, hours=1).total_seconds())
    assert await on_record() == ["01"]
    clock.advance(1)
    assert await on_record() == []
