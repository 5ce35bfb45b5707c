"""A TlsEngine that gives away what it sends and receives. Made in the place of a TlsEngine for ``insecure_capture``
alone, so that it costs other sidecars nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from meshtls.sidecar.wire_file import WireFile, WireTap
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import GenerationContext
from meshtls.tls.engine import TlsEngine
from meshtls.tls.states import EngineState
from meshtls.wire.side import Side

__all__ = ["RecordedTlsEngine"]


class RecordedTlsEngine(TlsEngine):
    """Records are given to the file before they are sent or read; those of the handshake, once it is over."""

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

        def ends() -> tuple[tuple[str, int], tuple[str, int]]:
            found = sock()
            if found is None:
                raise OSError("not connected")
            own, peer = found.getsockname(), found.getpeername()
            return (own[0], own[1]), (peer[0], peer[1])

        super().__init__(context, port=port, session_key=session_key)
        self._tap = WireTap(file, Side.SERVER if context.server_side else Side.CLIENT, ends)

    def handshake(self) -> VerifiedPeer | None:
        try:
            return super().handshake()
        finally:
            self._flush()

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
        self.unsent = unsent + TlsEngine.seal(self, data)

    def _flush(self) -> None:
        if self.state is not EngineState.HANDSHAKING:
            self._tap.flush()

    def _end_of_peer(self) -> None:
        if self.peer_closed:
            self._tap.end(self._tap.ours.other)
