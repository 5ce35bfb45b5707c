"""Reads untrusted JSON strictly, so that all readers agree on its meaning (RFC 8259, RFC 7493). Pure.

Python's own reader guesses the encoding, accepts NaN and Infinity, uses the last of duplicate members, and keeps lone
surrogates, which UTF-8 can't encode.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

__all__ = ["DEEPEST_JSON", "read_json"]

#: Levels of nested arrays and objects.
DEEPEST_JSON = 64
_MOST_DIGITS = 64
# A string without its closing quote extends to the end; otherwise each quote in it would be tried as a beginning.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.?)*"?|[\[\]{}]', re.DOTALL)
_MAYBE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(text: bytes | str, *, contained: bool = False) -> Any:
    """Parse JSON text. Bytes must be UTF-8 without a byte order mark (RFC 7515, sections 2 and 4).

    ``contained``: the text has parts that are each checked by their own reader, and one bad part must not spoil the
    others. Of duplicate members the last one counts (RFC 7515 and RFC 7517 allow either), a number that is too large
    becomes infinity, and a lone surrogate is kept: it can't be encoded.

    Raises ValueError. Takes linear time.
    """

    def read_object(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in members:
            if name in found:
                raise ValueError(f"the member {name[:60]!r} is there twice")
            found[name] = value
        return found

    def read_int(digits: str) -> int | float:
        if len(digits) > _MOST_DIGITS:
            if contained:
                return math.inf
            raise ValueError(f"a number of {len(digits)} digits, more than {_MOST_DIGITS}")
        return int(digits)

    def read_float(digits: str) -> float:
        if len(digits) > _MOST_DIGITS or not math.isfinite(number := float(digits)):
            if contained:
                return math.inf
            raise ValueError(f"the number {digits[:20]} is too large or too long")
        return number

    def refuse_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number in JSON")

    whole = text.decode("utf-8") if isinstance(text, bytes) else text
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(whole):
        depth += (match[0] in ("[", "{")) - (match[0] in ("]", "}"))
        if depth > DEEPEST_JSON:
            raise ValueError(f"nested deeper than {DEEPEST_JSON} levels")
    value = json.loads(
        whole,
        parse_constant=refuse_constant,
        parse_int=read_int,
        parse_float=read_float,
        object_pairs_hook=dict if contained else read_object,
    )
    if not contained and _MAYBE_SURROGATE.search(whole):
        json.dumps(value, ensure_ascii=False).encode()
    return value
