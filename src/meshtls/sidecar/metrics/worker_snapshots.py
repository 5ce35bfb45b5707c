"""The metrics of several worker processes, each written where all of them can read it, so that one scrape has the sum.

The parent makes two memory files for each worker before it forks. A worker writes its snapshots to the two in turn,
with a sequence number and a checksum: a reader takes the newest that is whole, whenever the writer was killed, without
a lock that could be left behind. A worker that takes the place of one that ended begins with its counters.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import NamedTuple

from meshtls.observe.metrics import Snapshot, decode, encode, merge

__all__ = ["WorkerSnapshots"]

#: Sequence number, process, length, checksum of the content.
_HEAD = struct.Struct("<QQQI")


class _Written(NamedTuple):
    """What a worker wrote last."""

    sequence: int
    pid: int
    snapshot: Snapshot


class WorkerSnapshots:
    """A place for each of ``count`` workers, which are numbered from 1. Made in the parent."""

    def __init__(self, count: int) -> None:
        self._places = [
            tuple(os.memfd_create("meshtls-metrics", os.MFD_CLOEXEC) for _ in range(2)) for _ in range(count)
        ]
        self._mine = -1
        self._sequence = 0
        #: The counters of those that had this place before.
        self._before = Snapshot()

    def begin(self, number: int) -> None:
        """In a worker, before anything is counted: this is its place."""
        self._mine = number - 1
        written = self._newest(self._mine)
        if written is not None:
            self._before, self._sequence = written.snapshot.lasting(), written.sequence
        self.publish(Snapshot())

    def publish(self, own: Snapshot) -> None:
        """In a worker: show the others what it has counted."""
        content = encode(merge([own, self._before]))
        self._sequence += 1
        place = self._places[self._mine][self._sequence % 2]
        written = memoryview(_HEAD.pack(self._sequence, os.getpid(), len(content), zlib.crc32(content)) + content)
        at = 0
        while at < len(written):
            at += os.pwrite(place, written[at:], at)

    def combined(self, own: Snapshot) -> Snapshot:
        """In a worker: the sum of all, of which ``own`` is as of now."""
        self.publish(own)
        parts = [own, self._before]
        for at in range(len(self._places)):
            written = self._newest(at) if at != self._mine else None
            if written is not None:
                parts.append(written.snapshot if _lives(written.pid) else written.snapshot.lasting())
        return merge(parts)

    def close(self) -> None:
        """In the parent."""
        for place in self._places:
            for file in place:
                os.close(file)
        self._places.clear()

    def _newest(self, at: int) -> _Written | None:
        found = [written for file in self._places[at] if (written := _read(file)) is not None]
        return max(found, key=lambda one: one.sequence, default=None)


def _read(file: int) -> _Written | None:
    """None where nothing was written, or not to the end."""
    data = os.pread(file, os.fstat(file).st_size, 0)
    if len(data) < _HEAD.size:
        return None
    sequence, pid, length, checksum = _HEAD.unpack_from(data)
    content = data[_HEAD.size : _HEAD.size + length]
    if len(content) != length or zlib.crc32(content) != checksum:
        return None
    return _Written(sequence, pid, decode(content))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
