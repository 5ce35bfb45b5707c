"""The single values that several kinds of configuration files have. Pure: each takes a text, or raises RequestError.

Each is bounded before it is made a number: neither Python's limit of digits nor an overflow is what a user is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from meshtls.errors import InvalidSpiffeIdError, RequestError
from meshtls.spiffeid import SpiffeId

__all__ = [
    "LEVELS",
    "LONGEST",
    "dns_name",
    "duration",
    "log_level",
    "log_level_notice",
    "port",
    "shown",
    "size",
    "size_text",
    "whole_number",
    "word",
    "workload_id",
]

#: A hundred years. Whatever is longer is a slip of the hand, and some of it has no date.
LONGEST = timedelta(days=36525)
_SHORTEST = timedelta(milliseconds=1)
#: Names of log levels, and what ``logging`` calls each: its finest is DEBUG.
LEVELS = {
    "TRACE": "DEBUG",
    "DEBUG": "DEBUG",
    "INFO": "INFO",
    "WARN": "WARNING",
    "WARNING": "WARNING",
    "ERROR": "ERROR",
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DIGITS = 18
_SIZE = re.compile(r"([0-9]{1,18})(|KiB|MiB|GiB)", re.ASCII)
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SHOWN = 60
_DNS_NAME = re.compile(
    r"(?!.{254})([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.I | re.A
)


def word(text: str) -> str:
    """Any text but the empty one."""
    if not text:
        raise RequestError("wanted a word, got an empty text")
    return text


def log_level(text: str) -> str:
    """By either of its names, and in any case; what ``logging`` calls it. Its finest is DEBUG, for TRACE too."""
    if text.upper() not in LEVELS:
        raise RequestError(f"wanted DEBUG, INFO, WARN or ERROR, got {shown(text)}")
    return LEVELS[text.upper()]


def log_level_notice(text: str) -> str:
    """What is to be said of a level that ``log_level`` took for another one; empty for the rest."""
    return "there is nothing below DEBUG here; taken as DEBUG" if text.upper() == "TRACE" else ""


def workload_id(text: str) -> SpiffeId:
    """A SPIFFE ID with a path: one without is the trust domain's own, which no workload can have.

    Raises InvalidSpiffeIdError.
    """
    spiffe_id = SpiffeId.parse(text)
    if not spiffe_id.path:
        raise InvalidSpiffeIdError(f"wanted a workload's ID, with a path such as {spiffe_id}/web, got {spiffe_id}")
    return spiffe_id


def duration(text: str) -> timedelta:
    """``100ms``, ``90s``, ``1.5h``, ``1h30m``, as Go writes them: from a millisecond to ``LONGEST``."""
    # A float of however many digits is at most infinite.
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _parts(text))
    if seconds < _SHORTEST.total_seconds():
        raise RequestError(f"wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got {shown(text)}")
    if seconds > LONGEST.total_seconds():
        hours = LONGEST.total_seconds() / _SECONDS["h"]
        raise RequestError(f"wanted a time of at most {hours:.0f}h, which is 100 years, got {shown(text)}")
    return timedelta(seconds=seconds)


def _parts(text: str) -> list[tuple[str, str]]:
    """Each number with its unit; none where something else stands in the text."""
    parts, place = [], 0
    while match := _PART.match(text, place):
        parts.append((match[1], match[2]))
        place = match.end()
    return parts if place == len(text) else []


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """A parser of decimal numbers between these two, both included."""

    def parse(text: str) -> int:
        number = int(text) if len(text) <= _DIGITS and text.isascii() and text.isdigit() else None
        if number is None or not lowest <= number <= highest:
            raise RequestError(f"wanted a whole number from {lowest} to {highest}, got {shown(text)}")
        return number

    return parse


def size(lowest: int, highest: int) -> Callable[[str], int]:
    """A parser of sizes such as ``65536``, ``256KiB``, ``16MiB`` or ``1GiB`` between these two, in bytes."""

    def parse(text: str) -> int:
        found = _SIZE.fullmatch(text)
        number = int(found[1]) * _UNITS[found[2] or ""] if found else -1
        if not lowest <= number <= highest:
            raise RequestError(
                f"wanted a size from {size_text(lowest)} to {size_text(highest)} such as {size_text(highest)},"
                f" got {shown(text)}"
            )
        return number

    return parse


def size_text(number: int) -> str:
    """The shortest way to write a size: ``16MiB``."""
    for unit in ("GiB", "MiB", "KiB"):
        if number and not number % _UNITS[unit]:
            return f"{number // _UNITS[unit]}{unit}"
    return str(number)


def port(text: str) -> int:
    """0 to 65535."""
    try:
        return whole_number(0, 65535)(text)
    except RequestError as error:
        raise RequestError(f"wanted a port, 0 to 65535, got {shown(text)}") from error


def dns_name(text: str) -> str:
    """A DNS name that a certificate may carry: no wildcard and no trailing dot (RFC 5280, section 4.2.1.6)."""
    if not _DNS_NAME.fullmatch(text):
        raise RequestError(f"DNS name {text!r}: wanted labels of a-z, 0-9 and '-', at most 253 bytes, no wildcard")
    return text


def shown(text: str) -> str:
    """This text in quotes, for a message: the beginning of a long one."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text)} characters)"
