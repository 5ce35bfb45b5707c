"""What an HTTP/2 connection needs of its owner: a receiver for what arrives, and word of memory pressure."""

from __future__ import annotations

from typing import Protocol, TypeVar

from meshtls.wire.http2.frames import ErrorCode, ProtocolError
from meshtls.wire.http2.headers import ConnectRequest
from meshtls.wire.http2.streams import Stream

__all__ = ["Http2Events", "MemoryPressure", "StreamEvents"]
S = TypeVar("S", bound=Stream, contravariant=True)


class StreamEvents(Protocol[S]):
    """Called within ``feed``, in the order of arrival. A call may send on the connection, but must not feed it.

    Calls rather than event objects: to make, keep and dispatch objects costs a third of what a small frame costs.
    """

    def received(self, stream: S, data: memoryview | bytes, ended: bool) -> None:
        """Bytes of a stream, a view that is valid until the call returns; ``ended``: they are the last."""

    def broken(self, stream: S, code: ErrorCode, by_peer: bool) -> None:
        """The stream is gone: the peer reset it, or broke a rule on it and was sent this code.

        If the peer had ended its side before, what it sent is complete, and NO_ERROR does not take it back (RFC 9113,
        section 8.1).
        """

    def window_grew(self, stream: S | None) -> None:
        """More can be sent: on this stream, or with None on any."""


class Http2Events(StreamEvents[Stream], Protocol):
    """A tunnel's: how its streams begin."""

    def requested(self, stream: Stream, request: ConnectRequest, ended: bool) -> None:
        """A client opened a stream. ``ended``: it has nothing to send."""

    def refused(self, error: ProtocolError) -> None:
        """A client could not open stream ``error.stream_id``, which is reset with ``error.code``."""

    def answered(self, stream: Stream, status: int, ended: bool) -> None:
        """The final response to our CONNECT."""


class MemoryPressure(Protocol):
    """Whether memory for received data is short. It is shared by connections, which do not count in it themselves."""

    @property
    def tight(self) -> bool:
        """Return windows only for what the apps have taken."""
