"""TLS engines that give away what they send and receive. Made in the place of others for ``insecure_capture`` alone,
so that it costs other sidecars nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial

from meshtls.sidecar.wire_file import WireFile, WireTap, ends_of
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import GenerationContext
from meshtls.tls.engine import TlsEngine
from meshtls.tls.origination import OriginatedTls, OriginationContexts
from meshtls.tls.records import TlsRecords
from meshtls.tls.states import EngineState
from meshtls.wire.side import Side

__all__ = ["RecordedOriginatedTls", "RecordedTlsEngine"]


class _Recorded(TlsRecords):
    """Records are given to the file before they are sent or read; those of the handshake, once it is over."""

    __slots__ = ()

    _tap: WireTap

    def feed(self, data: bytes) -> None:
        if data:
            self._tap.received(bytes(data))
            self._flush()
        super().feed(data)

    def open(self, cipher: memoryview, into: memoryview) -> int:
        self._tap.received(bytes(cipher))
        self._tap.flush()
        try:
            return super().open(cipher, into)
        finally:
            self._end_of_peer()

    def take_in(self) -> None:
        try:
            super().take_in()
        finally:
            self._end_of_peer()

    def outgoing(self) -> bytes:
        data = super().outgoing()
        if data:
            self._tap.sent(data)
            self._flush()
            if self.state in (EngineState.WE_CLOSED, EngineState.CLOSED):
                self._tap.end(self._tap.ours)
        return data

    def seal(self, data: bytes | bytearray | memoryview) -> bytes:
        # ``outgoing`` gives what it returns to the file: take what is unsent past it.
        unsent, self.unsent = self.unsent, b""
        try:
            sealed = unsent + super().seal(data)
        except BaseException:
            self.unsent = unsent + self.unsent
            raise
        if sealed:
            self._tap.sent(sealed)
            self._tap.flush()
        return sealed

    def write(self, data: bytes | bytearray | memoryview) -> None:
        unsent, self.unsent = self.unsent, b""
        self.unsent = unsent + super().seal(data)

    def _flush(self) -> None:
        if self.state is not EngineState.HANDSHAKING:
            self._tap.flush()

    def _end_of_peer(self) -> None:
        if self.peer_closed:
            self._tap.end(self._tap.ours.other)


class RecordedTlsEngine(_Recorded, TlsEngine):
    """The engine of a connection with a peer of the mesh."""

    __slots__ = ("_tap",)

    def __init__(
        self,
        context: GenerationContext,
        file: WireFile,
        sock: Callable[[], socket.socket | None],
        *,
        port: int | None = None,
        session_key: str | None = None,
    ) -> None:
        """``sock``: the connection's, asked for with its first bytes."""
        TlsEngine.__init__(self, context, port=port, session_key=session_key)
        self._tap = WireTap(file, Side.SERVER if context.server_side else Side.CLIENT, partial(ends_of, sock))

    def handshake(self) -> VerifiedPeer | None:
        try:
            return super().handshake()
        finally:
            self._flush()


class RecordedOriginatedTls(_Recorded, OriginatedTls):
    """The engine of a connection with a server outside of the mesh."""

    __slots__ = ("_tap",)

    def __init__(self, contexts: OriginationContexts, file: WireFile, sock: Callable[[], socket.socket | None]) -> None:
        """``sock`` as for ``RecordedTlsEngine``. Raises ConfigError as ``OriginatedTls`` does."""
        OriginatedTls.__init__(self, contexts)
        self._tap = WireTap(file, Side.CLIENT, partial(ends_of, sock))

    def handshake(self) -> tuple[tuple[str, str], ...] | None:
        try:
            return super().handshake()
        finally:
            self._flush()
