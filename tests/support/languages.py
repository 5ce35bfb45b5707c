"""Regular languages over any symbols, by Brzozowski's derivatives, to compare a state machine with a grammar.

``prefixes``, ``beginnings`` and ``shuffle`` (both read at once, interleaved) are beside the usual operators. A word is
the beginning of one in the language exactly if its derivative is not NOTHING.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

__all__ = [
    "NOTHING",
    "Language",
    "any_of",
    "beginnings",
    "derivative",
    "either",
    "many",
    "maybe",
    "prefixes",
    "read",
    "sequence",
    "shuffle",
]


class _Symbol(NamedTuple):
    symbol: str


class _Sequence(NamedTuple):
    first: Language
    rest: Language


class _Either(NamedTuple):
    choices: frozenset[Language]


class _Many(NamedTuple):
    of: Language
    stars: bool = True


class _Prefixes(NamedTuple):
    of: Language
    whole_words: bool


class _Shuffle(NamedTuple):
    one: Language
    other: Language
    shuffled: bool = True


Language = _Symbol | _Sequence | _Either | _Many | _Prefixes | _Shuffle
#: No word, and the empty word.
NOTHING: Language = _Either(frozenset())
EMPTY: Language = _Many(NOTHING)


def sequence(*parts: Language) -> Language:
    """One after the other."""
    made = EMPTY
    for part in reversed(parts):
        made = _sequence(part, made)
    return made


def _sequence(first: Language, rest: Language) -> Language:
    if NOTHING in (first, rest):
        return NOTHING
    if first == EMPTY:
        return rest
    if rest == EMPTY:
        return first
    if isinstance(first, _Sequence):
        return _Sequence(first.first, _sequence(first.rest, rest))
    return _Sequence(first, rest)


def either(*choices: Language) -> Language:
    """One of these."""
    found: set[Language] = set()
    for choice in choices:
        found |= choice.choices if isinstance(choice, _Either) else {choice}
    return next(iter(found)) if len(found) == 1 else _Either(frozenset(found))


def any_of(symbols: str) -> Language:
    """One of these symbols, which are separated by blanks."""
    return either(*map(_Symbol, symbols.split()))


def maybe(language: Language) -> Language:
    """This, or the empty word."""
    return either(EMPTY, language)


def many(language: Language) -> Language:
    """Any number of words of this, none among them."""
    return language if isinstance(language, _Many) else _Many(language)


def prefixes(language: Language) -> Language:
    """All beginnings of its words, whole words among them."""
    return language if language == NOTHING else _Prefixes(language, True)


def beginnings(language: Language) -> Language:
    """All beginnings of its words that are no words themselves."""
    return language if language == NOTHING else _Prefixes(language, False)


def shuffle(one: Language, other: Language) -> Language:
    """A word of each, interleaved."""
    if NOTHING in (one, other):
        return NOTHING
    if one == EMPTY:
        return other
    return one if other == EMPTY else _Shuffle(one, other)


@cache
def _has_empty_word(language: Language) -> bool:
    match language:
        case _Symbol():
            return False
        case _Sequence(one, other) | _Shuffle(one, other):
            return _has_empty_word(one) and _has_empty_word(other)
        case _Either(choices):
            return any(map(_has_empty_word, choices))
        case _Many():
            return True
        case _Prefixes(of, whole_words):
            return whole_words or not _has_empty_word(of)


@cache
def derivative(language: Language, symbol: str) -> Language:
    """What may follow ``symbol`` in the words that begin with it."""
    match language:
        case _Symbol(own):
            return EMPTY if own == symbol else NOTHING
        case _Sequence(first, rest):
            after = _sequence(derivative(first, symbol), rest)
            return either(after, derivative(rest, symbol)) if _has_empty_word(first) else after
        case _Either(choices):
            return either(*(derivative(choice, symbol) for choice in choices))
        case _Many(of):
            return _sequence(derivative(of, symbol), language)
        case _Prefixes(of, whole_words):
            after = derivative(of, symbol)
            return after if after == NOTHING else _Prefixes(after, whole_words)
        case _Shuffle(one, other):
            return either(shuffle(derivative(one, symbol), other), shuffle(one, derivative(other, symbol)))


def read(text: str, names: Mapping[str, Language]) -> Language:
    """The language that ``text`` describes: symbols and names one after the other, ``( | )``, ``?`` and ``*``."""
    for mark in "()|?*":
        text = text.replace(mark, f" {mark} ")
    tokens = text.split()[::-1]
    language = _read_choices(tokens, names)
    assert not tokens, tokens
    return language


def _read_choices(tokens: list[str], names: Mapping[str, Language]) -> Language:
    choices: list[Language] = []
    parts: list[Language] = []
    while tokens and tokens[-1] != ")":
        mark = tokens.pop()
        if mark == "|":
            choices.append(sequence(*parts))
            parts = []
        elif mark == "(":
            parts.append(_read_choices(tokens, names))
            assert tokens.pop() == ")"
        elif mark == "?":
            parts.append(maybe(parts.pop()))
        elif mark == "*":
            parts.append(many(parts.pop()))
        else:
            parts.append(names.get(mark) or _Symbol(mark))
    return either(*choices, sequence(*parts))
