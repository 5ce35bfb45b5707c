"""Ports for programs that don't report the port that they got."""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import SystemRandom

__all__ = ["free_ports"]

#: Ports that this process has given to a test.
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Different ports without a listener a moment ago, which no other test gets as long as this process runs.

    They are below the range of outgoing connections, any of which could be taken before the program listens.
    """
    found: list[int] = []
    while len(found) < count:
        port = SystemRandom().randrange(10_240, 32_768)
        if port not in _given and _reserved(port):
            _given.add(port)
            with suppress(OSError), socket.create_server(("127.0.0.1", port)):
                found.append(port)
    return found


def _reserved(port: int) -> bool:
    """Reserve it among all processes that run tests: each locks its ports' bytes of one file until it ends.

    A lock comes before the look whether the port is free, since that listens on the port for a moment.
    """
    try:
        fcntl.lockf(_reservations(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    return True


@cache
def _reservations() -> int:
    """The file, which stays open: closing it would give up the locks."""
    file = Path(tempfile.gettempdir()) / f"meshtls-test-ports-{os.getuid()}"
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
