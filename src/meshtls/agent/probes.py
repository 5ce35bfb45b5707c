"""``/live`` and ``/ready`` of an agent over HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meshtls.errors import ConfigError
from meshtls.observe.health import answer_probe
from meshtls.observe.readiness import Readiness
from meshtls.rpc.probes import serve_probes

__all__ = ["serve_health"]

_BACKLOG = 128


@asynccontextmanager
async def serve_health(host: str, port: int, readiness: Callable[[], Readiness]) -> AsyncIterator[int]:
    """Respond to probes while the body runs. Yields the port: a free one if 0 was requested. Raises ConfigError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(f"health {host}:{port}: could not listen there: {error.strerror or error}") from error
    with listener:
        listener.setblocking(False)
        async with serve_probes(listener, lambda request: answer_probe(request, readiness)):
            yield listener.getsockname()[1]
