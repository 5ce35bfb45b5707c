"""A line of a sidecar's access log, read as the request that was judged. Pure.

A line with ``method`` is an HTTP request, any other a connection. What the log does not have is not known: headers,
tokens, the server name of a ClientHello, and the address that was connected to.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

import msgspec

from meshtls.errors import InvalidSpiffeIdError
from meshtls.policy.request import HttpRequest, Request
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

__all__ = ["LONGEST_LINE", "LONGEST_PATH", "Recorded", "Skipped", "read_line"]

#: Bytes. The longest that a sidecar writes has a path of 2,048 characters and texts that quote it.
LONGEST_LINE = 1 << 16
#: Characters of a path, at which the log cuts it.
LONGEST_PATH = 2048
#: Policies had allowed the connection, or the request, before the app could not be reached.
_ALLOWED_THEN_FAILED = ("CONNECT_FAILED", "APP_FAILED")
_DENIED = ("POLICY_DENIED", "PLAINTEXT_REFUSED")
#: A path or a token that was refused before a policy was asked.
_NOT_BY_POLICY = (400, 401)


class Skipped(Enum):
    """Why a line is no request to judge."""

    BROKEN = "broken"
    OUTBOUND = "outbound"
    NOT_JUDGED = "not judged by a policy"


class Recorded(msgspec.Struct, frozen=True):
    """What was judged, and whether it was allowed. ``cut``: its path is longer than the log has it."""

    request: Request
    allowed: bool
    time: str
    cut: bool = False


class _Line(msgspec.Struct, frozen=True):
    direction: str
    verdict: str
    outcome: str
    time: str = ""
    source_id: str | None = None
    destination_id: str | None = None
    remote: str = ""
    tls_version: str | None = None
    port: int | None = None
    security: str | None = None
    method: str | None = None
    host: str = ""
    path: str = ""
    status: int | None = None


_DECODER = msgspec.json.Decoder(_Line)


def read_line(line: bytes) -> Recorded | Skipped:
    """Read one line, with or without its line feed."""
    if len(line) > LONGEST_LINE:
        return Skipped.BROKEN
    try:
        found = _DECODER.decode(line)
        if found.direction == "outbound":
            return Skipped.OUTBOUND
        source = None if found.source_id is None else _id(found.source_id)
        destination = None if found.destination_id is None else _id(found.destination_id)
    except (msgspec.DecodeError, InvalidSpiffeIdError, UnicodeDecodeError):
        return Skipped.BROKEN
    if found.direction != "inbound" or (found.port is not None and not 1 <= found.port <= 65535):
        return Skipped.BROKEN
    allowed = found.verdict == "allowed" or found.outcome in _ALLOWED_THEN_FAILED
    if not allowed and found.outcome not in _DENIED:
        return Skipped.NOT_JUDGED
    if destination is None or (found.method is not None and found.status in _NOT_BY_POLICY and not allowed):
        return Skipped.NOT_JUDGED
    if source is None and found.security != "plaintext" and found.tls_version is not None:
        return Skipped.NOT_JUDGED
    path = found.path
    host, colon, _ = found.remote.rpartition(":")
    request = Request(
        None if source is None or found.security == "plaintext" else _peer(source),
        destination,
        port=found.port,
        source_ip=host.removeprefix("[").removesuffix("]") if colon else found.remote or None,
        http=None if found.method is None else HttpRequest(found.method, found.host, path),
    )
    return Recorded(request, allowed, found.time, cut=len(path) >= LONGEST_PATH and "?" not in path)


@lru_cache(4096)
def _id(text: str) -> SpiffeId:
    return SpiffeId.parse(text)


@lru_cache(4096)
def _peer(spiffe_id: SpiffeId) -> VerifiedPeer:
    return VerifiedPeer(spiffe_id, ())
