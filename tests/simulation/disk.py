"""What survives the end of a process: the data store, the keys of a server, its log guard, the SVID of an agent.

The data store is a file of SQLite, with its real transactions and locks, whose driver runs in the simulation's loop. A
process may be killed before and after each statement, each commit, and each change of a key or a guard.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiosqlite
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from meshtls.bundle import TrustBundle
from meshtls.ca.keys.manager import KeyAlgorithm, KeyManager
from meshtls.ca.subordinate import SubordinateCa
from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.note import Note, NoteSigner
from meshtls.clock import SystemClock
from meshtls.server.jwt_key import JwtKey
from meshtls.server.key_ring import MemoryRing
from meshtls.server.log_guard import LogGuard
from meshtls.server.store import database
from meshtls.server.store.database import Database, unobserved
from meshtls.server.upstream.held import HeldCas
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import X509Svid
from tests.simulation.loop import SimProcess, current_process

__all__ = ["KeptCas", "KeptGuard", "KeptRing", "KeptSvid", "SimDatabase", "StoreFile", "forget"]

#: Seconds after which a statement that met another writer's lock is tried again.
_BUSY = 0.002
_STATEMENT = 0.0002
#: The calls of the driver that read or change the file; the others only prepare or fetch.
_STEPS = frozenset({"execute", "executemany", "_execute_fetchall", "commit", "rollback"})


class StoreFile:
    """The file of a data store, and the connections of each process to it. ``commits`` counts the transactions."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commits = 0
        self._idle: dict[SimProcess, list[sqlite3.Connection]] = {}
        self._all: dict[SimProcess, list[sqlite3.Connection]] = {}
        self._reader = self._connect()

    def rows(self, query: str, *values: object) -> list[Any]:
        """What the file has now, for the checks."""
        return self._reader.execute(query, values).fetchall()

    def take(self, process: SimProcess) -> sqlite3.Connection:
        idle = self._idle.setdefault(process, [])
        if idle:
            return idle.pop()
        opened = self._connect()
        self._all.setdefault(process, []).append(opened)
        return opened

    def give_back(self, process: SimProcess, connection: sqlite3.Connection) -> None:
        if process not in self._idle:
            return
        if connection.in_transaction:  # its task was cancelled: a driver closes it then
            self.discard(process, connection)
            return
        self._idle[process].append(connection)

    def discard(self, process: SimProcess, connection: sqlite3.Connection) -> None:
        """Close it. A statement of it that nobody waits for any more may still be due: it ends with it, and with what
        it has seen of the file.
        """
        if connection in self._all.get(process, []):
            self._all[process].remove(connection)
            connection.rollback()
            connection.close()

    def drop(self, process: SimProcess) -> None:
        """The process was killed: what it had not committed is gone, and so are its locks."""
        self._idle.pop(process, None)
        for one in self._all.pop(process, []):
            if one.in_transaction:
                one.rollback()
            one.close()

    def close(self) -> None:
        for process in list(self._all):
            self.drop(process)
        self._reader.close()

    def _connect(self) -> sqlite3.Connection:
        opened = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        opened.execute("PRAGMA synchronous = OFF")  # only processes are killed, and not the machine
        return opened


