"""W3C Trace Context (Level 2): the headers ``traceparent`` and ``tracestate``. Pure.

What comes is a claim of the caller's that nothing proves, and nothing but telemetry goes by it. A malformed
``traceparent`` counts as none, and ``tracestate`` with it: a new trace begins. A malformed ``tracestate`` is dropped
alone (sections 3.2 and 3.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["RANDOM", "SAMPLED", "Headers", "SpanContext", "TraceContext", "parsed", "passed_on", "read"]

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
#: Bits of the flags: the trace is recorded; the last seven bytes of its ID are random (section 3.2).
SAMPLED, RANDOM = 0x01, 0x02

#: Version ff is invalid. A later version may append fields, each after a dash, and is read as far as 00 goes.
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-[\x20-\x7e]{0,256})?"
)
_VERSION = "00"
#: One member (section 3.3), without the spaces around it: a key and a value of up to 256 characters each.
_MEMBER = re.compile(r"(?P<key>[a-z0-9][a-z0-9_*/@-]{0,255})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{1,256}")
_MOST_MEMBERS = 32
#: Characters of a whole list; at least 512 should be passed on (section 3.3).
_MOST_STATE = 4096

Headers = tuple[tuple[str, str], ...]


class TraceContext(NamedTuple):
    """What a caller sent: ``trace_id`` has 16 bytes, ``span_id``, the caller's, 8. ``state`` is its tracestate."""

    trace_id: bytes
    span_id: bytes
    flags: int = 0
    state: str = ""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)


class SpanContext(NamedTuple):
    """Where a span of our own stands: in which trace, and below which span; ``parent_id`` b"" is a trace's first."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes = b""
    flags: int = 0
    state: str = ""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """The header that makes the receiver's spans children of this one."""
        return f"{_VERSION}-{self.trace_id.hex()}-{self.span_id.hex()}-{self.flags:02x}"


def read(headers: Iterable[tuple[str, str]]) -> TraceContext | None:
    """What a request's headers say, with names in lower case; None without a valid ``traceparent``, or with two."""
    parents: list[str] = []
    states: list[str] = []
    for name, value in headers:
        if name == TRACEPARENT:
            parents.append(value)
        elif name == TRACESTATE:
            states.append(value)
    return parsed(parents[0], ",".join(states)) if len(parents) == 1 else None


def parsed(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """The context in these values; None for a malformed ``traceparent``."""
    found = _TRACEPARENT.fullmatch(traceparent.strip(" \t"))
    if found is None or (found["version"] == _VERSION and found["more"] is not None):
        return None
    flags = int(found["flags"], 16) & (SAMPLED | RANDOM)
    return TraceContext(bytes.fromhex(found["trace"]), bytes.fromhex(found["span"]), flags, _state(tracestate))


def passed_on(headers: Headers, span: SpanContext) -> Headers:
    """The headers for the app, which make its spans children of this one."""
    kept = tuple([one for one in headers if one[0] not in (TRACEPARENT, TRACESTATE)])
    added = ((TRACEPARENT, span.traceparent),)
    return (*kept, *added, (TRACESTATE, span.state)) if span.state else (*kept, *added)


def _state(text: str) -> str:
    """The list as it is passed on; empty where it is malformed. Empty members are allowed, and left out."""
    if len(text) > _MOST_STATE:
        return ""
    members = [one for one in (part.strip(" \t") for part in text.split(",")) if one]
    found = [_MEMBER.fullmatch(one) for one in members]
    keys = {one["key"] for one in found if one is not None}
    return ",".join(members) if len(keys) == len(members) <= _MOST_MEMBERS else ""
