"""Shared by friendly clients and strangers at an HTTP/2 listener without client authentication."""

from __future__ import annotations

from enum import Enum

from bench.raw_http2 import DATA, GOAWAY, HEADERS, PING, RST_STREAM, RawHttp2

__all__ = ["ACK", "Ending", "ending_of"]

ACK = 1


class Ending(Enum):
    """How the server's side of the exchange ends."""

    ANSWERED = "a byte of the app came"
    REFUSED = "the call was refused: by a status, an error page or RST_STREAM"
    CUT = "the connection was ended"
    IGNORED = "everything was read, and a PING answered"


async def ending_of(client: RawHttp2) -> Ending:
    """Read until one of the endings. An error page is not from the app."""
    while (found := await client.next()) is not None and found.kind != GOAWAY:
        if found.kind == HEADERS:
            headers = client.decoded(found)
            if headers.get(":status") != "200" or "grpc-status" in headers:
                return Ending.REFUSED
        elif found.kind == DATA and found.payload:
            return Ending.ANSWERED
        elif found.kind == RST_STREAM:
            return Ending.REFUSED
        elif found.kind == PING and found.flags & ACK:
            return Ending.IGNORED
    return Ending.CUT
