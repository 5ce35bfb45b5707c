"""The tunnels that peers have into one inbound listener, each in the task of the connection that it rides on."""

from __future__ import annotations

import asyncio

from meshtls.observe.events import Outcome
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.tunnel.admission import Admission, AdmissionDeps
from meshtls.sidecar.tunnel.server import TunnelServer
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.engine import TlsEngine

__all__ = ["Tunnels"]


class Tunnels:
    """The tunnels that peers have into one inbound listener."""

    def __init__(self, deps: AdmissionDeps) -> None:
        self._deps = deps
        self.live: set[TunnelServer] = set()
        self._draining = False

    async def serve(self, tunnel: Connection, engine: TlsEngine, peer: VerifiedPeer) -> None:
        """Serve the streams of an admitted peer until the tunnel ends. Raises EndedError if it broke."""
        ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def on_end(error: Exception | None) -> None:
            if not ended.done():
                ended.set_result(error)

        async with asyncio.TaskGroup() as dials:
            admission = Admission(self._deps, tunnel, engine, peer, dials, on_end)
            error = await self._run(admission.server, tunnel, ended)
        if error is not None:
            raise error

    async def _run(
        self, server: TunnelServer, tunnel: Connection, ended: asyncio.Future[Exception | None]
    ) -> Exception | None:
        self.live.add(server)
        try:
            server.start()
            if self._draining:
                server.drain()
            return await ended
        finally:
            self.live.discard(server)
            server.break_off(tunnel.ended_by or EndedError(Outcome.RESET, "the tunnel ended"))

    def drain(self) -> None:
        """Ask every peer to open no more streams; each tunnel ends with its last."""
        self._draining = True
        for server in list(self.live):
            server.drain()

    def __repr__(self) -> str:
        return f"<Tunnels {self._deps.config.listen} [{len(self.live)} live]>"
