"""Each store test runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import URL

from meshtls.server.store.address import postgres_url, sqlite_url
from meshtls.server.store.database import Database
from meshtls.server.store.migrate import migrate
from tests.support.postgres import Postgres, running_postgres
from tests.support.server import ServerUnderTest, config_for, started


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Postgres:
    # Stopped at the end of the run: in a fixture's teardown it would count as the time of the last test.
    opened = ExitStack()
    pytestconfig.add_cleanup(opened.close)
    return opened.enter_context(running_postgres())


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A cluster for this test alone, which it may crash."""
    with running_postgres() as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "store.sqlite3")
    cluster: Postgres = request.getfixturevalue("postgres")
    return postgres_url(cluster.new_database())


@pytest.fixture
async def database(store_url: URL) -> AsyncIterator[Database]:
    """A migrated store."""
    opened = Database(store_url)
    await migrate(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def server(tmp_path: Path, store_url: URL) -> AsyncIterator[ServerUnderTest]:
    """A running server on each kind of store."""
    async with started(config_for(tmp_path, store_url)) as running:
        yield running
