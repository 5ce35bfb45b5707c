"""Two captures side by side: the same conversations before and after. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshtls.capture.analysis.connection import Connection

__all__ = ["Change", "Conversation", "Pair", "compared", "figures_of"]

#: Who talks to whom: the client, the server, and the server name that was asked for.
Conversation = tuple[str, str, str]
Connections = list[Connection]


class Change(NamedTuple):
    """One figure before and after."""

    name: str
    before: object
    after: object


class Pair(NamedTuple):
    """A conversation in both captures, or in one. ``before``, ``after``: how many connections; 0 where it is not.

    ``matched_by``: "SPIFFE IDs" or "addresses"; "" where it is in one of them.
    """

    conversation: Conversation
    before: int
    after: int
    changes: tuple[Change, ...]
    matched_by: str


def compared(before: Iterable[Connection], after: Iterable[Connection]) -> Iterator[Pair]:
    """The conversations of both, in the order of their names. Connections of one conversation are averaged.

    They are matched by the SPIFFE IDs of both sides, where both captures show them, and else by addresses.
    """
    return iter(sorted(_pairs(_named(before), _named(after)), key=lambda pair: pair.conversation))


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
        "outcome": _words(one.outcome.name if one.outcome is not None else "not known" for one in connections),
        "problem": _words(one.problem for one in connections),
        "handshake_ms": _mean(one.ms for one in shakes),
        "round_trips": _mean(one.round_trips for one in shakes),
        "tcp_rtt_ms": _mean(one.tcp_rtt_ms for one in connections),
        "first_data_ms": _mean(one.first_data_ms for one in connections),
        "wire_bytes": _mean(one.wire_bytes for one in connections),
        "application_bytes": _mean(one.application_bytes for one in connections),
        "overhead": _mean(one.overhead for one in connections),
    }


class _Named(NamedTuple):
    """A connection with its names: ``ids`` is None where the capture does not show both."""

    connection: Connection
    ids: Conversation | None
    addresses: Conversation


def _named(connections: Iterable[Connection]) -> list[_Named]:
    """A connection that shows no IDs, such as a resumed one, has those of others with its addresses, if these are
    always the same.
    """
    listed = list(connections)
    seen: dict[Conversation, set[Conversation]] = {}
    for one in listed:
        ids = _ids(one)
        if ids is not None:
            seen.setdefault(_addresses(one), set()).add(ids)
    only = {addresses: next(iter(ids)) for addresses, ids in seen.items() if len(ids) == 1}
    return [_Named(one, _ids(one) or only.get(_addresses(one)), _addresses(one)) for one in listed]


def _pairs(before: list[_Named], after: list[_Named]) -> Iterator[Pair]:
    """Match by IDs; what is left, by addresses; what is left then, is in one capture only."""
    by_ids = _groups(before, "ids"), _groups(after, "ids")
    common = by_ids[0].keys() & by_ids[1].keys()
    for name in common:
        yield _pair(name, by_ids[0][name], by_ids[1][name], "SPIFFE IDs")
    left = [[one for one in side if one.ids not in common] for side in (before, after)]
    by_addresses = _groups(left[0], "addresses"), _groups(left[1], "addresses")
    common = by_addresses[0].keys() & by_addresses[1].keys()
    for name in common:
        yield _pair(name, by_addresses[0][name], by_addresses[1][name], "addresses")
    for at, side in enumerate(left):
        rest = [one._replace(ids=one.ids or one.addresses) for one in side if one.addresses not in common]
        for name, found in _groups(rest, "ids").items():
            yield Pair(name, 0 if at else len(found), len(found) if at else 0, (), "")


def _groups(named: Iterable[_Named], by: str) -> dict[Conversation, Connections]:
    found: dict[Conversation, Connections] = {}
    for one in named:
        name = one.ids if by == "ids" else one.addresses
        if name is not None:
            found.setdefault(name, []).append(one.connection)
    return found


def _pair(name: Conversation, before: Connections, after: Connections, matched_by: str) -> Pair:
    left, right = figures_of(before), figures_of(after)
    changes = tuple(Change(key, left[key], right[key]) for key in left if left[key] != right[key])
    return Pair(name, len(before), len(after), changes, matched_by)


def _addresses(one: Connection) -> Conversation:
    return one.client.address.rpartition(":")[0], one.server.address, _server_name(one)


def _ids(one: Connection) -> Conversation | None:
    """The port of the server stays: one workload may have several."""
    client, server = (end.peer.spiffe_id if end.peer is not None else "" for end in (one.client, one.server))
    port = one.server.address.rpartition(":")[2]
    return (client, f"{server} port {port}", _server_name(one)) if client and server else None


def _server_name(one: Connection) -> str:
    return one.handshake.server_name if one.handshake is not None else ""


def _words(values: Iterable[str]) -> str:
    return ", ".join(sorted({one for one in values if one}))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [one for one in values if one is not None]
    return round(sum(known) / len(known), 3) if known else None
