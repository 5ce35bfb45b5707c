"""Connects to the app without waiting, where that can be: on loopback a connection is there when ``connect`` is."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket

from meshtls.sidecar.address import Address

__all__ = ["LoopbackDialler"]

_CONNECTED = (0, errno.EISCONN)
# A type with this flag is born non-blocking, which saves a call into the kernel; where there is none, it is made so.
_NONBLOCK: int = getattr(socket, "SOCK_NONBLOCK", 0)


class LoopbackDialler:
    """Dials one address; only a number of this machine's own is ever dialled."""

    def __init__(self, address: Address) -> None:
        self._place = (address.host, address.port)
        self._family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._is_loopback = False
        with contextlib.suppress(ValueError):
            self._is_loopback = ipaddress.ip_address(address.host).is_loopback

    def at_once(self) -> socket.socket | None:
        """A connected socket, or None where the address has to be waited for, or asked again why it can't be had."""
        if not self._is_loopback:
            return None
        try:
            return self._connected(socket.socket(self._family, socket.SOCK_STREAM | _NONBLOCK))
        except OSError:
            return None

    def _connected(self, sock: socket.socket) -> socket.socket | None:
        try:
            if not _NONBLOCK:
                sock.setblocking(False)
            code = sock.connect_ex(self._place)
            if code == errno.EINPROGRESS:
                code = sock.connect_ex(self._place)  # tells one that is under way from one that is there
            if code in _CONNECTED:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
        except OSError:
            sock.close()
            raise
        sock.close()
        return None
