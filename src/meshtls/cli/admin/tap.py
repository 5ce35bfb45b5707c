"""``meshtls tap`` and ``meshtls top``: live connections and requests, as they end, or summed up again and again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any

import click

from meshtls.admin.asking import Interface, Interfaces, followed
from meshtls.admin.words import in_words
from meshtls.cli.admin.client import admin_options
from meshtls.cli.options import DURATION, output_option
from meshtls.cli.output import Output, tell
from meshtls.errors import ConfigError
from meshtls.observe.edges import end_name
from meshtls.observe.events import Outcome

__all__ = ["Sums", "event_line", "tap", "top"]

Event = Mapping[str, Any]
#: The words of ``/tap``, and what each does.
_FILTERS = {
    "event": "Only these: opened, request or ended.",
    "id": "Only this connection, and the streams of it.",
    "source": "Only this caller; with a star at its end, all IDs that begin so.",
    "destination": "As --source, for whom they call.",
    "direction": "Only inbound or outbound.",
    "verdict": "Only allowed, denied or failed.",
    "outcome": "Only this outcome, such as POLICY_DENIED.",
    "path": "Only requests whose path begins so.",
}
_NOT_YET = "(not known yet)"
#: The members that an event of each kind has to have: texts or None, and numbers.
_MEMBERS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "following": ((), ()),
    "idle": ((), ()),
    "lost": ((), ("count",)),
    "opened": (("direction", "remote"), ()),
    "request": (("method", "host", "path", "verdict", "outcome", "detail"), ("total_ms",)),
    "ended": (("direction", "outcome", "detail"), ("bytes_in", "bytes_out", "total_ms")),
}
_COUNTED = (
    *("connections", "connections_allowed", "connections_denied", "connections_failed"),
    *("requests", "requests_allowed", "requests_denied", "requests_failed"),
)


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for name in reversed(_FILTERS):
        command = click.option(f"--{name}", help=_FILTERS[name])(command)
    return command


@click.command()
@_filters
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@admin_options
@output_option
def tap(count: int | None, interfaces: Interfaces, out: Output, **filters: str | None) -> None:
    """Follow connections and requests of running sidecars, a line for each, until Ctrl-C.

    Nothing waits for this command: if it can't keep up it loses events, and says how many.
    """
    left = count

    def show(event: Event) -> bool:
        nonlocal left
        if event["event"] in ("following", "idle"):
            return True
        out.event(event, event_line(event))
        if left is not None and event["event"] != "lost":
            left -= 1
        return left is None or left > 0

    asyncio.run(_follow(interfaces, _given(filters), show))


@click.command()
@_filters
@click.option("--interval", type=DURATION, default="2s", show_default=True, help="Between two tables.")
@click.option("--rounds", type=click.IntRange(min=1), help="End after so many tables.")
@admin_options
@output_option
def top(interval: Any, rounds: int | None, interfaces: Interfaces, out: Output, **filters: str | None) -> None:
    """Show who talks to whom now: what ended since the last table, the most frequent first."""
    sums = Sums()

    def take(event: Event) -> bool:
        sums.take(event)
        return True

    async def tables() -> None:
        following = asyncio.ensure_future(_follow(interfaces, _given(filters), take))
        shown = 0
        while rounds is None or shown < rounds:
            done, _ = await asyncio.wait([following], timeout=interval.total_seconds())
            if done:
                following.result()
            rows, seconds = sums.rows(), interval.total_seconds()
            record = {"event": "top", "seconds": seconds, "pairs": rows}
            if out.as_json:
                out.event(record, "")
            else:
                tell(*(in_words({"pairs": rows}).split("\n") if rows else [f"nothing ended within {seconds:g} s"]))
            shown += 1
            if done:
                return
        following.cancel()
        await asyncio.wait([following])

    asyncio.run(tables())


class Sums:
    """What ended since ``rows`` was called last, by source and destination; connections and requests apart, since an
    allowed connection may carry requests that are denied.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._lost = 0

    def take(self, event: Event) -> None:
        if event["event"] == "lost":
            self._lost += event["count"]
        if event["event"] not in ("ended", "request"):
            return
        counts = self._counts.setdefault(_names(event), Counter())
        kind = "requests" if event["event"] == "request" else "connections"
        counts[kind] += 1
        counts[f"{kind}_{event.get('verdict')}"] += 1

    def rows(self) -> list[dict[str, object]]:
        """The most frequent first; afterwards everything is 0."""
        counts, self._counts = self._counts, {}
        lost, self._lost = self._lost, 0
        rows: list[dict[str, object]] = [
            {"source": source, "destination": destination, **{name: found[name] for name in _COUNTED}}
            for (source, destination), found in sorted(counts.items(), key=lambda one: -one[1].total())
        ]
        return [*rows, {"source": f"({lost} events were lost)"}] if lost else rows


