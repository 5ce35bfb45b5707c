"""Reads one line of JSON (RFC 8259), and refuses what two readers could take for two things. Pure.

That is a key that comes twice in an object, half of a surrogate pair, and a number beyond what a double holds.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn

from meshtls.errors import RequestError
from meshtls.scalars import shown

__all__ = ["read_json"]

_Pairs = list[tuple[str, Any]]
#: With more digits than these, an integer is beyond every double.
_MOST_DIGITS = 308


def read_json(line: bytes) -> tuple[Any, str | None]:
    """The value, and what is wrong with it where a key comes twice in an object; the object then lacks that key.

    So whoever answers may still find out to whom and to what. Raises RequestError for all that can't be read.
    """
    twice: list[str] = []
    try:
        value = json.loads(
            line.decode(),
            object_pairs_hook=lambda pairs: _object(pairs, twice),
            parse_float=_float,
            parse_int=_int,
            parse_constant=_no_constant,
        )
        _check_characters(line, value)
    except RecursionError as error:
        raise RequestError("wanted a JSON object, got one nested too deeply to be read") from error
    except UnicodeDecodeError as error:
        found = f"the byte 0x{error.object[error.start]:02x} at position {error.start + 1}"
        raise RequestError(f"wanted a JSON object in UTF-8, got {found}") from error
    except json.JSONDecodeError as error:
        what = f"{error.msg.removesuffix(' at')} at character {error.pos + 1}"
        raise RequestError(f"wanted a JSON object, got no JSON: {what}") from error
    return value, f"wanted each key once in an object, got {shown(twice[0])} twice" if twice else None


def _object(pairs: _Pairs, twice: list[str]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        for key, times in Counter(key for key, _ in pairs).items():
            if times > 1:
                del fields[key]
                twice.append(key)
    return fields


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        _out_of_range(text)
    return number


def _int(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        _out_of_range(text)
    return int(text)


def _out_of_range(text: str) -> NoReturn:
    raise RequestError(f"wanted numbers between -1e308 and 1e308, got {shown(text)}")


def _no_constant(name: str) -> NoReturn:
    raise RequestError(f"wanted a JSON object, got no JSON: it knows no {name}")


def _check_characters(line: bytes, value: object) -> None:
    if b"\\u" not in line:
        return  # in UTF-8 there is no way to write half of a pair but by an escape
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise RequestError(
            f"wanted characters in each string, got {half}, which is half of a surrogate pair"
        ) from error
