"""An index of rules: the time to find one that matches does not grow with their number. Pure.

Rules are divided by the keys of a field that they want, such as a principal or a path, each part by another field, and
so on until few are left to try. Fields of the connection come first, so that a connection can go to its part once, and
only HTTP is looked up for each request. What wants nothing by a key is divided by the clauses that many rules need,
each of which is asked once. What shares none stays in a rest, which is tried rule by rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from meshtls.policy.istio.clauses import Anchor, Clause, Probe, Term
from meshtls.policy.istio.facts import ConnectionFacts, HttpFacts
from meshtls.policy.istio.match import Ip, Key, KeyKind, Part
from meshtls.policy.istio.rules import CompiledRule

__all__ = ["Index", "NarrowIndex"]

#: So many rules are tried one by one.
_FEW = 6
#: Of a rule with more keys than this, an index by them would be larger than it is worth.
_MOST_KEYS = 1024
#: So many fields and clauses divide the rules of a node; so many clauses are asked one after the other.
_MOST_SPLITS, _MOST_NESTED = 32, 16
#: So many rules are reduced to their HTTP fields for a connection; the others that may match it stay as they are.
_MOST_NARROWED = 64


class _Split(NamedTuple):
    """Parts by the keys of one field. Where one text decides, and each key is a whole one, ``single`` is its getter:
    the part is ``exact.get(single(facts))``, without the calls that the other lookups take.
    """

    http: bool
    probe: Probe
    lookup: _Lookup
    single: Callable[[Any], str | None] | None
    exact: dict[object, _Node]


class _Lookup:
    """Leads from a value to the parts whose keys match it. ``unknown`` is the part for a value that is not known."""

    __slots__ = ("_networks", "_prefixes", "_suffixes", "_unknown", "exact", "only_exact")

    def __init__(self, parts: dict[Key, _Node], unknown: _Node | None = None) -> None:
        self._unknown = () if unknown is None else (unknown,)
        self.exact: dict[object, _Node] = {key.value: part for key, part in parts.items() if key.kind == KeyKind.EXACT}
        self._prefixes = _by_size(parts, KeyKind.PREFIX)
        self._suffixes = _by_size(parts, KeyKind.SUFFIX)
        self._networks = _by_size(parts, KeyKind.NETWORK)
        self.only_exact = not (self._prefixes or self._suffixes or self._networks)

    def find(self, values: Sequence[str | Ip | Part] | None) -> Sequence[_Node]:
        """The nodes for one of the values; None is a value that is not known."""
        if values is None:
            return self._unknown
        if self.only_exact and len(values) == 1:
            part = self.exact.get(values[0])
            return () if part is None else (part,)
        found = []
        for value in values:
            if (part := self.exact.get(value)) is not None:
                found.append(part)
            if isinstance(value, str):
                for (size, _), beginnings in self._prefixes:
                    if size > len(value):
                        break
                    if (part := beginnings.get(value[:size])) is not None:
                        found.append(part)
                for (size, _), endings in self._suffixes:
                    if size > len(value):
                        break
                    if (part := endings.get(value[len(value) - size :])) is not None:
                        found.append(part)
                continue
            version, number = value
            if isinstance(number, int):
                for (of, free), blocks in self._networks:
                    if of == version and (part := blocks.get(number >> free)) is not None:
                        found.append(part)
        return found


def _by_size(parts: dict[Key, _Node], kind: str) -> tuple[tuple[tuple[int, int], dict[object, _Node]], ...]:
    found: dict[tuple[int, int], dict[object, _Node]] = {}
    for key, part in parts.items():
        if key.kind == kind:
            found.setdefault(key.size, {})[key.value] = part
    return tuple(sorted(found.items(), key=lambda one: one[0]))


class _Node:
    """``rules`` are tried one by one, then ``splits`` are followed."""

    __slots__ = ("rules", "splits")

    def __init__(self, rules: tuple[CompiledRule, ...], splits: tuple[_Split, ...]) -> None:
        self.rules, self.splits = rules, splits

    def first(self, connection: ConnectionFacts, http: HttpFacts) -> CompiledRule | None:
        for rule in self.rules:
            if rule.matches(connection, http):
                return rule
        for by_http, probe, lookup, single, exact in self.splits:
            facts = http if by_http else connection
            if single is not None:
                node = exact.get(single(facts))
                if node is not None and (found := node.first(connection, http)) is not None:
                    return found
                continue
            for part in lookup.find(probe(facts)):
                found = part.first(connection, http)
                if found is not None:
                    return found
        return None

    def walk(self, connection: ConnectionFacts, http: HttpFacts) -> Iterator[CompiledRule]:
        """Each that matches, some of them several times."""
        for rule in self.rules:
            if rule.matches(connection, http):
                yield rule
        for by_http, probe, lookup, *_ in self.splits:
            for part in lookup.find(probe(http if by_http else connection)):
                yield from part.walk(connection, http)

    def near(self, connection: ConnectionFacts, http: HttpFacts) -> Iterator[CompiledRule]:
        """The rules that share a key with the request, some of them several times."""
        for by_http, probe, lookup, *_ in self.splits:
            for part in lookup.find(probe(http if by_http else connection)):
                yield from part.near(connection, http)
        yield from self.rules

    def steps(self, connection: ConnectionFacts) -> Iterator[CompiledRule | _Split]:
        """What is left for a connection: rules to be tried, and splits by HTTP, in the order of ``first``."""
        yield from self.rules
        for split in self.splits:
            if split.http:
                yield split
            else:
                for part in split.lookup.find(split.probe(connection)):
                    yield from part.steps(connection)


class Index:
    """An index of rules of one kind."""

    __slots__ = ("_root", "rules")

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        self.rules = tuple(rules)
        self._root = _Builder(self.rules).build(range(len(self.rules)), frozenset())

    def __bool__(self) -> bool:
        return bool(self.rules)

    def first(self, connection: ConnectionFacts, http: HttpFacts) -> CompiledRule | None:
        """A rule that matches: always the same one for a request, not always the first of the file."""
        return self._root.first(connection, http)

    def all(self, connection: ConnectionFacts, http: HttpFacts) -> tuple[CompiledRule, ...]:
        """Every rule that matches."""
        return tuple(dict.fromkeys(self._root.walk(connection, http)))

    def near(self, connection: ConnectionFacts, http: HttpFacts) -> Iterator[CompiledRule]:
        """All rules, some of them several times: first those that share keys with the request."""
        yield from self._root.near(connection, http)
        yield from self.rules

    def narrow(self, connection: ConnectionFacts) -> NarrowIndex:
        return NarrowIndex(connection, tuple(self._root.steps(connection)))


class NarrowIndex:
    """An index for the requests of one connection: it finds the same rule."""

    __slots__ = ("_connection", "_stages")

    def __init__(self, connection: ConnectionFacts, steps: Sequence[CompiledRule | _Split]) -> None:
        self._connection = connection
        stages: list[tuple[list[CompiledRule], list[_Split]]] = []
        # Of rules that ask the same of this connection's requests the first one decides.
        asked: set[tuple[tuple[Term, ...], ...]] = set()
        for step in steps:
            if isinstance(step, CompiledRule):
                left = step.left_for(connection)
                if left is None or left in asked:
                    continue
                rule = step.narrowed(left) if len(asked) < _MOST_NARROWED else step
                asked.add(left)
                if not stages or stages[-1][1]:
                    stages.append(([], []))
                stages[-1][0].append(rule)
                if not left:
                    break
            else:
                if not stages:
                    stages.append(([], []))
                stages[-1][1].append(step)
        #: Rules to be tried, then splits to be followed.
        self._stages = tuple((tuple(rules), tuple(splits)) for rules, splits in stages)

    def __bool__(self) -> bool:
        return bool(self._stages)

    def first(self, http: HttpFacts) -> CompiledRule | None:
        connection = self._connection
        for rules, splits in self._stages:
            for rule in rules:
                if rule.matches(connection, http):
                    return rule
            for _, probe, lookup, single, exact in splits:
                if single is not None:
                    node = exact.get(single(http))
                    if node is not None and (found := node.first(connection, http)) is not None:
                        return found
                    continue
                for part in lookup.find(probe(http)):
                    found = part.first(connection, http)
                    if found is not None:
                        return found
        return None


def _by_name(anchors: Iterable[Anchor]) -> dict[str, Anchor]:
    """Of two anchors by one field the one with fewer keys; none with too many."""
    found: dict[str, Anchor] = {}
    for one in anchors:
        keys = one.keys if len(one.keys) == 1 else tuple(dict.fromkeys(one.keys))
        if len(keys) <= _MOST_KEYS and (one.name not in found or len(keys) < len(found[one.name].keys)):
            found[one.name] = one if keys is one.keys else one._replace(keys=keys)
    return found


class _Needs(NamedTuple):
    """All clauses of a rule on the connection, and those without each of which it does not match."""

    connection: frozenset[Clause[Any]]
    clauses: tuple[Clause[Any], ...]


class _Builder:
    """Divides rules, which are numbers here; equal parts are built once."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._rules = rules
        self._anchors = [_by_name(rule.anchors) for rule in rules]
        self._needed: dict[int, _Needs] = {}
        self._built: dict[tuple[frozenset[object], tuple[int, ...]], _Node] = {}

    def build(self, numbers: Iterable[int], used: frozenset[object]) -> _Node:
        """``used`` are the fields, clauses and choices by which these rules were divided before."""
        chosen = tuple(numbers)
        key = (used, chosen)
        if key not in self._built:
            self._built[key] = self._build(chosen, used)
        return self._built[key]

    def _build(self, numbers: tuple[int, ...], used: frozenset[object]) -> _Node:
        # The first of these is tried before all others, which are only tried by what wants every match.
        free = tuple(one for one in numbers if self._rules[one].unconditional) if len(numbers) > _FEW else ()
        numbers = _without(numbers, free)
        splits: list[_Split] = []
        while len(numbers) > _FEW and len(splits) < _MOST_SPLITS:
            found = self._by_field(numbers, used) or self._by_clause(numbers, used)
            if found is None:
                break
            split, numbers = found
            splits.append(split)
        if len(numbers) > _FEW:
            # Those that only exclude match most requests: one of the first is likely to decide.
            numbers = tuple(sorted(numbers, key=lambda one: not self._rules[one].only_excludes))
            same = [one for one in numbers if self._needs(one).connection <= used]
            if len(same) > _FEW:
                # No connection has to go through those that are the same for all of them.
                splits.append(_split(True, _any, _Node(self._numbered(same), ())))
                numbers = _without(numbers, same)
        return _Node(self._numbered((*free, *numbers)), tuple(splits))

    def _numbered(self, numbers: Iterable[int]) -> tuple[CompiledRule, ...]:
        return tuple(self._rules[one] for one in numbers)

    def _needs(self, number: int) -> _Needs:
        if number not in self._needed:
            rule = self._rules[number]
            self._needed[number] = _Needs(frozenset(rule.of_connection), rule.needed)
        return self._needed[number]

    def _by_field(self, numbers: tuple[int, ...], used: frozenset[object]) -> tuple[_Split, tuple[int, ...]] | None:
        """A split by keys of a field, of the connection if that helps, and the rules that are not in it."""
        for http in (False, True):
            best = self._best(numbers, used, http)
            if best is not None:
                name, parts, rest = best
                below = used | {name}
                anchor = next(self._anchors[one][name] for one in numbers if name in self._anchors[one])
                # What is not known matches each of them, if it matches at all: there other fields have to divide them.
                unknown = sorted({one for part in parts.values() for one in part}) if anchor.unknown else ()
                # Only of choices it matters which keys are used; without them equal parts of several keys are one.
                choice = any(key.kind == KeyKind.CHOICE for one in numbers for key in self._keys(one, name))
                lookup = _Lookup(
                    {key: self.build(part, below | {key} if choice else below) for key, part in parts.items()},
                    self.build(unknown, below) if unknown else None,
                )
                single = anchor.single if lookup.only_exact else None
                return _Split(http, anchor.probe, lookup, single, lookup.exact), rest
        return None

    def _keys(self, number: int, name: str) -> tuple[Key, ...]:
        anchor = self._anchors[number].get(name)
        return () if anchor is None else anchor.keys

    def _best(
        self, numbers: tuple[int, ...], used: frozenset[object], http: bool
    ) -> tuple[str, dict[Key, list[int]], tuple[int, ...]] | None:
        """The field that spares most rules: those of its largest part are tried, and the rest."""
        having: dict[str, list[tuple[int, tuple[Key, ...]]]] = {}
        for one in numbers:
            for name, anchor in self._anchors[one].items():
                if anchor.http is http and (keys := _keys_left(anchor, used)):
                    having.setdefault(name, []).append((one, keys))
        best, most = None, _FEW
        for name, rules in having.items():
            if len(rules) <= most:
                continue
            parts = _parts(rules)
            spared = len(rules) - max(map(len, parts.values()))
            # Parts that are nearly as large as all would make the index larger than it is worth.
            if spared > most and spared * 4 > len(rules):
                best, most = (name, parts), spared
        if best is None:
            return None
        return *best, _without(numbers, (one for one, _ in having[best[0]]))

    def _by_clause(self, numbers: tuple[int, ...], used: frozenset[object]) -> tuple[_Split, tuple[int, ...]] | None:
        """A split by the clause that most rules need, which is asked once for all of them, and the other rules.

        One on HTTP only for rules that ask the connection nothing more, since below it rules are not narrowed.
        """
        if sum(isinstance(one, Clause) for one in used) >= _MOST_NESTED:
            return None
        of_connection: dict[Clause[Any], list[int]] = {}
        of_http: dict[Clause[Any], list[int]] = {}
        for one in numbers:
            connection, clauses = self._needs(one)
            asked = connection <= used
            for clause in clauses:
                if clause not in used and (asked or not clause.http):
                    (of_http if clause.http else of_connection).setdefault(clause, []).append(one)
        for sharing in (of_connection, of_http):
            if not sharing:
                continue
            clause, part = max(sharing.items(), key=lambda one: len(one[1]))
            if len(part) > _FEW:
                return _split(clause.http, clause.test, self.build(part, used | {clause})), _without(numbers, part)
        return None


