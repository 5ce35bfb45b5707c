"""An index of rules: the time to find one that matches does not grow with their number. Pure.

Rules are divided by the keys of a field that they want, such as a principal or a path, each part by another field, and
so on until few are left to try. Fields of the connection come first, so that a connection can go to its part once, and
only HTTP is looked up for each request. What wants nothing by a key stays in a rest, which is tried rule by rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from meshtls.policy.istio.clauses import Anchor, Probe
from meshtls.policy.istio.facts import ConnectionFacts, HttpFacts
from meshtls.policy.istio.match import Ip, Key, KeyKind
from meshtls.policy.istio.rules import CompiledRule

__all__ = ["Index", "NarrowIndex"]

#: So many rules are tried one by one.
_FEW = 6
#: Of a rule with more keys than this, an index by them would be larger than it is worth.
_MOST_KEYS = 1024
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
    exact: dict[str | int | None, _Node]


class _Lookup:
    """Leads from a value to the parts whose keys match it. ``unknown`` is the part for a value that is not known."""

    __slots__ = ("_networks", "_prefixes", "_suffixes", "_unknown", "exact", "only_exact")

    def __init__(self, parts: dict[Key, _Node], unknown: _Node | None = None) -> None:
        self._unknown = () if unknown is None else (unknown,)
        self.exact: dict[str | int | None, _Node] = {
            key.value: part for key, part in parts.items() if key.kind == KeyKind.EXACT
        }
        self._prefixes = _by_size(parts, KeyKind.PREFIX)
        self._suffixes = _by_size(parts, KeyKind.SUFFIX)
        self._networks = _by_size(parts, KeyKind.NETWORK)
        self.only_exact = not (self._prefixes or self._suffixes or self._networks)

    def find(self, values: Sequence[str | Ip] | None) -> Sequence[_Node]:
        """The nodes for one of the values; None is a value that is not known."""
        if values is None:
            return self._unknown
        if self.only_exact and len(values) == 1:
            part = self.exact.get(values[0])  # type: ignore[arg-type]  # an address is no key here
            return () if part is None else (part,)
        found = []
        for value in values:
            if isinstance(value, str):
                if value in self.exact:
                    found.append(self.exact[value])
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
            else:
                version, number = value
                for (of, free), blocks in self._networks:
                    if of == version and (part := blocks.get(number >> free)) is not None:
                        found.append(part)
        return found


def _by_size(parts: dict[Key, _Node], kind: str) -> tuple[tuple[tuple[int, int], dict[str | int, _Node]], ...]:
    found: dict[tuple[int, int], dict[str | int, _Node]] = {}
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
        narrowed = 0
        for step in steps:
            if isinstance(step, CompiledRule):
                rule = step.narrowed(connection) if narrowed < _MOST_NARROWED else step
                if rule is None or (rule is step and not step.may_match(connection)):
                    continue
                narrowed += 1
                if not stages or stages[-1][1]:
                    stages.append(([], []))
                stages[-1][0].append(rule)
                if rule.unconditional:
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


class _Builder:
    """Divides rules, which are numbers here; equal parts are built once."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._rules = rules
        self._anchors = [_by_name(rule.anchors) for rule in rules]
        self._built: dict[tuple[frozenset[str], tuple[int, ...]], _Node] = {}

    def build(self, numbers: Iterable[int], used: frozenset[str]) -> _Node:
        """``used`` are the fields by which these rules were divided before."""
        chosen = tuple(numbers)
        key = (used, chosen)
        if key not in self._built:
            self._built[key] = self._build(chosen, used)
        return self._built[key]

    def _build(self, numbers: tuple[int, ...], used: frozenset[str]) -> _Node:
        free = next((one for one in numbers if self._rules[one].unconditional), None)
        if free is not None and len(numbers) > _FEW:
            # It is tried first, so that the others are only tried by what wants every match.
            numbers = (free, *(one for one in numbers if one != free))
        if len(numbers) <= _FEW:
            return _Node(tuple(self._rules[one] for one in numbers), ())
        for http in (False, True):
            best = self._best(numbers, used, http)
            if best is not None:
                name, parts, rest = best
                below = used | {name}
                anchor = next(self._anchors[one][name] for one in numbers if name in self._anchors[one])
                # What is not known matches each of them, if it matches at all: there other fields have to divide them.
                unknown = sorted({one for part in parts.values() for one in part}) if anchor.unknown else ()
                lookup = _Lookup(
                    {key: self.build(part, below) for key, part in parts.items()},
                    self.build(unknown, below) if unknown else None,
                )
                others = self.build(rest, below)
                single = anchor.single if lookup.only_exact else None
                split = _Split(http, anchor.probe, lookup, single, lookup.exact)
                return _Node(others.rules, (split, *others.splits))
        return _Node(tuple(self._rules[one] for one in numbers), ())

    def _best(
        self, numbers: tuple[int, ...], used: frozenset[str], http: bool
    ) -> tuple[str, dict[Key, list[int]], list[int]] | None:
        """The field that leaves fewest rules in its largest part and its rest, if that is much less than all."""
        names = Counter(
            name
            for one in numbers
            for name, anchor in self._anchors[one].items()
            if anchor.http is http and name not in used
        )
        best = None
        least = len(numbers) * 3 // 4
        for name, count in names.items():
            if len(numbers) - count >= least:
                continue  # its rest alone is too large
            parts: dict[Key, list[int]] = {}
            rest = []
            for one in numbers:
                anchor = self._anchors[one].get(name)
                if anchor is None:
                    rest.append(one)
                else:
                    for key in anchor.keys:
                        parts.setdefault(key, []).append(one)
            cost = max(map(len, parts.values()), default=0) + len(rest)
            if parts and cost < least:
                best, least = (name, parts, rest), cost
        return best
