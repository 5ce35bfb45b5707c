"""JSON that strangers wrote, read so that no two readers take it for different things (RFC 8259, RFC 7493). Pure.

Python's own reader guesses the encoding, takes NaN and Infinity, lets the last of several members of one name win, and
keeps halves of surrogate pairs, which no UTF-8 can carry.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

__all__ = ["DEEPEST_JSON", "read_json"]

#: Levels of arrays and objects in one another.
DEEPEST_JSON = 64
_MOST_DIGITS = 64
# A string that does not end is one up to the end: else each quote in it would be tried as a beginning.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.?)*"?|[\[\]{}]', re.DOTALL)
_MAYBE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(text: bytes | str, *, unique_names: bool = True) -> Any:
    """The value of this text, which as bytes has to be UTF-8 without a byte order mark (RFC 7515, sections 2 and 4).

    With ``unique_names`` a member that is there twice is refused, else the last of them counts; RFC 7515 and RFC 7517
    allow either. Raises ValueError. Takes time in proportion to the text.
    """
    whole = text.decode("utf-8") if isinstance(text, bytes) else text
    _check_depth(whole)
    value = json.loads(
        whole,
        parse_constant=_no_number,
        parse_int=_integer,
        parse_float=_number,
        object_pairs_hook=_unique if unique_names else dict,
    )
    if _MAYBE_SURROGATE.search(whole):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _check_depth(text: str) -> None:
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        depth += (match[0] in ("[", "{")) - (match[0] in ("]", "}"))
        if depth > DEEPEST_JSON:
            raise ValueError(f"nested deeper than {DEEPEST_JSON} levels")


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            raise ValueError(f"the member {name[:60]!r} is there twice")
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits, more than {_MOST_DIGITS}")
    return int(text)


def _number(text: str) -> float:
    if len(text) > _MOST_DIGITS or not math.isfinite(number := float(text)):
        raise ValueError(f"the number {text[:20]} is too large or too long")
    return number
