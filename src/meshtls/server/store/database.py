"""Transactions on the SQL database. Only this module handles errors of SQLAlchemy and the drivers.

SQLite runs with a write-ahead log, so that readers don't wait, and with ``synchronous=FULL``, so that a committed
transaction survives a power failure. Writers queue for one connection rather than for the file's lock, and take that
lock at their beginning: SQLite may refuse a transaction that reads first and writes later.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Protocol, TypeGuard, TypeVar

import aiosqlite
from sqlalchemy import URL, Executable, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from meshtls.clock import Clock, SystemClock
from meshtls.errors import StoreError
from meshtls.svid.x509 import format_moment

__all__ = ["Database", "OnEnd", "Quick", "Step", "quick", "run_steps", "unobserved"]

_T = TypeVar("_T")
_BUSY_SECONDS = 10
_POOL = 8


class OnEnd(Protocol):
    """Called with read or write, how long the transaction took, and whether it failed because of the database."""

    def __call__(self, operation: str, seconds: float, *, failed: bool) -> None: ...


def unobserved(operation: str, seconds: float, *, failed: bool) -> None:
    """An ``OnEnd`` that does nothing."""


class Database:
    """Transactions on one database. The first one opens a connection; ``close`` closes all.

    ``on_end`` is a hook for metrics, called at the end of each transaction. ``not_written`` says that the latest change
    failed because of the database, and when; empty once a later one is committed.
    """

    def __init__(self, url: URL, clock: Clock = SystemClock()) -> None:
        self.url = url
        self.on_end: OnEnd = unobserved
        self.not_written = ""
        self._clock = clock
        self._handovers: set[asyncio.Task[Any]] = set()
        self.shared = url.get_backend_name() != "sqlite"
        if self.shared:
            self._reader = self._writer = create_async_engine(url, pool_size=_POOL, pool_pre_ping=True)
            return
        arguments = {"timeout": _BUSY_SECONDS}
        self._reader = create_async_engine(url, pool_size=_POOL, max_overflow=0, connect_args=arguments)
        self._writer = create_async_engine(url, pool_size=1, max_overflow=0, connect_args=arguments)
        _configure_sqlite(self._reader, "BEGIN", ())  # a reader must not change the file
        _configure_sqlite(self._writer, "BEGIN IMMEDIATE", ("journal_mode = WAL", "synchronous = FULL"))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A read-only transaction. Raises StoreError."""
        async with _Translated(self, "read"), self._connected(self._reader) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that commits at the end of the block, and is rolled back if the block raises.

        Raises StoreError if the database fails; then no change of the block was kept.
        """
        async with _Translated(self, "write"), self._connected(self._writer) as connection:
            async with connection.begin():
                before = await _changes(connection) if self.not_written else 0
                yield connection
                has_changed = not self.not_written or await _changes(connection) > before
            if has_changed:
                self.not_written = ""

    async def close(self) -> None:
        while self._handovers:
            await asyncio.wait(self._handovers)
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        connection = await self._take(engine)
        try:
            yield connection
        finally:
            await asyncio.shield(self._handover(connection.close()))

    async def _take(self, engine: AsyncEngine) -> AsyncConnection:
        """A connection of the pool.

        If the caller is cancelled meanwhile, the connection is still opened and returned to the pool: cancelling a
        driver while it connects would leak the connection.
        """
        taking = self._handover(engine.connect().start())
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._handover(_given_back(taking))
            raise

    def _handover(self, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(coroutine)
        self._handovers.add(task)
        task.add_done_callback(self._handovers.discard)
        return task

    def refused(self, operation: str, error: Exception) -> StoreError:
        """The error of a transaction that this one of the database or its driver ended."""
        reason = _reason(error)
        if operation == "write" and not self.not_written and not isinstance(error, IntegrityError):
            self.not_written = f"no change is kept since {format_moment(self._clock.now())}: {reason}"
        return StoreError(f"data store {self.where}: {reason}")

    @property
    def where(self) -> str:
        """The database's address, for messages: without its password."""
        if not self.shared:
            return f"SQLite file {self.url.database}"
        return self.url.set(drivername="postgresql").render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"<Database {self.where}>"


async def _given_back(taking: asyncio.Task[AsyncConnection]) -> None:
    with contextlib.suppress(SQLAlchemyError, OSError, sqlite3.Error):  # the connection failed to open
        await (await taking).close()


class _Translated:
    """Translates database errors to StoreError, and tells ``on_end`` of the transaction's end."""

    def __init__(self, database: Database, operation: str) -> None:
        self._database = database
        self._operation = operation
        self._began = 0.0

    async def __aenter__(self) -> None:
        self._began = time.perf_counter()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        failed = isinstance(error, SQLAlchemyError | OSError | sqlite3.Error) or _of_asyncpg(error)
        self._database.on_end(self._operation, time.perf_counter() - self._began, failed=failed)
        if isinstance(error, SQLAlchemyError | OSError | sqlite3.Error) or _of_asyncpg(error):
            raise self._database.refused(self._operation, error) from error


def _of_asyncpg(error: BaseException | None) -> TypeGuard[Exception]:
    """Whether ``quick`` let an error of this driver through, which a server on SQLite has not imported."""
    return isinstance(error, Exception) and type(error).__module__.partition(".")[0] == "asyncpg"


