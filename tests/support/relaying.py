"""Ends and relays on the running loop's reactor."""

from __future__ import annotations

import socket

from meshtls.sidecar.connection import Flow
from meshtls.sidecar.ends import End, PlainEnd, TlsEnd
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.relay import relay
from meshtls.tls.engine import TlsEngine

__all__ = ["plain_end", "relayed", "tls_end"]


def plain_end(sock: socket.socket, name: str, first: bytes = b"") -> PlainEnd:
    return PlainEnd(sock, name, running_reactor().buffers, first)


def tls_end(sock: socket.socket, engine: TlsEngine, name: str) -> TlsEnd:
    return TlsEnd(sock, engine, name, running_reactor().buffers)


async def relayed(opener: End, other: End, flow: Flow, idle_timeout: float) -> None:
    """``relay``; raises as that does."""
    await relay(opener, other, flow, idle_timeout, running_reactor())
