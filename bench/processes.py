"""Starts programs, each in its own process group, and stops every one of them, whatever happens in between."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["free_ports", "running", "started"]

_PATIENCE_S = 5.0
_ROOT = Path(__file__).resolve().parent.parent
# Below the kernel's range of ports for outgoing connections, which could otherwise occupy them.
_PORTS = range(15000, 32000)


@contextmanager
def started(argv: Sequence[str], log: Path, *, piped: bool = False) -> Iterator[subprocess.Popen[str]]:
    """Run a program from the repository's root, its stderr in ``log``; with ``piped``, speak to it line by line."""
    pipe = subprocess.PIPE if piped else subprocess.DEVNULL
    with log.open("ab") as errors:
        process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe if piped else errors, stderr=errors, text=True, cwd=_ROOT, process_group=0
        )
    try:
        yield process
    finally:
        _stop(process)


@contextmanager
def running(programs: Sequence[Sequence[str]], log: Path) -> Iterator[list[int]]:
    """Run these in this order and yield their process ids."""
    with ExitStack() as stack:
        yield [stack.enter_context(started(argv, log)).pid for argv in programs]


def free_ports(count: int) -> list[int]:
    """Loopback ports without a listener."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"wanted {count} free loopback ports of {_PORTS.start} to {_PORTS.stop}, found {len(found)}")


def _stop(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    for wish in (signal.SIGTERM, signal.SIGKILL):
        # The group outlives its leader, so a worker of an ended master gets the signal too.
        try:
            os.killpg(process.pid, wish)
        except ProcessLookupError:
            break
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
