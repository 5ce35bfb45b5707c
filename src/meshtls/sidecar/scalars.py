"""The single values of a sidecar's file: each parser takes a text, or raises RequestError with what it wanted. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from meshtls.errors import RequestError
from meshtls.scalars import duration, shown
from meshtls.sidecar.address import Address

__all__ = ["flag", "leads_back", "one_of", "parse_duration", "unique_addresses"]

E = TypeVar("E", bound=Enum)
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared with, never bound
_LOOPBACK = ("127.0.0.1", "::1")


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
            raise RequestError(f"wanted {wanted}, got {shown(text)}")
        return kind(text)

    return parse


def flag(text: str) -> bool:
    """``true`` or ``false``."""
    if text not in ("true", "false"):
        raise RequestError(f"wanted true or false, got {shown(text)}")
    return text == "true"


def parse_duration(text: str) -> float:
    """``100ms``, ``5s``, ``5m`` or ``1h30m`` in seconds, above 0."""
    return duration(text).total_seconds()


def leads_back(target: Address, listen: Address) -> bool:
    """Whether what is dialled at ``target`` is this listener itself, as far as their texts say."""
    if not listen.port or target.port != listen.port:
        return False
    if listen.host in _EVERYWHERE:
        return _is_here(target.host)
    pair = {target.host, listen.host}
    return len(pair) == 1 or ("localhost" in pair and not pair.isdisjoint(_LOOPBACK))


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1", *_EVERYWHERE) or host.startswith("127.")
