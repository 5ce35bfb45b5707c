"""Migrates the schema to this version with the package's Alembic migrations, and reports its version."""

from __future__ import annotations

from dataclasses import dataclass

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from meshtls.errors import ConfigError
from meshtls.server.store.database import Database

__all__ = ["SchemaVersion", "migrate", "schema_version", "wanted_schema"]

_MIGRATIONS = "meshtls.server.store:migrations"
# An arbitrary number, the same for all servers.
_LOCK = 0x6D657368


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """``present`` is the database's (None: it has no schema yet), ``wanted`` the one of this meshtls."""

    present: str | None
    wanted: str

    @property
    def current(self) -> bool:
        return self.present == self.wanted


async def schema_version(database: Database) -> SchemaVersion:
    """The version of the schema; nothing is changed. Raises StoreError, and ConfigError as ``migrate`` does."""
    async with database.read() as connection:
        present = await connection.run_sync(_present)
    scripts = _scripts()
    _check_known(scripts, present, database)
    return SchemaVersion(present, wanted_schema())


def wanted_schema() -> str:
    """The schema version of this meshtls."""
    return _scripts().get_current_head() or ""


async def migrate(database: Database, to: str = "head") -> None:
    """Run the missing migrations, all or none. Of two servers that start at once only one runs them.

    Raises StoreError, and ConfigError where the database was made by a newer meshtls.
    """
    async with database.write() as connection:
        if database.shared:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        _check_known(_scripts(), await connection.run_sync(_present), database)
        await connection.run_sync(_upgrade, to)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    return config


def _present(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection, to: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _check_known(scripts: ScriptDirectory, present: str | None, database: Database) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if present is not None and present not in known:
        raise ConfigError(
            f"data store {database.where}: its schema {present} is newer than this meshtls knows;"
            " upgrade meshtls, or give another database"
        )