def _without(numbers: tuple[int, ...], others: Iterable[int]) -> tuple[int, ...]:
    left_out = frozenset(others)
    return tuple(one for one in numbers if one not in left_out) if left_out else numbers


def _any(facts: ConnectionFacts | HttpFacts) -> bool:
    return True


def _split(http: bool, test: Callable[[Any], bool], part: _Node) -> _Split:
    """To the part where the test is passed."""
    lookup = _Lookup({Key(KeyKind.EXACT, ""): part})
    return _Split(
        http,
        lambda facts: ("",) if test(facts) else (),
        lookup,
        lambda facts: "" if test(facts) else None,
        lookup.exact,
    )


def _keys_left(anchor: Anchor, used: frozenset[object]) -> tuple[Key, ...]:
    """By which the rule may be found still.

    Again by the same field only where one pattern has several literals: with more patterns the index would multiply.
    """
    if anchor.name not in used:
        return anchor.keys
    if len(anchor.keys) != 1 or anchor.keys[0].kind != KeyKind.CHOICE:
        return ()
    left = tuple(one for one in _choices(anchor.keys[0]) if one not in used)
    return (Key(KeyKind.CHOICE, left),) if left else ()


def _choices(key: Key) -> tuple[Key, ...]:
    return key.value if key.kind == KeyKind.CHOICE else (key,)  # type: ignore[return-value]  # a choice has keys


def _parts(rules: Iterable[tuple[int, tuple[Key, ...]]]) -> dict[Key, list[int]]:
    """The rules by their keys; of a choice, by the one that fewest have."""
    shared = Counter(one for _, keys in rules for key in keys for one in _choices(key))
    parts: dict[Key, list[int]] = {}
    for number, keys in rules:
        for key in dict.fromkeys(min(_choices(key), key=shared.__getitem__) for key in keys):
            parts.setdefault(key, []).append(number)
    return parts
