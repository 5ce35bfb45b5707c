"""The facts about one process in ``/proc``, all of the same process and of the user that connected.

Pure, but for the files that it reads.

Start time and user are read again at the end: a process that has ended meanwhile, or changed its user, has no facts.
None of these reads can block, so they are made without an await.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from meshtls.agent.attest.proc_text import Life, Owners, parse_stat, parse_status
from meshtls.agent.attest.process import ProcessFiles
from meshtls.errors import AccessError
from meshtls.rpc.peer_credentials import Credentials

__all__ = ["Facts", "read_facts", "started"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about one process.

    - ``path``, ``cgroup``: None if they can't be read.
    - ``program``: a descriptor of the program's file, or None; the caller of ``read_facts`` closes it.
    """

    owners: Owners
    path: bytes | None
    program: int | None
    cgroup: bytes | None


def started(process: ProcessFiles, caller: Credentials) -> int:
    """The start time, in clock ticks. Raises AccessError if the process has ended or runs as another user."""
    life, _ = _check(process, caller)
    return life.started


def read_facts(process: ProcessFiles, caller: Credentials, start: int) -> Facts:
    """Read the facts. ``start`` is the start time as read when the caller connected. Raises AccessError."""
    path = _if_readable(lambda: process.link("exe"))
    cgroup = _if_readable(lambda: process.content("cgroup"))
    program = _if_readable(process.program)
    try:
        _, owners = _check(process, caller, start)
    except AccessError:
        if program is not None:
            os.close(program)
        raise
    return Facts(owners, path, program, cgroup)


def _check(process: ProcessFiles, caller: Credentials, start: int | None = None) -> tuple[Life, Owners]:
    try:
        life, owners = parse_stat(process.content("stat")), parse_status(process.content("status"))
    except OSError as error:
        raise AccessError(f"{caller}: it has ended, or /proc hides it: {error.strerror}") from error
    if not life.running:
        raise AccessError(f"{caller}: it has ended")
    if start not in (None, life.started):
        raise AccessError(f"{caller}: another process has its number now")
    if (owners.uid, owners.gid) != (caller.uid, caller.gid):
        raise AccessError(f"{caller}: it runs as uid {owners.uid}, gid {owners.gid} now")
    return life, owners


def _if_readable(read: Callable[[], T]) -> T | None:
    # Unreadable or missing: other facts may identify the process. Whether it still runs is checked last.
    try:
        return read()
    except OSError:
        return None
