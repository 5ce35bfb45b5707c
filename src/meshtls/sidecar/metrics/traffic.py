"""Counts connections and HTTP requests from the stream of events (``observe/live.py``). Pure.

The children of a pair of peers are looked up once and kept, so that an event costs a look-up or two. What is kept is
bounded, and dropping it loses nothing: the counts are in the families.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from meshtls.memo import Memo
from meshtls.observe.events import (
    Direction,
    Outcome,
    RequestContext,
    RequestResult,
    Ruled,
    Security,
    Verdict,
)
from meshtls.observe.live import Admitted, Ended, Event, Opened, PhaseEnded, RequestEnded
from meshtls.observe.metrics import Count, Distribution, Metrics
from meshtls.policy.workloads import workload_of
from meshtls.sidecar.metrics import families
from meshtls.sidecar.metrics.families import UNKNOWN
from meshtls.spiffeid import SpiffeId

__all__ = ["Flowing", "OwnNames", "Traffic"]

_MOST_KEPT = 2048
_INBOUND = Direction.INBOUND
_WITH_TLS = (Security.MUTUAL_TLS, Security.TLS)
_CODE_CLASSES = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_SECURITY: dict[Security | None, str] = {None: UNKNOWN, **{one: one.value for one in Security}}
#: Istio knows TLS of the mesh alone.
_ISTIO_SECURITY = {Security.MUTUAL_TLS: "mutual_tls", Security.TLS: "none", Security.PLAINTEXT: "none", None: UNKNOWN}
#: Envoy's flags, as far as they fit.
_FLAGS = {
    Outcome.CONNECT_FAILED: "UF",
    Outcome.RESET: "UC",
    Outcome.REQUEST_REFUSED: "DPE",
    **{one: "UAEX" for one in Outcome if one.verdict is Verdict.DENIED},
}


class OwnNames(NamedTuple):
    """This workload's names in Istio's labels."""

    workload: str
    namespace: str
    service: str


class BytesSoFar(Protocol):
    """From and to the side that opened the connection."""

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...


class Flowing(Protocol):
    """A live connection."""

    @property
    def number(self) -> int: ...

    @property
    def flow(self) -> BytesSoFar: ...


class _Pair(NamedTuple):
    """What is counted of all connections between two peers."""

    opened: Count
    istio_opened: Count
    received: tuple[Count, Count]
    sent: tuple[Count, Count]
    #: Labels for what depends on how the connection ends: direction, source and destination; and Istio's.
    ends: tuple[str, str, str]
    istio: tuple[str, ...]
    #: What counts an end, by the identity of the outcome (hashing a member of an enum takes longer until Python 3.12),
    #: and the same for a stream.
    closed: dict[int, tuple[Count, ...]]
    streams: dict[int, tuple[Count, ...]]


class _Same(NamedTuple):
    """Values whose identity is the key of a pair."""

    peer_id: SpiffeId | None
    local_id: SpiffeId
    pair: _Pair


class _Phases(NamedTuple):
    """What is counted for a direction alone."""

    accepted: Count
    #: By the phase.
    times: dict[str, Distribution]
    full: Count
    resumed: Count


class _Tally:
    """A connection that is open: what its bytes are counted to, once it is authorized, and how many are."""

    __slots__ = ("bytes_in", "bytes_out", "local_id", "pair", "phases")

    def __init__(self, phases: _Phases, local_id: SpiffeId) -> None:
        self.phases, self.local_id = phases, local_id
        self.pair: _Pair | None = None
        self.bytes_in = self.bytes_out = 0

    def count(self, bytes_in: int, bytes_out: int) -> None:
        """So many bytes have passed since it was opened."""
        if self.pair is None:
            return
        more_in, more_out = bytes_in - self.bytes_in, bytes_out - self.bytes_out
        if more_in > 0:  # bytes that are sent once more, on another tunnel, are counted once
            self.bytes_in = bytes_in
            for count in self.pair.received:
                count.value += more_in
        if more_out > 0:
            self.bytes_out = bytes_out
            for count in self.pair.sent:
                count.value += more_out


class _Requests(NamedTuple):
    """What is counted of the requests that have a context and a status in common."""

    context: RequestContext
    counts: tuple[Count, ...]
    seconds: Distribution
    milliseconds: Distribution


class Traffic:
    """An Observer. ``own`` are the sidecar's names; ``count_bytes`` adds those of live connections before a scrape."""

    def __init__(self, metrics: Metrics, own: OwnNames) -> None:
        self.own = own
        self._opened, self._closed = metrics.counter(families.OPENED), metrics.counter(families.CLOSED)
        self._refused, self._streams = metrics.counter(families.REFUSED), metrics.counter(families.STREAMS)
        self._received, self._sent = metrics.counter(families.RECEIVED), metrics.counter(families.SENT)
        self._tunnels = metrics.counter(families.TUNNELS)
        self._requests = metrics.counter(families.REQUESTS)
        self._request_time = metrics.histogram(families.REQUEST_TIME)
        self._decisions, self._dry_runs = metrics.counter(families.DECISIONS), metrics.counter(families.DRY_RUNS)
        self._istio_opened = metrics.counter(families.ISTIO_OPENED)
        self._istio_closed = metrics.counter(families.ISTIO_CLOSED)
        self._istio_received = metrics.counter(families.ISTIO_RECEIVED)
        self._istio_sent = metrics.counter(families.ISTIO_SENT)
        self._istio_requests = metrics.counter(families.ISTIO_REQUESTS)
        self._istio_request_time = metrics.histogram(families.ISTIO_REQUEST_TIME)
        accepted, sessions = metrics.counter(families.ACCEPTED), metrics.counter(families.SESSIONS)
        of_phases = {"handshake": families.HANDSHAKE, "connect": families.CONNECT, "detect": families.DETECT}
        times = {phase: metrics.histogram(family) for phase, family in of_phases.items()}
        self._phases = {
            one: _Phases(
                accepted.labels(one.value),
                {phase: time.labels(one.value) for phase, time in times.items()},
                sessions.labels(one.value, "false"),
                sessions.labels(one.value, "true"),
            )
            for one in Direction
        }
        self._tallies: dict[int, _Tally] = {}
        self._pairs: Memo[tuple[Direction, SpiffeId | None, SpiffeId | None, Security | None], _Pair]
        self._pairs = Memo(_MOST_KEPT)
        #: By the identity of what they were found for, which is kept with them: all streams of a tunnel have the same.
        self._same: Memo[tuple[int, int, int, int], _Same] = Memo(_MOST_KEPT)
        self._alike: Memo[tuple[int, int], _Requests] = Memo(_MOST_KEPT)

    def __call__(self, event: Event) -> None:
        if isinstance(event, RequestEnded):
            self._request(event.result)
        elif isinstance(event, PhaseEnded):
            tally = self._tallies.get(event.number)
            if tally is not None:
                tally.phases.times[event.phase].observe(event.ms / 1000)
        elif isinstance(event, Opened):
            live = event.connection
            tally = self._tallies[live.number] = _Tally(self._phases[live.direction], live.local_id)
            tally.phases.accepted.value += 1
        elif isinstance(event, Admitted):
            self._admit(event)
        elif isinstance(event, Ended):
            self._end(event)

    def rename(self, own: OwnNames) -> None:
        """These are the sidecar's own names from now on."""
        if own != self.own:
            self.own = own
            self._pairs.clear()
            self._same.clear()
            self._alike.clear()

    def count_bytes(self, live: Iterable[Flowing]) -> None:
        """Count what has passed on connections that are open."""
        for one in live:
            tally = self._tallies.get(one.number)
            if tally is not None:
                tally.count(one.flow.bytes_in, one.flow.bytes_out)

    def _admit(self, event: Admitted) -> None:
        tally = self._tallies.get(event.number)
        if tally is None:
            return
        if event.security in _WITH_TLS and not event.stream:
            (tally.phases.resumed if event.resumed else tally.phases.full).value += 1
        if event.carries:
            self._tunnels.labels(_name(event.peer_id)).value += 1
            return
        peer_id, direction, security = event.peer_id, event.direction, event.security
        key = id(peer_id), id(tally.local_id), id(direction), id(security)
        same = self._same.get(key)
        if same is None or same.peer_id is not peer_id or same.local_id is not tally.local_id:
            inbound = direction is _INBOUND
            source, destination = (peer_id, tally.local_id) if inbound else (tally.local_id, peer_id)
            pair = self._pair(direction, source, destination, security)
            same = self._same.keep(key, _Same(peer_id, tally.local_id, pair))
        tally.pair = same.pair
        tally.pair.opened.value += 1
        tally.pair.istio_opened.value += 1

    def _end(self, event: Ended) -> None:
        result, tally = event.result, self._tallies.pop(event.number, None)
        direction, outcome = result.direction, result.outcome
        pair = tally.pair if tally is not None else None
        if pair is not None and tally is not None:
            tally.count(result.bytes_in, result.bytes_out)
            known = pair.streams if result.tunnel else pair.closed
            counts = known.get(id(outcome))
            if counts is None:
                counts = known[id(outcome)] = self._closings(pair, outcome, stream=result.tunnel)
            for count in counts:
                count.value += 1
        elif not event.carries or not result.admitted:
            source, destination = _name(result.source_id), _name(result.destination_id or result.expected_id)
            self._refused.labels(direction.value, source, destination, outcome.name).value += 1
            if result.tunnel:
                self._streams.labels(direction.value, outcome.name).value += 1
        if direction is _INBOUND:
            for count in self._rulings(result.ruled, outcome):
                count.value += 1

    def _closings(self, pair: _Pair, outcome: Outcome, *, stream: bool) -> tuple[Count, ...]:
        flags = _FLAGS.get(outcome, "-")
        closed = self._closed.labels(*pair.ends, outcome.name)
        istio = self._istio_closed.labels(*pair.istio[:-2], flags, pair.istio[-1])
        return (closed, istio, self._streams.labels(pair.ends[0], outcome.name)) if stream else (closed, istio)

    def _pair(
        self,
        direction: Direction,
        source: SpiffeId | None,
        destination: SpiffeId | None,
        security: Security | None,
    ) -> _Pair:
        key = direction, source, destination, security
        found = self._pairs.get(key)
        if found is not None:
            return found
        ends = direction.value, _name(source), _name(destination)
        istio = self._istio(direction, source, destination, "tcp", "-", security)
        return self._pairs.keep(
            key,
            _Pair(
                self._opened.labels(*ends, _SECURITY[security]),
                self._istio_opened.labels(*istio),
                (self._received.labels(*ends), self._istio_received.labels(*istio)),
                (self._sent.labels(*ends), self._istio_sent.labels(*istio)),
                ends,
                istio,
                {},
                {},
            ),
        )

    def _istio(
        self,
        direction: Direction,
        source: SpiffeId | None,
        destination: SpiffeId | None,
        protocol: str,
        flags: str,
        security: Security | None,
    ) -> tuple[str, ...]:
        inbound = direction is _INBOUND
        caller = _names(source) if inbound else self.own
        called = self.own if inbound else _names(destination)
        return (
            "destination" if inbound else "source",
            caller.workload,
            caller.namespace,
            _name(source),
            caller.service,
            called.workload,
            called.namespace,
            _name(destination),
            called.service,
            called.service,
            called.service,
            called.namespace,
            protocol,
            flags,
            _ISTIO_SECURITY[security],
        )

    def _request(self, result: RequestResult) -> None:
        context = result.context
        known = self._alike.get((id(context), result.status))
        if known is None or known.context is not context:
            known = self._requests_like(context, result.status)
        for count in known.counts:
            count.value += 1
        known.seconds.observe(result.total_ms / 1000)
        known.milliseconds.observe(result.total_ms)

    def _requests_like(self, context: RequestContext, status: int) -> _Requests:
        source, destination, outcome = _name(context.source_id), _name(context.destination_id), context.outcome
        code_class = _CODE_CLASSES[status // 100 if 100 <= status <= 599 else 0]
        flags = _FLAGS.get(outcome, "-")
        istio = self._istio(_INBOUND, context.source_id, context.destination_id, "http", flags, context.security)
        istio = (*istio, str(status))
        like = _Requests(
            context,
            (
                self._requests.labels(source, destination, code_class, outcome.name, outcome.verdict.value),
                self._istio_requests.labels(*istio),
                *self._rulings(context.ruled, outcome),
            ),
            self._request_time.labels(code_class),
            self._istio_request_time.labels(*istio),
        )
        # A denial has a context of its own: it is not worth a place.
        return self._alike.keep((id(context), status), like) if outcome.allowed else like

    def _rulings(self, ruled: Ruled, outcome: Outcome) -> Iterator[Count]:
        """The counts of a decision, where there was one, and of what dry-run policies would have said."""
        if ruled.policy is not None or outcome is Outcome.POLICY_DENIED:
            yield self._decisions.labels(ruled.policy or "none", ruled.rule or "none", outcome.verdict.value)
        for policy, rule, allowed in ruled.dry_run:
            yield self._dry_runs.labels(policy or "none", rule or "none", "allowed" if allowed else "denied")

    def __repr__(self) -> str:
        return f"<Traffic [{len(self._tallies)} open]>"


def _name(spiffe_id: SpiffeId | None) -> str:
    return UNKNOWN if spiffe_id is None else str(spiffe_id)


def _names(peer: SpiffeId | None) -> OwnNames:
    """A peer's, by its verified ID alone."""
    if peer is None:
        return OwnNames(UNKNOWN, UNKNOWN, UNKNOWN)
    last = peer.segments[-1] if peer.segments else UNKNOWN
    return OwnNames(last, workload_of(peer).namespace, last)
