"""Whether a regular expression can take more than linear time, decided by its automaton and not by a clock.

A backtracking matcher tries every path of the Glushkov automaton. Their number grows with the text exactly where the
automaton is ambiguous (Weber and Seidl, "On the degree of ambiguity of finite automata", 1991): exponentially where two
different paths lead from a state back to itself over one text, and polynomially where a text leads from ``p`` to
``p``, from ``p`` to ``q`` and from ``q`` to ``q``. A search begins at each character, which is a loop before the rest.

Characters are those of Latin-1 and two beyond. A repeat with an upper limit is a constant, and counts as a few copies.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

__all__ = ["Use", "superlinear", "uses"]

_ALPHABET = [*map(chr, range(256)), "\u0436", "\u2028"]
_COPIES = 3
_ANCHORED = ("match", "fullmatch")
_METHODS = (*_ANCHORED, "search", "sub", "subn", "split", "findall", "finditer")

Pattern = str | bytes


@dataclass(frozen=True)
class Use:
    """A use of a regular expression in the source: whether its match begins at a fixed position, and whether it has to
    reach the end of the text.
    """

    where: str
    pattern: Pattern
    flags: int
    anchored: bool
    whole: bool


@dataclass
class _Part:
    nullable: int = 1  # the number of ways to match the empty text
    first: Counter[int] = field(default_factory=Counter)
    last: Counter[int] = field(default_factory=Counter)


class _Automaton:
    """``sets`` holds each position's characters as bits, ``follow`` in how many ways one position follows another."""

    def __init__(self, pattern: Pattern, flags: int, *, anchored: bool) -> None:
        self.sets: list[int] = []
        self.follow: Counter[tuple[int, int]] = Counter()
        self.flags = flags
        self.binary = isinstance(pattern, bytes)
        self.conditions = False
        parsed = parser.parse(pattern, flags)
        self.flags |= parsed.state.flags
        begins = len(parsed) and parsed[0] in ((sre.AT, sre.AT_BEGINNING), (sre.AT, sre.AT_BEGINNING_STRING))
        start = _Part() if anchored or begins else self._repeat(lambda: self._one(-1), 0, sre.MAXREPEAT)
        self.last = set(self._concatenated(start, self._sequence(parsed)).last)
        self.next: list[list[int]] = [[] for _ in self.sets]
        for before, after in self.follow:
            self.next[before].append(after)

    def _sequence(self, parsed: Iterable[tuple[Any, Any]]) -> _Part:
        return reduce(self._concatenated, [self._node(op, value) for op, value in parsed], _Part())

    def _node(self, op: Any, value: Any) -> _Part:
        if op in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return self._one(self._characters([(op, value)]))
        if op is sre.SUBPATTERN:
            return self._sequence(value[3])
        if op is sre.ATOMIC_GROUP:
            return self._sequence(value)
        if op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            low, high, inner = value
            return self._repeat(lambda: self._sequence(inner), low, high)
        if op is sre.BRANCH:
            return reduce(_either, [self._sequence(branch) for branch in value[1]])
        if op is sre.AT:
            self.conditions = True
            return _Part()
        if op in (sre.ASSERT, sre.ASSERT_NOT):
            self.conditions = True
            assert value[1].getwidth()[1] < 1024, "a look-around without an upper limit"
            return _Part()
        raise AssertionError(f"{op}: its time can't be told from the automaton")

    def _one(self, characters: int) -> _Part:
        self.sets.append(characters)
        place = len(self.sets) - 1
        return _Part(0, Counter([place]), Counter([place]))

    def _characters(self, parsed: list[tuple[Any, Any]]) -> int:
        # Let ``re`` itself decide which characters one item matches.
        if parsed[0][0] is sre.ANY:
            return sum(1 << bit for bit, one in enumerate(_ALPHABET) if self.flags & re.DOTALL or one != "\n")
        source = _source(*parsed[0])
        flags = self.flags & (re.IGNORECASE | re.ASCII)
        matcher = re.compile(source.encode("latin-1") if self.binary else source, flags)
        found = 0
        for bit, one in enumerate(_ALPHABET[:256] if self.binary else _ALPHABET):
            if matcher.fullmatch(one.encode("latin-1") if self.binary else one):  # type: ignore[arg-type]
                found |= 1 << bit
        return found

    def _repeat(self, made: Any, low: int, high: int) -> _Part:
        part = _Part()
        for _ in range(min(low, _COPIES)):
            part = self._concatenated(part, made())
        if high is sre.MAXREPEAT:
            looped: _Part = made()
            for before, ways in looped.last.items():
                for after, more in looped.first.items():
                    self.follow[before, after] += ways * more
            looped.nullable = 1
            return self._concatenated(part, looped)
        optional = _Part()
        for _ in range(min(high - low, _COPIES)):
            optional = self._concatenated(made(), optional)
            optional.nullable = 1
        return self._concatenated(part, optional)

    def _concatenated(self, left: _Part, right: _Part) -> _Part:
        for before, ways in left.last.items():
            for after, more in right.first.items():
                self.follow[before, after] += ways * more
        first = left.first + _times(right.first, left.nullable)
        last = right.last + _times(left.last, right.nullable)
        return _Part(left.nullable * right.nullable, first, last)


