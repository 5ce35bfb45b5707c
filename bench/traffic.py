"""Bytes carried by a TCP connection, as the kernel counts them: the payload, including TLS's own bytes."""

from __future__ import annotations

import socket
import struct

__all__ = ["wire_bytes"]

# struct tcp_info of linux/tcp.h: tcpi_bytes_acked and tcpi_bytes_received.
_COUNTERS = struct.Struct("=QQ")
_AT = 120


def wire_bytes(connected: socket.socket) -> tuple[int, int]:
    """Sent and acknowledged, and received. The kernel counts a SYN and a FIN as a byte each."""
    info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _AT + _COUNTERS.size)
    sent, received = _COUNTERS.unpack_from(info, _AT)
    return sent, received
