"""Ends live connections of ``listen`` and ``dial`` whose peer is no longer trusted when a source's trust changes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from meshtls.logs import logger
from meshtls.svid.context import WithdrawableSource, X509ContextSource
from meshtls.svid.verifier import CurrentVerifier, trust_changes
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.protocol import TlsProtocol

__all__ = ["LiveConnections"]

log = logger("meshtls.tls")


class LiveConnections:
    """Connections over one source, with a verified peer each. ``verifier`` is that of their handshakes.

    A read or write on a connection that is ended raises why its peer is refused: an end of file would look like a
    complete answer. A source that can't change ends none.
    """

    def __init__(self, source: X509ContextSource, verifier: CurrentVerifier) -> None:
        self._source = source
        self._verifier = verifier
        self._open: dict[TlsProtocol, VerifiedPeer] = {}
        self._following: asyncio.Task[None] | None = None

    def add(self, protocol: TlsProtocol) -> None:
        """Watch this connection, whose handshake is done, until it is closed."""
        if not isinstance(self._source, WithdrawableSource) or protocol.closed.done():
            return
        self._open[protocol] = protocol.ready.result().get_extra_info("peer")
        protocol.closed.add_done_callback(lambda _: self._discard(protocol))
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow(self._source))
        # The trust may have changed since its handshake.
        self._check(protocol)

    def _discard(self, protocol: TlsProtocol) -> None:
        self._open.pop(protocol, None)
        if not self._open and self._following is not None:
            self._following.cancel()
            self._following = None

    async def _follow(self, source: WithdrawableSource) -> None:
        async with aclosing(trust_changes(source, self._verifier)) as changes:
            async for _ in changes:
                for protocol in list(self._open):
                    self._check(protocol)

    def _check(self, protocol: TlsProtocol) -> None:
        newest = self._verifier.newest
        refusal = newest.distrust(self._open[protocol]) if newest is not None else None
        if refusal is not None:
            log.warning("live connection ended: %s", refusal)
            del self._open[protocol]
            protocol.cut(refusal)

    def __repr__(self) -> str:
        return f"<LiveConnections [{len(self._open)}]>"
