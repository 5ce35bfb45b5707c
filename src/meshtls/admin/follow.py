"""``/tap``: what happens to connections, as it happens. A reader that is too slow loses events, and is told how many.

Nothing waits for a reader: an event that a reader's filter lets through goes into its own queue of at most so many.
Where that is full the oldest event is dropped. Without a reader no event is made.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping

import msgspec

from meshtls.admin.pages import Page, Query, Record, Stream
from meshtls.errors import RequestError
from meshtls.observe.access_log import access_line
from meshtls.observe.events import ConnectionResult, RequestResult
from meshtls.observe.live import Ended, Event, Live, Observer, Opened, RequestEnded
from meshtls.observe.recent import is_of
from meshtls.printable import printable
from meshtls.scalars import shown

__all__ = ["ended_record", "live_record", "passes", "request_record", "tap_page"]

Observe = Callable[[Observer], Callable[[], None]]
_MOST_WAITING = 1024
#: Seconds after which a silent stream says that it lives: so the end of its reader is noticed.
_IDLE = 15.0
_LONGEST_PATH = 2048
_FILTERS = ("event", "id", "source", "destination", "direction", "verdict", "outcome", "path")
_EVENTS = ("opened", "request", "ended")


def tap_page(observe: Observe) -> Page:
    """The page ``/tap``. ``observe`` is ``Reporter.observe``."""

    def answer(query: Query) -> Stream:
        words = query.words
        if words.get("event", "ended") not in _EVENTS:
            raise RequestError(f"event: wanted {', '.join(_EVENTS)}, got {shown(words['event'])}")
        return Stream(_followed(observe, words))

    meaning = "What happens to connections and requests, one JSON record a line, until the caller ends."
    return Page("/tap", meaning, answer, words=_FILTERS)


async def _followed(observe: Observe, words: Mapping[str, str]) -> AsyncGenerator[Record, None]:
    waiting: deque[Record] = deque()
    some = asyncio.Event()
    lost = 0

    def take(event: Event) -> None:
        nonlocal lost
        record = _record_of(event)
        if record is None or not passes(record, words):
            return
        if len(waiting) >= _MOST_WAITING:
            waiting.popleft()
            lost += 1
        waiting.append(record)
        some.set()

    stop = observe(take)
    try:
        yield {"event": "following", "filters": dict(words)}
        while True:
            try:
                async with asyncio.timeout(_IDLE):
                    await some.wait()
            except TimeoutError:
                yield {"event": "idle"}
                continue
            some.clear()
            while waiting:
                if lost:
                    count, lost = lost, 0
                    yield {"event": "lost", "count": count}
                yield waiting.popleft()
    finally:
        stop()


def _record_of(event: Event) -> Record | None:
    match event:
        case Opened(live=live):
            return {"event": "opened", **live_record(live())}
        case Ended(number=number, result=result):
            return {"event": "ended", "number": number, **ended_record(result)}
        case RequestEnded(number=number, result=result):
            return {"event": "request", "number": number, **request_record(result)}
        case _:
            return None


def passes(record: Record, words: Mapping[str, str]) -> bool:
    """Whether a reader with these filters is told of it: all of them have to fit."""
    for name, wanted in words.items():
        match name:
            case "id":
                if not is_of(str(record.get("connection_id")), wanted):
                    return False
            case "path":
                if not str(record.get("path", "")).startswith(wanted):
                    return False
            case "source" | "destination":
                # A whole ID, or the beginning of IDs with a star at its end.
                found = str(record.get(f"{name}_id") or "")
                if not (found.startswith(wanted[:-1]) if wanted.endswith("*") else found == wanted):
                    return False
            case _:
                if str(record.get(name, "")).lower() != wanted.lower():
                    return False
    return True


def live_record(one: Live) -> Record:
    """A connection that lives."""
    inbound = one.direction.value == "inbound"
    peer, own = str(one.peer_id) if one.peer_id is not None else None, str(one.local_id)
    return {
        "connection_id": one.connection_id,
        "number": one.number,
        "sidecar": one.sidecar,
        "direction": one.direction.value,
        "state": one.state,
        "source_id": peer if inbound else own,
        "destination_id": own if inbound else peer,
        "remote": printable(one.remote),
        "tunnel": one.tunnel,
        "started": one.started.isoformat(),
        "seconds": round(one.phases.total_ms / 1000, 3),
        "bytes_in": one.bytes_in,
        "bytes_out": one.bytes_out,
        "handshake_ms": _rounded(one.phases.handshake_ms),
        "connect_ms": _rounded(one.phases.connect_ms),
    }


def ended_record(result: ConnectionResult) -> Record:
    """A connection that ended: the fields of its line in the access log."""
    record: Record = msgspec.to_builtins(access_line(result))
    return record


def request_record(result: RequestResult) -> Record:
    """An HTTP request that was answered or refused. What came from the client is escaped."""
    context, outcome = result.context, result.outcome
    return {
        "connection_id": context.connection_id,
        "time": result.started.isoformat(),
        "sidecar": context.sidecar,
        "direction": "inbound",
        "verdict": outcome.verdict.value,
        "outcome": outcome.name,
        "reason": outcome.of_request,
        "detail": printable(result.detail),
        "source_id": None if context.source_id is None else str(context.source_id),
        "destination_id": str(context.destination_id),
        "security": context.security.value,
        "method": printable(result.method[:64]),
        "host": printable(result.host[:256]),
        "path": printable(result.path.partition("?")[0][:_LONGEST_PATH]),
        "status": result.status,
        "total_ms": round(result.total_ms, 3),
        "policy": context.ruled.policy,
        "rule": context.ruled.rule,
        "clause": context.ruled.clause,
        "shadow": list(context.ruled.shadow_in_short),
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
