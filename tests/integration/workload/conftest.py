"""One trust domain, one clock that the test owns, one Workload API on its own socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshtls.ca.authority import Authority
from tests.support.authority import context_for, make_authority
from tests.support.clock import ManualClock
from tests.support.loops import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
from tests.support.workload_api import WorkloadApi, workload_api


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def authority(clock: ManualClock) -> Authority:
    return make_authority(clock=clock)


@pytest.fixture
async def api(tmp_path: Path, authority: Authority, clock: ManualClock) -> AsyncIterator[WorkloadApi]:
    async with workload_api(tmp_path / "api.sock", context_for(authority, "/web"), clock) as running:
        yield running