class _Turn:
    """Stands for the queue of aiosqlite's thread: each call of the driver is a step of the loop."""

    def __init__(self, file: StoreFile, process: SimProcess) -> None:
        self._file = file
        self._process = process

    def put_nowait(self, item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
        future, function = item
        if _name_of(function) in _STEPS:
            asyncio.get_running_loop().call_later(_STATEMENT, self._run, future, function)
        else:
            self._run(future, function)

    def _run(self, future: asyncio.Future[Any] | None, function: Callable[[], Any]) -> None:
        if not self._process.alive:
            return
        if _name_of(function) in _STEPS:
            self._process.step()
        try:
            result = function() if _name_of(function) != "create_function" else None  # the program needs none
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                asyncio.get_running_loop().call_later(_BUSY, self._run, future, function)
                return
            _end(future, error)
        except Exception as error:
            _end(future, error)
        else:
            if _name_of(function) == "commit":
                self._file.commits += 1
                self._process.step()
            if future is not None and not future.done():
                future.set_result(result)


def _name_of(function: Callable[[], Any]) -> str:
    return getattr(function.func, "__name__", "") if isinstance(function, partial) else ""


def _end(future: asyncio.Future[Any] | None, error: Exception) -> None:
    if future is not None and not future.done():
        future.set_exception(error)


class _Driver(aiosqlite.Connection):
    """aiosqlite's connection without its thread. The pool keeps it; while it is checked out it is a process's."""

    def __init__(self) -> None:
        self._running = True
        self._connection = None
        self._iter_chunk_size = 64
        self._file: StoreFile | None = None
        self._process: SimProcess | None = None
        self.bind()

    def bind(self) -> None:
        """The current process has checked it out."""
        self.release()
        self._process = current_process()
        self._file = _OPEN[self._process]
        self._connection = self._file.take(self._process)
        self._tx: Any = _Turn(self._file, self._process)

    def release(self) -> None:
        if self._connection is not None and self._file is not None and self._process is not None:
            self._file.give_back(self._process, self._connection)
        self._connection = None

    def __await__(self) -> Generator[Any, None, aiosqlite.Connection]:
        return self._opened().__await__()

    async def _opened(self) -> aiosqlite.Connection:
        return self

    async def close(self) -> None:
        self.stop()

    def stop(self) -> None:
        if self._connection is not None and self._file is not None and self._process is not None:
            self._file.discard(self._process, self._connection)
        self._connection = None

    def __del__(self) -> None:
        """The file closes the connections of a process that was killed."""


_OPEN: dict[SimProcess, StoreFile] = {}
_ENGINES: list[AsyncEngine] = []


async def _driver() -> aiosqlite.Connection:
    return _Driver()


def _new_engine(url: URL, begin: str) -> AsyncEngine:
    # Killed processes never return their connections, so there is no limit.
    engine = create_async_engine(url, pool_size=4, max_overflow=-1, async_creator=_driver)
    database._configure_sqlite(engine, begin, ())

    @event.listens_for(engine.sync_engine, "checkout")
    def bind(connection: Any, _record: object, _proxy: object) -> None:
        connection.driver_connection.bind()

    @event.listens_for(engine.sync_engine, "checkin")
    def release(connection: Any, _record: object) -> None:
        if connection is not None:
            connection.driver_connection.release()

    return engine


class SimDatabase(Database):
    """A process's view of the file. The engines are shared by all runs, since compiled statements are theirs."""

    def __init__(self, file: StoreFile, *, shared: bool) -> None:
        self.url = URL.create("sqlite+aiosqlite", database="simulated")
        self.on_end = unobserved
        self.not_written = ""
        self._clock = SystemClock()
        self._handovers = set()
        self.shared = shared
        _OPEN[current_process()] = file
        if not _ENGINES:
            _ENGINES.extend(_new_engine(self.url, begin) for begin in ("BEGIN", "BEGIN IMMEDIATE"))
        self._reader, self._writer = _ENGINES

    @property
    def where(self) -> str:
        return "the simulated store"


def forget(process: SimProcess) -> None:
    """The process has ended."""
    file = _OPEN.pop(process, None)
    if file is not None:
        file.drop(process)


@contextlib.contextmanager
def _change() -> Iterator[None]:
    """The body changes what is kept: the process may be killed before and after it."""
    current_process().step()
    yield
    current_process().step()


class KeptRing(MemoryRing):
    """The keys of one server."""

    def __init__(self, algorithm: KeyAlgorithm, number: int) -> None:
        super().__init__(algorithm, algorithm)
        self._log_key = Ed25519PrivateKey.from_private_bytes(number.to_bytes(32))

    def add(self, fill: Callable[[KeyManager], None]) -> KeyManager:
        with _change():
            return super().add(fill)

    def remove(self, keys: KeyManager) -> None:
        with _change():
            super().remove(keys)

    def add_jwt(self) -> JwtKey:
        with _change():
            return super().add_jwt()

    def remove_jwt(self, kid: str) -> None:
        with _change():
            super().remove_jwt(kid)

    def log_key(self) -> NoteSigner:
        return self._log_key


class KeptCas(HeldCas):
    """The CAs of one server that the authority above has signed, and their keys."""

    def __init__(self) -> None:
        super().__init__(None)

    def add(self, ca: SubordinateCa) -> None:
        with _change():
            super().add(ca)

    def remove(self, cas: Iterable[SubordinateCa]) -> None:
        with _change():
            super().remove(cas)


class KeptGuard(LogGuard):
    """The newest checkpoint that a server has signed. ``signed`` is called with each that became durable."""

    def __init__(self, signed: Callable[[Checkpoint], None]) -> None:
        super().__init__(Path("/simulated"))
        self._note: str | None = None
        self._signed = signed

    def load(self) -> Checkpoint | None:
        return None if self._note is None else Checkpoint.parse(Note.parse(self._note.encode()).text)

    def store(self, note: str) -> None:
        with _change():
            self._note = note
            self._signed(Checkpoint.parse(Note.parse(note.encode()).text))


class KeptSvid:
    """An agent's SVID and bundle on disk (NodeStore)."""

    def __init__(self) -> None:
        self._kept: tuple[X509Svid, TrustBundle] | None = None

    def load(self, trust_domain: TrustDomain) -> tuple[X509Svid, TrustBundle] | None:
        return self._kept

    def save(self, svid: X509Svid, bundle: TrustBundle) -> None:
        with _change():
            self._kept = svid, bundle

    def clear(self) -> None:
        self._kept = None
