"""The credentials of a Unix socket's peer, as the kernel reports them."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

__all__ = ["Credentials", "credentials_of"]

_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The process that connected. ``pid`` is 0 for a process of a PID namespace that is not visible to us."""

    pid: int
    uid: int
    gid: int

    def __str__(self) -> str:
        return f"pid {self.pid} (uid {self.uid}, gid {self.gid})"


def credentials_of(connection: socket.socket) -> Credentials:
    """The peer's credentials at the time of its connect (unix(7), SO_PEERCRED)."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Credentials(*_CREDENTIALS.unpack(data))