async def _changes(tx: AsyncConnection) -> int:
    """The rows that this connection has changed. Of another database than SQLite it is taken to grow all the time:
    where nothing is to be committed, SQLite commits on a full disk, too, and the others are not on ours.
    """
    driver: Any = (await tx.get_raw_connection()).driver_connection
    return driver.total_changes if isinstance(driver, aiosqlite.Connection) else time.monotonic_ns()


async def quick(tx: AsyncConnection, statement: Quick, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Execute the statement once for each row of parameters; returns what it returns for a single one.

    It goes to the driver itself: SQLAlchemy's cursor for asyncio costs three times what the statement does.
    """
    if not rows:
        return []
    sql, names = statement.compiled(tx)
    driver: Any = (await tx.get_raw_connection()).driver_connection
    values = [[row[name] for name in names] for row in rows]
    if isinstance(driver, aiosqlite.Connection):
        if len(values) == 1:
            return list(await driver.execute_fetchall(sql, values[0]))
        async with driver.executemany(sql, values):
            return []
    if not driver.is_in_transaction():
        # SQLAlchemy begins a transaction of asyncpg at the first statement that it executes.
        await tx.execute(text("SELECT 1"))
    if len(values) == 1:
        return list(await driver.fetch(sql, *values[0]))
    await driver.executemany(sql, values)
    return []


async def run_steps(tx: AsyncConnection, steps: Sequence[Step]) -> int:
    """Execute these in order; returns how many were done, which are all, or those before a failed condition.

    On SQLite all of them are one call of the connection's thread: each call costs more than its statement.
    """
    prepared = [_Prepared.of(tx, step) for step in steps]
    driver: Any = (await tx.get_raw_connection()).driver_connection
    if isinstance(driver, aiosqlite.Connection):
        # aiosqlite has no public call for a function; SQLAlchemy uses the queue behind this one.
        connection: Any = driver
        done: int = await connection._execute(_run_prepared, connection._conn, prepared)
        return done
    for number, step in enumerate(steps):
        returned = await quick(tx, step.statement, step.rows)
        if step.condition and not returned:
            return number
    return len(steps)


def _run_prepared(connection: sqlite3.Connection, prepared: Sequence[_Prepared]) -> int:
    for number, one in enumerate(prepared):
        if not _run_one(connection, one):
            return number
    return len(prepared)


def _run_one(connection: sqlite3.Connection, one: _Prepared) -> bool:
    """False for a condition that is not met."""
    if one.condition:
        return bool(connection.execute(one.sql, one.values[0]).fetchall())
    connection.executemany(one.sql, one.values)
    return True


class Step(NamedTuple):
    """A statement for ``run_steps``, executed once for each row.

    A condition is an UPDATE of one row that returns something; where it changes nothing, the next steps are not done.
    """

    statement: Quick
    rows: Sequence[Mapping[str, Any]]
    condition: bool = False


class _Prepared(NamedTuple):
    sql: str
    values: list[list[Any]]
    condition: bool

    @classmethod
    def of(cls, tx: AsyncConnection, step: Step) -> _Prepared:
        sql, names = step.statement.compiled(tx)
        return cls(sql, [[row[name] for name in names] for row in step.rows], step.condition)


class Quick:
    """An INSERT, UPDATE or SELECT for ``quick`` and ``run_steps``: each of its values is a parameter, by name."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, list[str]]] = {}

    def compiled(self, tx: AsyncConnection) -> tuple[str, list[str]]:
        """The SQL for this connection, and the names of its parameters in order."""
        name = tx.dialect.name
        if name not in self._compiled:
            made: Any = self._statement.compile(dialect=tx.dialect)  # type: ignore[attr-defined]
            self._compiled[name] = (str(made), list(made.positiontup))
        return self._compiled[name]


def _reason(error: Exception) -> str:
    if isinstance(error, PoolTimeoutError):
        return "no connection became free in time; the database is overloaded or hangs"
    said = str(error.orig if isinstance(error, DBAPIError) and error.orig else error).strip() or type(error).__name__
    for sign, advice in _ADVICE.items():
        if sign in said.lower():
            return f"{said}; {advice}"
    return said


_ADVICE = {
    "disk is full": "make room on the disk; nothing of this change was kept",
    "readonly": "make the file and its directory writable for this user; nothing of this change was kept",
    "unable to open database file": "the directory has to exist and to be writable for this user",
    "is locked": "another process holds the file; stop it",
    "malformed": "restore the file from a backup",
    "not a database": "restore the file from a backup",
    "refused": "start the database, or correct its address",
}


def _configure_sqlite(engine: AsyncEngine, begin: str, pragmas: tuple[str, ...]) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions on its own
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    @event.listens_for(engine.sync_engine, "invalidate")
    def end(connection: Any, _record: object, _error: BaseException | None) -> None:
        # The traceback of a task that is cancelled within a statement holds the cursor, and SQLite keeps a closed
        # connection, with the lock of its transaction, until the last cursor is gone. So roll back first.
        connection.run_async(_rolled_back)


async def _rolled_back(driver: aiosqlite.Connection) -> None:
    with contextlib.suppress(sqlite3.Error, ValueError):  # a broken or closed connection holds no lock
        await driver.rollback()
