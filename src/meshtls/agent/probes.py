"""``/live`` and ``/ready`` of an agent over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from meshtls.observe.health import answer_probe
from meshtls.observe.process_name import ProcessName
from meshtls.observe.readiness import Readiness
from meshtls.rpc.probes import serve_probes
from meshtls.rpc.sockets import tcp_listener

__all__ = ["serve_health"]

_BACKLOG = 128


@asynccontextmanager
async def serve_health(
    host: str, port: int, readiness: Callable[[], Readiness], process: ProcessName
) -> AsyncIterator[int]:
    """Respond to probes of ``process`` while the body runs. Yields the port: a free one if 0 was requested. Raises
    ConfigError.
    """
    with tcp_listener(host, port, name="health", backlog=_BACKLOG) as listener:
        async with serve_probes(listener, lambda request: answer_probe(request, readiness, process)):
            yield listener.getsockname()[1]