def _times(counted: Counter[int], ways: int) -> Counter[int]:
    return Counter({one: count * ways for one, count in counted.items() if ways})


def superlinear(pattern: Pattern, flags: int = 0, *, anchored: bool = False, whole: bool = True) -> str | None:
    """Why matching may take more than linear time; None if it can't.

    ``anchored``: the match begins at one position only. Unless ``whole``, there is no backtracking after the pattern's
    end is reached.
    """
    automaton = _Automaton(pattern, flags, anchored=anchored)
    reached = [_reached([one], lambda place: automaton.next[place]) for one in range(len(automaton.sets))]
    loops = [one for one, after in enumerate(reached) if one in after]
    if not whole and not automaton.conditions:
        loops = [one for one in loops if one not in automaton.last]
    for one in loops:
        if _twice(automaton, reached, one):
            return "exponential: one text leads round a loop in two ways"
    for p in loops:
        for q in loops:
            if p != q and q in reached[p] and (p, q, q) in _reached([(p, p, q)], lambda at: _steps(automaton, at)):
                return "polynomial: one text stays in a loop, stays in another, and leads from the one to the other"
    return None


def _twice(automaton: _Automaton, reached: Sequence[set[int]], state: int) -> bool:
    doubled = [edge for edge, ways in automaton.follow.items() if ways > 1]
    if any(before in reached[state] and state in reached[after] | {after} for before, after in doubled):
        return True
    pairs = _reached([(state, state)], lambda at: _steps(automaton, at))
    return any(
        one != other and (state, state) in _reached([(one, other)], lambda at: _steps(automaton, at))
        for one, other in pairs
    )


def _steps(automaton: _Automaton, at: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The successors of these states, together, after one character."""
    found: list[tuple[tuple[int, ...], int]] = [((), -1)]
    for state in at:
        found = [
            ((*before, after), common)
            for before, characters in found
            for after in automaton.next[state]
            if (common := characters & automaton.sets[after])
        ]
    return (after for after, _ in found)


def _reached(start: list[Any], steps: Any) -> set[Any]:
    """The states reachable in one step or more."""
    seen: set[Any] = set()
    waiting = list(start)
    while waiting:
        for after in steps(waiting.pop()):
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return seen


def _either(left: _Part, right: _Part) -> _Part:
    return _Part(left.nullable + right.nullable, left.first + right.first, left.last + right.last)


def _source(op: Any, value: Any) -> str:
    """The parsed item of one character, converted back to a pattern."""
    if op in (sre.LITERAL, sre.NOT_LITERAL):
        return f"[{'^' if op is sre.NOT_LITERAL else ''}{re.escape(chr(value))}]"
    inside = ""
    for kind, one in value:
        if kind is sre.NEGATE:
            inside += "^"
        elif kind is sre.LITERAL:
            inside += re.escape(chr(one))
        elif kind is sre.RANGE:
            inside += f"{re.escape(chr(one[0]))}-{re.escape(chr(one[1]))}"
        else:
            name = str(one).rpartition("_")[2]
            letter = {"DIGIT": "d", "SPACE": "s", "WORD": "w"}[name]
            inside += "\\" + (letter.upper() if "_NOT_" in str(one) else letter)
    return f"[{inside}]"


def uses(file: Path) -> Iterator[Use]:
    """Every regular expression that this file passes to ``re``. A replacement field of an f-string counts as one
    character.

    A pattern that is only known at run time is returned as an empty one. A compiled and named pattern counts as
    anchored if only ``match`` or ``fullmatch`` is called on that name.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    texts: dict[str, Pattern] = {}
    asked: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found = _text(node.value, texts)
            if found is None and _called(node.value) == "compile":
                found = _text(node.value.args[0], texts)  # type: ignore[attr-defined]
            if found is not None:
                texts[node.targets[0].id] = found
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            asked.setdefault(node.value.id, set()).add(node.attr)
    names = {
        id(node.value): node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    for node in ast.walk(tree):
        method = _called(node)
        if method is None or not isinstance(node, ast.Call):
            continue
        pattern = _text(node.args[0], texts)
        methods = asked.get(names.get(id(node), ""), set()) - {"pattern"} if method == "compile" else {method}
        yield Use(
            f"{file}:{node.lineno}",
            pattern or "",
            _flags(node),
            anchored=bool(methods) and methods <= {*_ANCHORED},
            whole=not methods or "fullmatch" in methods,
        )


def _called(node: ast.AST) -> str | None:
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr in ("compile", *_METHODS)
    ):
        return node.func.attr
    return None


def _text(node: ast.AST, texts: dict[str, Pattern]) -> Pattern | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else str(_text(part, texts) or "x")
            for part in node.values
        )
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, texts)
    if isinstance(node, ast.Attribute) and node.attr == "pattern":
        return _text(node.value, texts)
    return texts.get(node.id) if isinstance(node, ast.Name) else None


def _flags(call: ast.Call) -> int:
    names = {
        node.attr
        for one in (*call.args[1:], *call.keywords)
        for node in ast.walk(one)
        if isinstance(node, ast.Attribute)
    }
    return sum(int(getattr(re, name)) for name in names if isinstance(getattr(re, name, None), re.RegexFlag))
