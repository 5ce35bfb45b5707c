"""CPU time and memory of a process and its children, as the Linux kernel counts them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["cpu_seconds", "pss_kib", "rss_kib", "settled_cpu_seconds"]

_PROC = Path("/proc")
_QUIET_S = 0.05
_QUIET_SHARE = 0.02
_PATIENCE_S = 2.0


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes, their children and all their threads, including ended threads."""
    return sum(time.clock_gettime(_cpu_clock(pid)) for pid in _with_children(pids))


def settled_cpu_seconds(pids: Iterable[int], sleep: Callable[[float], None] = time.sleep) -> float:
    """The same, once the processes are idle: closing a connection is part of its cost.

    Waits 2 s at most.
    """
    pids = list(pids)
    spent = cpu_seconds(pids)
    for _ in range(int(_PATIENCE_S / _QUIET_S)):
        sleep(_QUIET_S)
        before, spent = spent, cpu_seconds(pids)
        if spent - before < _QUIET_S * _QUIET_SHARE:
            break
    return spent


def pss_kib(pids: Iterable[int]) -> int:
    """Proportional set size in KiB: a page that n processes share counts 1/n for each."""
    return sum(_mapped_kib(pid, "Pss:") for pid in _with_children(pids))


def rss_kib(pids: Iterable[int]) -> int:
    """Resident set size in KiB: each shared page counts in full, as on a machine with no other process that has it."""
    return sum(_mapped_kib(pid, "Rss:") for pid in _with_children(pids))


def _cpu_clock(pid: int) -> int:
    # The clock of clock_getcpuclockid(3) on Linux: nanoseconds, while /proc/PID/stat counts in ticks of 10 ms.
    return (~pid << 3) | 2


def _mapped_kib(pid: int, field: str) -> int:
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ValueError(f"/proc/{pid}/smaps_rollup: wanted a line that starts with {field}, got none")


def _with_children(pids: Iterable[int]) -> list[int]:
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for children in (_PROC / str(pid) / "task").glob("*/children"):
            waiting += map(int, children.read_text().split())
    return found
