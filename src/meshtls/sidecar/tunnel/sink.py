"""What an HTTP/2 connection has to tell the one who drives it."""

from __future__ import annotations

from typing import Protocol

from meshtls.sidecar.tunnel.frames import ErrorCode, ProtocolError
from meshtls.sidecar.tunnel.headers import Request
from meshtls.sidecar.tunnel.streams import Stream

__all__ = ["Sink"]


class Sink(Protocol):
    """Called within ``feed``, in the order of what came. A call may send on the connection, and may not feed it.

    Calls and not objects of events: to make, keep and tell those apart costs a third of a small frame.
    """

    def asked(self, stream: Stream, request: Request, ended: bool) -> None:
        """A client opened a stream. ``ended``: it has nothing to send."""

    def refused(self, error: ProtocolError) -> None:
        """A client could not open stream ``error.stream_id``, which is reset with ``error.code``."""

    def answered(self, stream: Stream, status: int, ended: bool) -> None:
        """The final answer to our CONNECT."""

    def received(self, stream: Stream, data: memoryview | bytes, ended: bool) -> None:
        """Bytes of a stream, a view that is good until the call returns; ``ended``: no more will come."""

    def broken(self, stream: Stream, code: ErrorCode, by_peer: bool) -> None:
        """The stream is gone: the peer reset it, or broke a rule on it and was sent this code. What the peer had ended
        before is complete, and NO_ERROR does not take it back (RFC 9113, section 8.1).
        """

    def room(self, stream: Stream | None) -> None:
        """There may be room to send again: on this stream, or with None on any."""
