"""Counts connections and HTTP requests as they end (``observe/live.py``). Pure.

A connection is counted once, when it ends, since each event on the way would cost as much as counting it does. What a
scrape has to show of those that live is counted before it, and the rest of it at their end.

The children of a pair of peers are looked up once and kept, so that an end costs a look-up or two. What is kept is
bounded, and dropping it loses nothing: the counts are in the families.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from meshtls.memo import Memo
from meshtls.observe.events import (
    UNRULED,
    ConnectionResult,
    Direction,
    Outcome,
    RequestContext,
    RequestResult,
    Ruled,
    Security,
    TimedPhase,
    Verdict,
)
from meshtls.observe.live import Admitted, Ended, Event, RequestEnded
from meshtls.observe.metrics import Count, Distribution, Family, Metrics
from meshtls.policy.workloads import workload_of
from meshtls.sidecar.metrics import families
from meshtls.sidecar.metrics.families import UNKNOWN
from meshtls.spiffeid import SpiffeId

__all__ = ["OwnNames", "Traffic", "Unended"]

_MOST_KEPT = 2048
_INBOUND = Direction.INBOUND
_MUTUAL_TLS = Security.MUTUAL_TLS
_HANDSHAKE_FAILED, _POLICY_DENIED = Outcome.HANDSHAKE_FAILED, Outcome.POLICY_DENIED
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
    """Bytes from and to the side that opened the connection."""

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...


class Unended(Protocol):
    """A connection that lives. ``reported``: its end was, and only its sockets are not closed yet."""

    @property
    def number(self) -> int: ...

    @property
    def direction(self) -> Direction: ...

    @property
    def local_id(self) -> SpiffeId: ...

    @property
    def flow(self) -> BytesSoFar: ...

    @property
    def timed(self) -> Sequence[tuple[TimedPhase, float]]: ...

    @property
    def admitted(self) -> bool: ...

    @property
    def resumed(self) -> bool | None: ...

    @property
    def reported(self) -> bool: ...

    def admission(self) -> Admitted: ...


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

    source: SpiffeId | None
    destination: SpiffeId | None
    pair: _Pair


class _Alike(NamedTuple):
    """What is counted of authorized connections that end alike: those of a busy sidecar do, one after the other.

    ``seen``: the security in their results. ``security``: that by which they were authorized.
    """

    source: SpiffeId | None
    destination: SpiffeId | None
    outcome: Outcome
    direction: Direction
    seen: Security | None
    stream: bool
    security: Security | None
    counts: tuple[Count, ...]
    received: tuple[Count, Count]
    sent: tuple[Count, Count]


class _Phases(NamedTuple):
    """What is counted for a direction alone."""

    accepted: Count
    #: By the phase.
    times: dict[TimedPhase, Distribution]
    full: Count
    resumed: Count


class _Counted:
    """What was counted of a connection while it lived."""

    __slots__ = ("admitted", "bytes_in", "bytes_out", "pair", "phases")

    def __init__(self) -> None:
        self.admitted = False
        #: What its bytes are counted to; None for a tunnel, and before it is admitted.
        self.pair: _Pair | None = None
        self.bytes_in = self.bytes_out = self.phases = 0


#: Of one that no scrape has seen.
_NOTHING = _Counted()


class _Requests(NamedTuple):
    """What is counted of the requests that have a context and a status in common."""

    context: RequestContext
    counts: tuple[Count, ...]
    seconds: Distribution
    milliseconds: Distribution


class Traffic:
    """An Observer of ends. ``own`` are the sidecar's names; ``count_live`` adds what lives before a scrape."""

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
        of_phases: dict[TimedPhase, Family] = {
            "handshake": families.HANDSHAKE,
            "connect": families.CONNECT,
            "detect": families.DETECT,
        }
        times = {phase: metrics.histogram(family) for phase, family in of_phases.items()}
        self._in, self._out = (
            _Phases(
                accepted.labels(one.value),
                {phase: time.labels(one.value) for phase, time in times.items()},
                sessions.labels(one.value, "false"),
                sessions.labels(one.value, "true"),
            )
            for one in (Direction.INBOUND, Direction.OUTBOUND)
        )
        #: Those that a scrape has seen, and that have not ended.
        self._live: dict[int, _Counted] = {}
        self._pairs: Memo[tuple[Direction, SpiffeId | None, SpiffeId | None, Security | None], _Pair]
        self._pairs = Memo(_MOST_KEPT)
        #: By the identity of what they were found for, which is kept with them: all streams of a tunnel have the same.
        self._same: Memo[tuple[int, int, int, int], _Same] = Memo(_MOST_KEPT)
        #: What was counted of the last one that was authorized and that no scrape had seen.
        self._last: _Alike | None = None
        #: Counts of decisions, by the policy, the rule and the identity of the outcome.
        self._decided: Memo[tuple[str | None, str | None, int], Count] = Memo(_MOST_KEPT)
        self._alike: Memo[tuple[int, int], _Requests] = Memo(_MOST_KEPT)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Ended):
            self._end(event)
        elif isinstance(event, RequestEnded):
            self._request(event.result)

    def rename(self, own: OwnNames) -> None:
        """These are the sidecar's own names from now on."""
        if own != self.own:
            self.own = own
            self._pairs.clear()
            self._same.clear()
            self._last = None
            self._alike.clear()

    def count_live(self, live: Iterable[Unended]) -> None:
        """Count what has happened until now on connections that live."""
        for one in live:
            if one.reported:
                continue
            inbound = one.direction is _INBOUND
            phases = self._in if inbound else self._out
            counted = self._live.get(one.number)
            if counted is None:
                counted = self._live[one.number] = _Counted()
                phases.accepted.value += 1
            for name, ms in one.timed[counted.phases :]:
                phases.times[name].observe(ms / 1000)
                counted.phases += 1
            if one.admitted and not counted.admitted:
                counted.admitted = True
                how = one.admission()
                if one.resumed is not None and how.security in _WITH_TLS:
                    (phases.resumed if one.resumed else phases.full).value += 1
                source, destination = (how.peer_id, one.local_id) if inbound else (one.local_id, how.peer_id)
                counted.pair = self._admit(how.direction, source, destination, how.security, carries=how.carries)
            if counted.pair is not None:  # bytes that are sent once more, on another tunnel, are counted once
                bytes_in, bytes_out = one.flow.bytes_in, one.flow.bytes_out
                _add(counted.pair, bytes_in - counted.bytes_in, bytes_out - counted.bytes_out)
                counted.bytes_in = max(counted.bytes_in, bytes_in)
                counted.bytes_out = max(counted.bytes_out, bytes_out)

    def _end(self, event: Ended) -> None:
        result, live = event.result, self._live
        counted = live.pop(event.number, _NOTHING) if live else _NOTHING
        direction, outcome = result.direction, result.outcome
        inbound = direction is _INBOUND
        phases = self._in if inbound else self._out
        if event.timed:
            for name, ms in event.timed[counted.phases :] if counted.phases else event.timed:
                phases.times[name].observe(ms / 1000)
        if counted is _NOTHING and result.admitted and not event.carries:
            alike = self._last
            if (
                alike is None
                or alike.source is not result.source_id
                or alike.destination is not result.destination_id
                or alike.outcome is not outcome
                or alike.direction is not direction
                or alike.seen is not result.security
                or alike.stream is not result.tunnel
            ):
                alike = self._last = self._ends_like(result, phases)
            for count in alike.counts:
                count.value += 1
            if event.resumed is not None and alike.security in _WITH_TLS:
                (phases.resumed if event.resumed else phases.full).value += 1
            if result.bytes_in > 0:
                for count in alike.received:
                    count.value += result.bytes_in
            if result.bytes_out > 0:
                for count in alike.sent:
                    count.value += result.bytes_out
        else:
            self._end_in_part(event, counted, phases)
        if inbound and (result.ruled is not UNRULED or outcome is _POLICY_DENIED):
            for count in self._rulings(result.ruled, outcome):
                count.value += 1

    def _ends_like(self, result: ConnectionResult, phases: _Phases) -> _Alike:
        """What is counted of an authorized connection, from its beginning to this end."""
        source, destination, outcome = result.source_id, result.destination_id, result.outcome
        security = _security_of(result)
        pair = self._pair_of(result.direction, source, destination, security)
        closings = self._closings(pair, outcome, stream=result.tunnel)
        return _Alike(
            source,
            destination,
            outcome,
            result.direction,
            result.security,
            result.tunnel,
            security,
            (phases.accepted, pair.opened, pair.istio_opened, *closings),
            pair.received,
            pair.sent,
        )

    def _end_in_part(self, event: Ended, counted: _Counted, phases: _Phases) -> None:
        """Count the end of one that is not authorized or carries streams, or of which a scrape has counted a part."""
        result = event.result
        direction, outcome, stream = result.direction, result.outcome, result.tunnel
        if counted is _NOTHING:
            phases.accepted.value += 1
        pair = counted.pair
        if result.admitted and not counted.admitted:
            security = _security_of(result)
            if event.resumed is not None and security in _WITH_TLS:
                (phases.resumed if event.resumed else phases.full).value += 1
            pair = self._admit(direction, result.source_id, result.destination_id, security, carries=event.carries)
        if pair is not None:
            _add(pair, result.bytes_in - counted.bytes_in, result.bytes_out - counted.bytes_out)
            for count in self._closings(pair, outcome, stream=stream):
                count.value += 1
        elif not result.admitted:
            source, destination = _name(result.source_id), _name(result.destination_id or result.expected_id)
            self._refused.labels(direction.value, source, destination, outcome.name).value += 1
            if stream:
                self._streams.labels(direction.value, outcome.name).value += 1

    def _admit(
        self,
        direction: Direction,
        source: SpiffeId | None,
        destination: SpiffeId | None,
        security: Security | None,
        *,
        carries: bool,
    ) -> _Pair | None:
        """Count that a connection was authorized. Returns what else of it is counted: None for a tunnel, which
        ``carries`` streams that are counted one by one.
        """
        if carries:
            self._tunnels.labels(_name(source if direction is _INBOUND else destination)).value += 1
            return None
        pair = self._pair_of(direction, source, destination, security)
        pair.opened.value += 1
        pair.istio_opened.value += 1
        return pair

    def _pair_of(
        self,
        direction: Direction,
        source: SpiffeId | None,
        destination: SpiffeId | None,
        security: Security | None,
    ) -> _Pair:
        key = id(source), id(destination), id(direction), id(security)
        same = self._same.get(key)
        if same is None or same.source is not source or same.destination is not destination:
            pair = self._pair(direction, source, destination, security)
            same = self._same.keep(key, _Same(source, destination, pair))
        return same.pair

    def _closings(self, pair: _Pair, outcome: Outcome, *, stream: bool) -> tuple[Count, ...]:
        known = pair.streams if stream else pair.closed
        counts = known.get(id(outcome))
        if counts is not None:
            return counts
        flags = _FLAGS.get(outcome, "-")
        closed = self._closed.labels(*pair.ends, outcome.name)
        istio = self._istio_closed.labels(*pair.istio[:-2], flags, pair.istio[-1])
        counts = known[id(outcome)] = (
            (closed, istio, self._streams.labels(pair.ends[0], outcome.name)) if stream else (closed, istio)
        )
        return counts

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
        if ruled.policy is not None or outcome is _POLICY_DENIED:
            key = ruled.policy, ruled.rule, id(outcome)
            yield self._decided.get(key) or self._decided.keep(
                key, self._decisions.labels(ruled.policy or "none", ruled.rule or "none", outcome.verdict.value)
            )
        for policy, rule, allowed in ruled.dry_run:
            yield self._dry_runs.labels(policy or "none", rule or "none", "allowed" if allowed else "denied")

    def __repr__(self) -> str:
        return f"<Traffic [{len(self._live)} counted that live]>"


def _security_of(result: ConnectionResult) -> Security | None:
    """The security by which it was authorized. In TLS 1.3 the peer may refuse it later: its result then has none."""
    refused_later = result.security is None and result.outcome is _HANDSHAKE_FAILED
    return _MUTUAL_TLS if refused_later else result.security


def _add(pair: _Pair, more_in: int, more_out: int) -> None:
    """So many bytes have passed between the two."""
    if more_in > 0:
        for count in pair.received:
            count.value += more_in
    if more_out > 0:
        for count in pair.sent:
            count.value += more_out


def _name(spiffe_id: SpiffeId | None) -> str:
    return UNKNOWN if spiffe_id is None else str(spiffe_id)


def _names(peer: SpiffeId | None) -> OwnNames:
    """A peer's, by its verified ID alone."""
    if peer is None:
        return OwnNames(UNKNOWN, UNKNOWN, UNKNOWN)
    last = peer.segments[-1] if peer.segments else UNKNOWN
    return OwnNames(last, workload_of(peer).namespace, last)
