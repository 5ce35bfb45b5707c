"""Makes spans from the stream of events (``observe/live.py``), and gives requests their place in a trace. Pure.

A connection's spans are made when it ends: until then neither the ID that its trace is derived from nor its outcome is
known, and most connections are not recorded. What is kept of an open one is bounded, and goes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from meshtls.observe.events import ConnectionResult, Direction, Outcome, RequestTrace, TimedPhase, Verdict
from meshtls.observe.live import Admitted, Ended, Event, Opened, PhaseEnded, RequestEnded
from meshtls.sidecar.tracing.chosen import ChosenTraces, Source
from meshtls.sidecar.tracing.contexts import Sampler, child, span_of_connection, span_of_request
from meshtls.sidecar.tracing.spans import (
    Attributes,
    Kind,
    Link,
    Span,
    attributes_of_connection,
    attributes_of_request,
    attributes_of_ruling,
    error_of,
    kind_of,
    name_of_connection,
    name_of_request,
)
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.origin import Origin
from meshtls.wire.trace_context import Headers, SpanContext, parsed, read

__all__ = ["Traced", "Tracer"]

_MS, _SECOND = 1_000_000, 1_000_000_000
#: Phases of one connection that become spans.
_MOST_PHASES = 8
_NAMES: dict[TimedPhase, str] = {"detect": "detect", "handshake": "handshake", "connect": "dial"}
_GRPC = "application/grpc"


class Traced(Protocol):
    """A connection."""

    number: int
    direction: Direction
    origin: Origin
    is_stream: bool
    peer: VerifiedPeer | None
    remote: str
    trace: SpanContext | None

    @property
    def connection_id(self) -> str: ...

    @property
    def shares_id(self) -> bool: ...


class _Phase(NamedTuple):
    """A phase that is over, in nanoseconds since 1970."""

    name: str
    began: int
    ended: int


class _Open:
    """A connection that has not ended. ``judged_from`` is when all that comes before its authorization was over."""

    __slots__ = ("admitted", "began", "judged_from", "phases", "requests")

    def __init__(self, began: int) -> None:
        self.began = self.judged_from = began
        self.phases: list[_Phase] = []
        self.admitted: int | None = None
        self.requests = 0


class Tracer:
    """An Observer. ``take`` is given each span; ``now`` says the time in nanoseconds since 1970."""

    def __init__(self, sampler: Sampler, take: Callable[[Span], None], now: Callable[[], int]) -> None:
        self._sampler = sampler
        self._chosen = ChosenTraces(sampler, now() / _SECOND)
        self._take = take
        self._now = now
        self._open: dict[int, _Open] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, RequestEnded):
            self._request(event)
        elif isinstance(event, PhaseEnded):
            self._phase(event)
        elif isinstance(event, Opened):
            self._open[event.number] = _Open(self._now())
        elif isinstance(event, Admitted):
            found = self._open.get(event.number)
            if found is not None:
                found.admitted = self._now()
        elif isinstance(event, Ended):
            self._end(event)

    # -- where a span stands --

    def outbound(self, traceparent: bytes) -> SpanContext:
        """The span of an outbound stream; ``traceparent`` is that of the inbound one before it, or b""."""
        parent = parsed(traceparent.decode("latin-1"))
        return self._sampler.root() if parent is None else child(parent)

    def of_connection(self, connection: Traced) -> SpanContext:
        """The span of an inbound connection whose handshake is over, which from now on is ``connection.trace``."""
        if connection.trace is None:
            said = connection.origin.traceparent.decode("latin-1")
            span = span_of_connection(
                self._sampler,
                connection.direction,
                connection.connection_id,
                said,
                has_client=connection.shares_id and not connection.is_stream,
            )
            connection.trace = self._decide(span, _source(connection), claimed=bool(said))
        return connection.trace

    def of_request(self, connection: Traced, headers: Headers) -> RequestTrace:
        """The span of a request that came with these headers."""
        own, found = self.of_connection(connection), self._open.get(connection.number)
        first = found is None or found.requests == 0
        if found is not None:
            found.requests += 1
        said = read(headers)
        span = span_of_request(self._sampler, said, own, first=first)
        if said is not None:
            span = self._decide(span, _source(connection), claimed=True)
        grpc = any(value.startswith(_GRPC) for name, value in headers if name == "content-type")
        return RequestTrace(span, own, grpc)

    def _decide(self, span: SpanContext, source: Source, *, claimed: bool) -> SpanContext:
        return self._chosen.decide(span, source, self._now() / _SECOND, claimed=claimed)

    # -- what a span says --

    def _phase(self, event: PhaseEnded) -> None:
        found, now = self._open.get(event.number), self._now()
        if found is None:
            return
        if found.admitted is None:
            found.judged_from = now
        if len(found.phases) < _MOST_PHASES:
            found.phases.append(_Phase(_NAMES[event.phase], now - int(event.ms * _MS), now))

    def _request(self, event: RequestEnded) -> None:
        result, trace = event.result, event.result.trace
        if trace is None:
            return
        now, outcome, span, own = self._now(), result.outcome, trace.span, trace.connection
        links = () if span.parent_id == own.span_id else (Link(own.trace_id, own.span_id),)
        if outcome.verdict is Verdict.DENIED and links and span.parent_id:
            span = self._chosen.by_chance(span)  # its flags are a claim of who is denied
        if not span.sampled:
            return
        self._take(
            Span(
                span,
                name_of_request(result),
                Kind.SERVER,
                now - int(result.total_ms * _MS),
                now,
                (*attributes_of_request(result, grpc=trace.grpc), *attributes_of_ruling(result.ruled, outcome.verdict)),
                error_of(outcome, result.detail, result.status),
                links,
            )
        )

    def _end(self, event: Ended) -> None:
        result, found = event.result, self._open.pop(event.number, None)
        span = self._context(event)
        if found is None or not span.sampled:
            return
        now, kind = self._now(), kind_of(result.direction)
        name, attributes = name_of_connection(result, carries=event.carries), tuple(attributes_of_connection(result))
        if found.requests:
            attributes = (*attributes, ("meshtls.requests", found.requests))
        error = error_of(result.outcome, result.detail)
        self._take(Span(span, name, kind, found.began, now, attributes, error))
        for one, name, more, failed in _parts(found, result, now):
            self._take(Span(child(span), name, Kind.INTERNAL, one[0], one[1], more, failed))

    def _context(self, event: Ended) -> SpanContext:
        result = event.result
        outbound = result.direction is Direction.OUTBOUND
        claimed = bool(result.traceparent) and result.tunnel and not outbound
        denied = result.verdict is Verdict.DENIED
        # An outbound connection that found no tunnel has told nobody of the context that it had for one.
        if event.trace is not None and (result.tunnel or not outbound):
            return self._chosen.by_chance(event.trace) if claimed and denied else event.trace
        # No client has a span for a tunnel as a whole, nor for a stream without a traceparent.
        has_client = event.shares_id and not event.carries and not result.tunnel
        said = result.traceparent if claimed else None
        span = span_of_connection(
            self._sampler, result.direction, result.connection_id, said or "", has_client=has_client
        )
        if outbound:
            return span
        # A peer that was denied, or whose handshake failed, has proven nothing; a stream's peer has.
        proven = not denied and (result.tunnel or result.verdict is Verdict.ALLOWED) and result.source_id is not None
        source = Source(str(result.source_id), True) if proven else Source(_host(result.remote), False)
        return self._decide(span, source, claimed=claimed)

    def __repr__(self) -> str:
        return f"<Tracer [{len(self._open)} open]>"


def _parts(
    found: _Open, result: ConnectionResult, now: int
) -> Iterator[tuple[tuple[int, int], str, Attributes, str | None]]:
    """The times, names, attributes and errors of a connection's phases. The last one, if the connection ended before
    it was admitted, is the one that failed.
    """
    denied = result.outcome is Outcome.POLICY_DENIED and found.admitted is None
    error = error_of(result.outcome, result.detail)
    failed = found.phases[-1] if found.phases and error is not None and not denied and found.admitted is None else None
    for phase in found.phases:
        yield (phase.began, phase.ended), phase.name, (), error if phase is failed else None
    if denied or found.admitted is not None:
        ended = now if found.admitted is None else found.admitted
        verdict = result.outcome.verdict
        more = tuple(attributes_of_ruling(result.ruled, verdict))
        yield (found.judged_from, ended), "authorize", more, error if denied else None


def _source(connection: Traced) -> Source:
    peer = connection.peer
    return Source(str(peer.spiffe_id), True) if peer is not None else Source(_host(connection.remote), False)


def _host(remote: str) -> str:
    return remote.rpartition(":")[0]
