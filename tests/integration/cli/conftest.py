"""One server and one agent for all tests that do not change them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.cli.identity_site import AgentProcess, ServerProcess, running_agent, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def agent(server: ServerProcess) -> Iterator[AgentProcess]:
    with running_agent(server) as running:
        yield running
