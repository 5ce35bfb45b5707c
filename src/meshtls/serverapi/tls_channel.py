"""A grpclib channel over TLS that closes its socket before ``async with`` returns.

grpclib closes without waiting, while TLS still exchanges close_notify. An event loop that ends in between, as that of a
command does, would leave the socket open.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from grpclib.client import Channel
from grpclib.protocol import H2Protocol

__all__ = ["TlsChannel"]

_CLOSE_SECONDS = 1.0


class TlsChannel(Channel):
    """``async with`` ends with ``aclose``."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close, and wait until the connection is closed, for at most one second."""
        protocol = self._protocol
        self.close()
        if isinstance(protocol, _Protocol):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await protocol.lost.wait()

    def _protocol_factory(self) -> H2Protocol:
        return _Protocol(super()._protocol_factory())


class _Protocol(H2Protocol):
    def __init__(self, plain: H2Protocol) -> None:
        super().__init__(plain.handler, plain.config, plain.h2_config)
        self.lost = asyncio.Event()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.lost.set()
