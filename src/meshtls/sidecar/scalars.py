"""The single values of a sidecar's file: each parser takes a text, or raises RequestError with what it wanted. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from meshtls.errors import RequestError
from meshtls.sidecar.address import Address

__all__ = ["count", "flag", "one_of", "parse_duration", "unique_addresses"]

E = TypeVar("E", bound=Enum)
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def unique_addresses() -> Callable[[str], Address]:
    """A parser of addresses that takes none twice; port 0 is never the same."""
    taken: set[Address] = set()

    def claim(text: str) -> Address:
        address = Address.parse(text)
        if address.port and address in taken:
            raise RequestError(f"wanted an address that no other listener has, got {address} again")
        taken.add(address)
        return address

    return claim


def one_of(kind: type[E]) -> Callable[[str], E]:
    """A parser of the values of this enum, whose values are texts."""
    words = [str(member.value) for member in kind]
    wanted = f"{', '.join(words[:-1])} or {words[-1]}"

    def parse(text: str) -> E:
        if text not in words:
            raise RequestError(f"wanted {wanted}, got {text!r}")
        return kind(text)

    return parse


def flag(text: str) -> bool:
    """``true`` or ``false``."""
    if text not in ("true", "false"):
        raise RequestError(f"wanted true or false, got {text!r}")
    return text == "true"


def count(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise RequestError(f"wanted a whole number above 0, got {text!r}")
    return int(text)


def parse_duration(text: str) -> float:
    """``100ms``, ``5s``, ``5m`` or ``1h`` in seconds, above 0."""
    match = _DURATION.fullmatch(text)
    if not match or not float(match[1]):
        raise RequestError(f"wanted a time above 0 such as 100ms, 5s, 5m or 1h, got {text!r}")
    return float(match[1]) * _SECONDS[match[2]]
