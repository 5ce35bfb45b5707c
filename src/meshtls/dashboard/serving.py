"""Serves the dashboard on a loopback address, with uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn

from meshtls.address import Address, is_loopback
from meshtls.dashboard.app import dashboard_app
from meshtls.dashboard.collect import Collector
from meshtls.dashboard.protocol import BoundedProtocol
from meshtls.errors import ConfigError
from meshtls.rpc.sockets import tcp_listener
from meshtls.workload.background import in_background

__all__ = ["read_token", "serving_dashboard"]

_SHORTEST_TOKEN, _LONGEST_TOKEN = 16, 4096


class _Server(uvicorn.Server):
    """Leaves signals to the process, which ends everything in its own order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving_dashboard(collector: Collector, listen: Address, token: str | None = None) -> AsyncIterator[Address]:
    """Collect and serve while the body runs; gives the bound address. Raises ConfigError."""
    if listen.host == "localhost" or not is_loopback(listen.host):
        raise ConfigError(
            f"--listen: wanted an IP address of this machine alone, such as 127.0.0.1:0 or [::1]:0, got {listen}:"
            " whoever can connect there can read every identity and connection of the mesh"
        )
    with tcp_listener(listen.host, listen.port, name="--listen") as listener:
        bound = Address(*listener.getsockname()[:2])
        server = _Server(
            uvicorn.Config(
                dashboard_app(collector, bound, token),
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
            )
        )
        async with collector.running(), in_background(_serve(server, listener), "dashboard"):
            yield bound


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    """Until cancelled; then open requests have a second to end."""
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await asyncio.wait([serving])
        raise


def read_token(file: Path) -> str:
    """The token in a file that its owner alone may read. Raises ConfigError, which never quotes it."""
    try:
        mode, text = file.stat().st_mode, file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--token-file {file}: wanted a text to read: {error}") from error
    if mode & 0o077:
        raise ConfigError(f"--token-file {file}: wanted mode 0600, got {mode & 0o777:04o}: others may read it")
    if (
        not _SHORTEST_TOKEN <= len(text) <= _LONGEST_TOKEN
        or not text.isascii()
        or not text.isprintable()
        or " " in text
    ):
        raise ConfigError(
            f"--token-file {file}: wanted one word of {_SHORTEST_TOKEN} to {_LONGEST_TOKEN} printable ASCII characters"
        )
    return text
