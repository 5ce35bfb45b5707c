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
from tests.support.forking import Forks, forks
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


#: Steps at which a server is killed that change files and no row: which store it has makes no difference to expect.
_STEPS_OF_FILES = ("authority_keys.", "disk_ring.", "log_guard.")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        given = getattr(item, "callspec", None)
        if given is None or given.params.get("store_url") != "postgres":
            continue
        if any(name in str(given.params.get("step", "")) for name in _STEPS_OF_FILES):
            item.add_marker(pytest.mark.soak)


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "store.sqlite3")
    cluster: Postgres = request.getfixturevalue("postgres")
    return postgres_url(cluster.new_database())


@pytest.fixture(scope="module")
def forked() -> Iterator[Forks]:
    """Starts the servers of a module's tests."""
    with forks() as started_forks:
        yield started_forks


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
