"""The SHA-256 of callers' programs, at a bounded cost.

A user chooses the size of a program, and a sparse file of any size costs that user nothing. So programs above a limit
have no digest; a file is read in steps, so that another party's program need not wait for a longer one and reading
stops when the caller has gone; and a digest is cached as long as the file does not change.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Hashable
from weakref import WeakValueDictionary

from meshtls.agent.attest.fair_threads import FairThreads
from meshtls.agent.attest.process import reopened
from meshtls.memo import keep_newest

__all__ = ["DEFAULT_SIZE_LIMIT", "Digests", "UnhashedError"]

#: Bytes: 512 MiB.
DEFAULT_SIZE_LIMIT = 2**29
_THREADS = 4
_STEP = 2**24
_READ = 2**20
_MOST_REMEMBERED = 1024
#: A file that changed less than this ago may change again without a new time stamp: file systems' clocks are coarse.
_SETTLED_NS = 2 * 10**9
#: Niceness of a hashing thread: all other work comes first.
_NICE = 10

_File = tuple[int, int, int, int, int]


class UnhashedError(Exception):
    """This program has no digest; the text says why."""


class Digests:
    """Computes and caches digests. ``limit`` is in bytes; 0 for no limit, negative for no digests at all."""

    def __init__(self, limit: int = DEFAULT_SIZE_LIMIT) -> None:
        self._limit = limit
        self._known: OrderedDict[_File, str] = OrderedDict()
        self._threads = FairThreads(_THREADS, share=1)
        #: A party reads each file once, however many of its callers wait for it.
        self._locks: WeakValueDictionary[tuple[Hashable, _File], asyncio.Lock] = WeakValueDictionary()

    async def digest(self, program: int, party: Hashable) -> str:
        """The digest, hexadecimal, of the file behind this descriptor.

        Raises UnhashedError, and OSError if the file can't be read.
        """
        if self._limit < 0:
            raise UnhashedError("workload_size_limit says that no program is hashed")
        status = os.fstat(program)
        if 0 < self._limit < status.st_size:
            raise UnhashedError(f"it has {status.st_size} bytes, and workload_size_limit is {self._limit}")
        file = _file(status)
        lock = self._locks.setdefault((party, file), asyncio.Lock())
        async with lock:
            digest = self._known.get(file)
            if digest is None:
                digest = await self._threads.run(party, _Reading(program, file))
                *_, changed = file
                if changed <= time.time_ns() - _SETTLED_NS:
                    keep_newest(self._known, file, digest, _MOST_REMEMBERED)
            else:
                self._known.move_to_end(file)
            return digest

    def __repr__(self) -> str:
        return f"<Digests [{len(self._known)} known] {self._threads!r}>"


class _Reading:
    """Work for FairThreads: reads one file to its end."""

    def __init__(self, program: int, file: _File) -> None:
        self._file = file
        self._program = os.dup(program)
        self._descriptor: int | None = None
        self._hash = hashlib.sha256()
        self._read = 0

    def step(self) -> str | None:
        # On Linux this is the niceness of this thread alone, which does nothing else.
        os.nice(_NICE)
        if self._descriptor is None:
            self._descriptor = reopened(self._program)
        end = self._read + _STEP
        *_, size, _, _ = self._file
        while self._read < end:
            part = os.read(self._descriptor, _READ)
            self._hash.update(part)
            self._read += len(part)
            if self._read > size or (not part and _file(os.fstat(self._descriptor)) != self._file):
                raise UnhashedError("it changed while it was read")
            if not part:
                return self._hash.hexdigest()
        return None

    def close(self) -> None:
        os.close(self._program)
        if self._descriptor is not None:
            os.close(self._descriptor)


def _file(status: os.stat_result) -> _File:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
