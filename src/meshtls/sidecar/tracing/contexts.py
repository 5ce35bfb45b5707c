"""Which trace a connection and a request belong to, and whether it is recorded. Pure.

Two sidecars put one connection into one trace. A stream of a tunnel has a ``traceparent`` in its CONNECT. Any other
connection with TLS has nothing that could carry one, but an ID that both sides know (the ClientHello's random): from it
each derives the trace's ID and that of the client's span, which the server's span names as its parent. These IDs are
as public as what they are derived from.

A request with a ``traceparent`` belongs to its caller's trace. Without one, the first request of a connection belongs
to the connection's trace, and each further one begins its own, so that a connection of hours is no trace without end.

Sampling is by the parent where there is one, else by the trace's ID: both sides with the same share decide alike. How
far a caller may choose so is another matter (``chosen.py``).
"""

from __future__ import annotations

import os
from hashlib import sha256

from meshtls.observe.events import Direction
from meshtls.wire.trace_context import RANDOM, SAMPLED, SpanContext, TraceContext, parsed

__all__ = ["Sampler", "child", "span_of_connection", "span_of_request"]

_TRACE_BYTES, _SPAN_BYTES = 16, 8
#: Of a trace's ID: those that are random by W3C Trace Context, Level 2.
_RANDOM_BYTES = 7


class Sampler:
    """Records ``share``, from 0 to 1, of the traces that begin here."""

    def __init__(self, share: float) -> None:
        self.share = share
        self._below = round(share * (1 << 8 * _RANDOM_BYTES))

    def flags(self, trace_id: bytes) -> int:
        """The flags of a trace that begins with this ID."""
        sampled = int.from_bytes(trace_id[-_RANDOM_BYTES:]) < self._below
        return RANDOM | SAMPLED if sampled else RANDOM

    def root(self) -> SpanContext:
        """The first span of a trace."""
        trace_id = os.urandom(_TRACE_BYTES)
        return SpanContext(trace_id, os.urandom(_SPAN_BYTES), flags=self.flags(trace_id))


def child(of: SpanContext | TraceContext) -> SpanContext:
    """A new span below this one, in its trace."""
    return SpanContext(of.trace_id, os.urandom(_SPAN_BYTES), of.span_id, of.flags, of.state)


def span_of_connection(
    sampler: Sampler, direction: Direction, connection_id: str, traceparent: str, *, has_client: bool
) -> SpanContext:
    """``traceparent``: of a stream's CONNECT, as the peer sent it. ``has_client``: it is inbound with its own TLS, and
    the client may have a span for it.
    """
    if traceparent:
        parent = parsed(traceparent)
        return sampler.root() if parent is None else child(parent)
    digest = sha256(b"meshtls trace of connection " + connection_id.encode()).digest()
    trace_id, client = digest[:_TRACE_BYTES], digest[_TRACE_BYTES : _TRACE_BYTES + _SPAN_BYTES]
    flags = sampler.flags(trace_id)
    if direction is Direction.OUTBOUND:
        return SpanContext(trace_id, client, flags=flags)
    return SpanContext(trace_id, os.urandom(_SPAN_BYTES), client if has_client else b"", flags)


def span_of_request(
    sampler: Sampler, said: TraceContext | None, connection: SpanContext, *, first: bool
) -> SpanContext:
    """``said`` is what the request's headers say. ``first``: of its connection."""
    if said is not None:
        return child(said)
    return child(connection) if first else sampler.root()
