"""Ports for programs that can't be asked which one they were given."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import SystemRandom

__all__ = ["free_ports"]


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago; all different.

    Below those that systems give to outgoing connections: one of these could be taken before it is listened on.
    """
    found: dict[int, None] = {}
    while len(found) < count:
        port = SystemRandom().randrange(10_240, 32_768)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found[port] = None
    return list(found)
