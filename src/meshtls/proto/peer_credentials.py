"""Who is at the other end of a Unix socket, by the kernel's word."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

__all__ = ["Credentials", "credentials_of"]

_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the kernel says of the process that connected; ``pid`` is 0 where we can't see its namespace."""

    pid: int
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"pid {self.pid} (uid {self.uid}, gid {self.gid})"


def credentials_of(connection: socket.socket) -> Credentials:
    """The peer's as they were at its connect (unix(7), SO_PEERCRED)."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Credentials(*_CREDENTIALS.unpack(data))
