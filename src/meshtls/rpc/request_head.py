"""Checks a call's headers before a task is created for it.

grpclib refuses most bad headers too, but logs a traceback for some of them at each call.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from grpclib import Status
from grpclib.metadata import decode_metadata

__all__ = ["refusal_of"]

_NEEDED = (":method", ":path", ":scheme")
#: TimeoutValue is at most 8 digits (gRPC over HTTP/2, Requests).
_TIMEOUT = re.compile(r"([0-9]{1,8})[HMSmun]")


def refusal_of(headers: Collection[tuple[str, str]]) -> tuple[Status, str] | None:
    """The status and message of a refusal; None if the headers are valid."""
    missing = set(_NEEDED)
    for name, value in headers:
        missing.discard(name)
        if name == "grpc-timeout":
            match = _TIMEOUT.fullmatch(value)
            if match is None:
                return Status.INVALID_ARGUMENT, "grpc-timeout: wanted up to 8 digits and a unit"
            if not int(match[1]):
                return Status.DEADLINE_EXCEEDED, "the call's deadline is over"
    if missing:
        return Status.INVALID_ARGUMENT, f"wanted the headers {', '.join(sorted(missing))}, got none"
    try:
        decode_metadata(headers)
    except ValueError:  # base64's own error is one
        return Status.INVALID_ARGUMENT, "metadata: wanted base64 in a key that ends in -bin"
    return None