def _names(event: Event) -> tuple[str, str]:
    """Both ends of what ended."""
    security = event.get("security")
    reached = event.get("connect_ms") is not None and event.get("outcome") != Outcome.CONNECT_FAILED.name
    source, destination = event.get("source_id"), event.get("destination_id")
    return str(source or end_name(security)), str(destination or end_name(security, reached=reached))


def _given(filters: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value is not None}


async def _follow(interfaces: Interfaces, words: Mapping[str, str], show: Callable[[Event], bool]) -> None:
    """Until ``show`` returns False, or every process has ended. Raises what asking one of them raises."""
    enough = asyncio.Event()

    async def one(at: Interface) -> None:
        async with aclosing(followed(at, words)) as events:
            async for event in events:
                check_event(event, at.name)
                if not show(event):
                    enough.set()
                    return

    everything = asyncio.gather(*map(one, interfaces))
    waiting = asyncio.ensure_future(enough.wait())
    try:
        await asyncio.wait((everything, waiting), return_when=asyncio.FIRST_COMPLETED)
        if everything.done() and not enough.is_set():
            everything.result()
    finally:
        waiting.cancel()
        everything.cancel()
        await asyncio.gather(everything, waiting, return_exceptions=True)


def check_event(event: Event, name: str) -> None:
    """Raise ConfigError unless this is an event that ``event_line`` and ``Sums`` can read. ``name``: of who sent it."""
    kind = event.get("event")
    if not isinstance(kind, str) or kind not in _MEMBERS:
        kinds = ", ".join(_MEMBERS)
        raise ConfigError(
            f"{name}: wanted events of /tap ({kinds}), got one with event={kind!r}; does meshtls run there?"
        )
    texts, numbers = _MEMBERS[kind]
    for wanted, types, members in (("a text", str | None, texts), ("a number", int | float, numbers)):
        for member in members:
            if member not in event or not isinstance(event[member], types):
                found = repr(event[member]) if member in event else "none"
                raise ConfigError(
                    f"{name}: wanted {wanted} as {member} of the event {kind!r}, got {found}; does meshtls run there?"
                )


def event_line(event: Event) -> str:
    kind = event["event"]
    if kind == "lost":
        return f"({event['count']} events were lost: this command does not keep up)"
    connection = event.get("connection_id", "")
    if kind == "opened":
        ends = f"{event.get('source_id') or _NOT_YET} -> {event.get('destination_id') or _NOT_YET}"
        return f"opened   {connection} {ends} {event['direction']} {event['remote']}"
    source, destination = _names(event)
    ends = f"{connection} {source} -> {destination}"
    if kind == "request":
        asked = f"{event['method']} {event['host']}{event['path']} {event.get('status')} {event['total_ms']:g} ms"
        why = "" if event["verdict"] == "allowed" else f": {event['outcome']}: {event['detail']}"
        return f"request  {ends} {event['verdict']} {asked}{why}"
    moved = f"{event['bytes_in']} in, {event['bytes_out']} out, {event['total_ms']:g} ms"
    return f"ended    {ends} {event['direction']} {event['outcome']} {moved}: {event['detail']}"
