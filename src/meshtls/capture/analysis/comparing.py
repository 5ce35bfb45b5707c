"""Two captures side by side: the same conversations before and after. Bounded. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshtls.capture.analysis.connection import Connection
from meshtls.capture.analysis.row import Marks, marks_of

__all__ = ["MARKED", "MOST_CONVERSATIONS", "Change", "Conversation", "Conversations", "Pair", "compared"]

#: Who talks to whom: the client, the server, and the server name that was asked for.
Conversation = tuple[str, str, str]
#: Conversations of one capture that are kept, and different words of one of their figures.
MOST_CONVERSATIONS, _MOST_WORDS = 20_000, 8
#: Figures that may be estimates, and which of the marks they have.
MARKED = {"application_bytes": Marks._fields.index("amount"), "overhead": Marks._fields.index("ratio")}


class Change(NamedTuple):
    """One figure before and after. ``marks``: what is written before each of the two; "" of one that is exact."""

    name: str
    before: object
    after: object
    marks: tuple[str, str] = ("", "")


class Pair(NamedTuple):
    """A conversation in both captures, or in one. ``before``, ``after``: how many connections; 0 where it is not.

    ``matched_by``: "SPIFFE IDs" or "addresses"; "" where it is in one of them.
    """

    conversation: Conversation
    before: int
    after: int
    changes: tuple[Change, ...]
    matched_by: str


class _Tally:
    """The figures of connections of one conversation: each set of words, and the mean of each number."""

    __slots__ = ("at_most", "connections", "estimated", "numbers", "words")

    def __init__(self) -> None:
        self.connections = 0
        #: Of one connection at least.
        self.estimated = self.at_most = False
        self.words: dict[str, set[str]] = {}
        #: The sum, and of how many.
        self.numbers: dict[str, tuple[float, int]] = {}

    def add(self, one: Connection) -> None:
        self.connections += 1
        self.estimated, self.at_most = self.estimated or one.estimated, self.at_most or one.at_most
        for name, word in _words(one):
            self._word(name, word)
        for name, number in _numbers(one):
            self._number(name, number or 0.0, number is not None)

    def take(self, other: _Tally) -> None:
        self.connections += other.connections
        self.estimated, self.at_most = self.estimated or other.estimated, self.at_most or other.at_most
        for name, words in other.words.items():
            for word in sorted(words) or [""]:
                self._word(name, word)
        for name, (total, count) in other.numbers.items():
            self._number(name, total, count)

    def _word(self, name: str, word: str) -> None:
        words = self.words.setdefault(name, set())
        if word and len(words) <= _MOST_WORDS:
            words.add(word)

    def _number(self, name: str, total: float, count: int) -> None:
        before, counted = self.numbers.get(name, (0.0, 0))
        self.numbers[name] = before + total, counted + count

    def mark(self, name: str) -> str:
        """What is written before this figure."""
        place = MARKED.get(name)
        return marks_of(estimated=self.estimated, at_most=self.at_most)[place] if place is not None else ""

    @property
    def figures(self) -> dict[str, object]:
        return {name: _listed(words) for name, words in self.words.items()} | {
            name: round(total / count, 3) if count else None for name, (total, count) in self.numbers.items()
        }


class _Names(NamedTuple):
    """``ids`` is None where the capture does not show both."""

    ids: Conversation | None
    addresses: Conversation


_Tallies = dict[_Names, _Tally]


class Conversations:
    """The conversations of one capture. ``left_out``: connections of conversations that there was no room for."""

    def __init__(self, connections: Iterable[Connection] = ()) -> None:
        self.left_out = 0
        self._tallies: _Tallies = {}
        for one in connections:
            self.add(one)

    def add(self, one: Connection) -> None:
        """Count a connection."""
        # A client has another port with each connection.
        addresses = one.client.address.rpartition(":")[0], one.server.address, _server_name(one)
        names = _Names(_ids(one), addresses)
        tally = self._tallies.get(names)
        if tally is None:
            if len(self._tallies) >= MOST_CONVERSATIONS:
                self.left_out += 1
                return
            tally = self._tallies[names] = _Tally()
        tally.add(one)

    def named(self) -> _Tallies:
        """A connection that shows no IDs, such as a resumed one, has those of others with its addresses, if these are
        always the same.
        """
        seen: dict[Conversation, set[Conversation]] = {}
        for ids, addresses in self._tallies:
            if ids is not None:
                seen.setdefault(addresses, set()).add(ids)
        only = {addresses: next(iter(ids)) for addresses, ids in seen.items() if len(ids) == 1}
        found: _Tallies = {}
        for names, tally in self._tallies.items():
            whole = names._replace(ids=names.ids or only.get(names.addresses))
            found.setdefault(whole, _Tally()).take(tally)
        return found


def compared(before: Conversations, after: Conversations) -> Iterator[Pair]:
    """The conversations of both, in the order of their names. Connections of one conversation are averaged.

    They are matched by the SPIFFE IDs of both sides, where both captures show them, and else by addresses.
    """
    return iter(sorted(_pairs(before.named(), after.named()), key=lambda pair: pair.conversation))


def _pairs(before: _Tallies, after: _Tallies) -> Iterator[Pair]:
    """Match by IDs; what is left, by addresses; what is left then, is in one capture only."""
    by_ids = _groups(before, "ids"), _groups(after, "ids")
    common = by_ids[0].keys() & by_ids[1].keys()
    for name in common:
        yield _pair(name, by_ids[0][name], by_ids[1][name], "SPIFFE IDs")
    left = [{names: tally for names, tally in side.items() if names.ids not in common} for side in (before, after)]
    by_addresses = _groups(left[0], "addresses"), _groups(left[1], "addresses")
    common = by_addresses[0].keys() & by_addresses[1].keys()
    for name in common:
        yield _pair(name, by_addresses[0][name], by_addresses[1][name], "addresses")
    for at, side in enumerate(left):
        rest = {
            names._replace(ids=names.ids or names.addresses): tally
            for names, tally in side.items()
            if names.addresses not in common
        }
        for name, found in _groups(rest, "ids").items():
            yield Pair(name, 0 if at else found.connections, found.connections if at else 0, (), "")


def _groups(named: _Tallies, by: str) -> dict[Conversation, _Tally]:
    found: dict[Conversation, _Tally] = {}
    for names, tally in named.items():
        name = names.ids if by == "ids" else names.addresses
        if name is not None:
            found.setdefault(name, _Tally()).take(tally)
    return found


def _pair(name: Conversation, before: _Tally, after: _Tally, matched_by: str) -> Pair:
    left, right = before.figures, after.figures
    changes = tuple(
        Change(key, left[key], right[key], (before.mark(key), after.mark(key)))
        for key in left
        if left[key] != right[key]
    )
    return Pair(name, before.connections, after.connections, changes, matched_by)


def _ids(one: Connection) -> Conversation | None:
    """The port of the server stays: one workload may have several."""
    client, server = (end.peer.spiffe_id if end.peer is not None else "" for end in (one.client, one.server))
    port = one.server.address.rpartition(":")[2]
    return (client, f"{server} port {port}", _server_name(one)) if client and server else None


def _server_name(one: Connection) -> str:
    return one.handshake.server_name if one.handshake is not None else ""


def _words(one: Connection) -> Iterator[tuple[str, str]]:
    shake = one.handshake
    yield "protocol", one.protocol
    for name in ("version", "suite", "group", "mutual", "resumed"):
        yield name, getattr(shake, name) if shake is not None else ""
    yield "outcome", one.outcome.name if one.outcome is not None else "not known"
    # Each connection has another port of the client.
    yield "problem", one.problem.replace(one.client.address, one.client.address.rpartition(":")[0])


def _numbers(one: Connection) -> Iterator[tuple[str, float | None]]:
    shake = one.handshake
    yield "handshake_ms", shake.ms if shake is not None else None
    yield "round_trips", shake.round_trips if shake is not None else None
    for name in ("tcp_rtt_ms", "first_data_ms", "wire_bytes", "application_bytes", "overhead"):
        yield name, getattr(one, name)


def _listed(words: set[str]) -> str:
    shown = sorted(words)[:_MOST_WORDS]
    return ", ".join(shown + (["and others"] if len(words) > _MOST_WORDS else []))
