"""Ports for programs that don't report the port that they got."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import SystemRandom

__all__ = ["free_ports"]


def free_ports(count: int) -> list[int]:
    """Different ports without a listener a moment ago.

    They are below the range of outgoing connections, any of which could be taken before the program listens.
    """
    found: dict[int, None] = {}
    while len(found) < count:
        port = SystemRandom().randrange(10_240, 32_768)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found[port] = None
    return list(found)
