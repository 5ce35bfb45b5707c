"""An agent for the test's own process, on a socket that every user can connect to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from meshtls.workload.client import WorkloadApiClient
from tests.support.agent import Mesh, agent_at, entry, short_directory
from tests.support.authority import make_authority


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as made:
        yield made


@pytest.fixture
async def mesh(directory: Path) -> AsyncIterator[Mesh]:
    """An agent with one entry, /web, for the test's own process."""
    partner = make_authority("partner.org").bundle
    async with agent_at(directory / "agent.sock", entry("/web"), federated=[partner]) as running:
        yield running


@pytest.fixture
async def client(mesh: Mesh) -> AsyncIterator[WorkloadApiClient]:
    async with WorkloadApiClient(mesh.agent.address, clock=mesh.clock) as opened:
        yield opened
