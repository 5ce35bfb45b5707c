"""Recording what is issued, where callers go away while others are recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import URL

from meshtls.server.core import Core
from meshtls.server.signing import Signed
from meshtls.server.startup import opened_core
from meshtls.server.store import transparency
from meshtls.spiffeid import SpiffeId
from tests.support.clock import ManualClock
from tests.support.server import TD, config_for

WEB = SpiffeId(TD, "/web")


@pytest.fixture
async def core(tmp_path: Path, store_url: URL) -> AsyncIterator[Core]:
    async with opened_core(config_for(tmp_path, store_url), ManualClock()) as (opened, _):
        yield opened


def signed(core: Core) -> Signed:
    return core.signing.x509(WEB, ec.generate_private_key(ec.SECP256R1()).public_key(), timedelta(hours=1))


def committed(core: Core, one: Signed) -> asyncio.Task[None]:
    return asyncio.create_task(core.ledger.commit(core.trail.record(None, "mint", WEB), [one]))


@pytest.mark.parametrize("gone", [False, True], ids=["all stay", "the second goes away"])
async def test_settle_ends_when_every_call_is_recorded_or_has_gone_away(core: Core, gone: bool) -> None:
    first, second = signed(core), signed(core)
    async with core.database.write() as tx:
        await transparency.read_state(tx, lock=True)  # the first call waits for this
        writing, waiting = committed(core, first), committed(core, second)
        settling = asyncio.create_task(core.ledger.settle())
        await asyncio.sleep(0)
        if gone:
            waiting.cancel()
            await asyncio.wait([waiting])
        assert not settling.done()
    await asyncio.wait_for(settling, 60)
    await writing
    async with core.database.read() as tx:
        known = [await transparency.index_of_serial(tx, one.record.serial) for one in (first, second)]
    assert [one is not None for one in known] == [True, not gone]
