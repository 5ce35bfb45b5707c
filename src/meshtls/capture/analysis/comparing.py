"""Two captures side by side: the same conversations before and after. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshtls.capture.analysis.connection import Connection

__all__ = ["Change", "Conversation", "Pair", "compared", "figures_of"]

#: Who talks to whom: the client's host, the server's address and port, and the server name that was asked for.
Conversation = tuple[str, str, str]


class Change(NamedTuple):
    """One figure before and after."""

    name: str
    before: object
    after: object


class Pair(NamedTuple):
    """A conversation in both captures, or in one. ``before``, ``after``: how many connections; 0 where it is not."""

    conversation: Conversation
    before: int
    after: int
    changes: tuple[Change, ...]


def compared(before: Iterable[Connection], after: Iterable[Connection]) -> Iterator[Pair]:
    """The conversations of both, in the order of their names. Connections of one conversation are averaged."""
    sides = [_by_conversation(before), _by_conversation(after)]
    for name in sorted({*sides[0], *sides[1]}):
        old, new = (side.get(name, []) for side in sides)
        changes: list[Change] = []
        if old and new:
            left, right = figures_of(old), figures_of(new)
            changes = [Change(key, left[key], right[key]) for key in left if left[key] != right[key]]
        yield Pair(name, len(old), len(new), tuple(changes))


def figures_of(connections: list[Connection]) -> dict[str, object]:
    """What is compared: each set of words, and the mean of each number."""
    shakes = [one.handshake for one in connections if one.handshake is not None]
    return {
        "protocol": _words(one.protocol for one in connections),
        "version": _words(one.version for one in shakes),
        "suite": _words(one.suite for one in shakes),
        "group": _words(one.group for one in shakes),
        "mutual": _words(one.mutual for one in shakes),
        "resumed": _words(one.resumed for one in shakes),
        "outcome": _words(one.outcome.name if one.outcome is not None else "not seen" for one in connections),
        "problem": _words(one.problem for one in connections),
        "handshake_ms": _mean(one.ms for one in shakes),
        "round_trips": _mean(one.round_trips for one in shakes),
        "tcp_rtt_ms": _mean(one.tcp_rtt_ms for one in connections),
        "first_data_ms": _mean(one.first_data_ms for one in connections),
        "wire_bytes": _mean(one.wire_bytes for one in connections),
        "application_bytes": _mean(one.application_bytes for one in connections),
        "overhead": _mean(one.overhead for one in connections),
    }


def _by_conversation(connections: Iterable[Connection]) -> dict[Conversation, list[Connection]]:
    found: dict[Conversation, list[Connection]] = {}
    for one in connections:
        client, server = one.client.address.rpartition(":")[0], one.server.address
        name = one.handshake.server_name if one.handshake is not None else ""
        found.setdefault((client, server, name), []).append(one)
    return found


def _words(values: Iterable[str]) -> str:
    return ", ".join(sorted({one for one in values if one}))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return round(sum(known) / len(known), 3) if known else None
