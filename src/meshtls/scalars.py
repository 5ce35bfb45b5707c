"""Parsers of the single values in configuration files and options. Each takes a text, or raises RequestError. Pure.

The length is checked before conversion, so that a user never sees Python's errors about digits or overflow.
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
    "count_of",
    "dns_name",
    "duration",
    "log_level",
    "log_level_notice",
    "plain_or_shown",
    "port",
    "shown",
    "size",
    "size_text",
    "whole_number",
    "word",
    "workload_id",
]

#: A hundred years. Longer durations are mistakes, and some of them overflow a date.
LONGEST = timedelta(days=36525)
_SHORTEST = timedelta(milliseconds=1)
#: The names of log levels, and their names in ``logging``, whose lowest is DEBUG.
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
_SHOWN, _LONGEST_PLAIN = 60, 120
_DNS_NAME = re.compile(
    r"(?!.{254})([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.I | re.A
)


def word(text: str) -> str:
    """Any text that is not empty."""
    if not text:
        raise RequestError("wanted a word, got an empty text")
    return text


def log_level(text: str) -> str:
    """A log level's name, in upper or lower case, converted to its name in ``logging``; TRACE becomes DEBUG."""
    if text.upper() not in LEVELS:
        raise RequestError(f"wanted DEBUG, INFO, WARN or ERROR, got {shown(text)}")
    return LEVELS[text.upper()]


def log_level_notice(text: str) -> str:
    """A notice on a level that ``log_level`` replaces by another one; empty for the others."""
    return "there is no level below DEBUG; using DEBUG" if text.upper() == "TRACE" else ""


def workload_id(text: str) -> SpiffeId:
    """A workload's SPIFFE ID, which has a path: an ID without one is the trust domain's own.

    Raises InvalidSpiffeIdError.
    """
    spiffe_id = SpiffeId.parse(text)
    if not spiffe_id.path:
        raise InvalidSpiffeIdError(f"wanted a workload's ID, with a path such as {spiffe_id}/web, got {spiffe_id}")
    return spiffe_id


def duration(text: str) -> timedelta:
    """A duration in Go's format, such as ``100ms``, ``1.5h`` or ``1h30m``, from a millisecond to ``LONGEST``."""
    seconds, place = 0.0, 0
    while match := _PART.match(text, place):
        seconds += float(match[1]) * _SECONDS[match[2]]  # a number with many digits is infinite at most
        place = match.end()
    if place != len(text):
        seconds = 0.0
    if seconds < _SHORTEST.total_seconds():
        raise RequestError(f"wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got {shown(text)}")
    if seconds > LONGEST.total_seconds():
        hours = LONGEST.total_seconds() / _SECONDS["h"]
        raise RequestError(f"wanted a time of at most {hours:.0f}h, which is 100 years, got {shown(text)}")
    return timedelta(seconds=seconds)


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """A parser of decimal integers from ``lowest`` to ``highest``, both included."""

    def parse(text: str) -> int:
        number = int(text) if len(text) <= _DIGITS and text.isascii() and text.isdigit() else None
        if number is None or not lowest <= number <= highest:
            raise RequestError(f"wanted a whole number from {lowest} to {highest}, got {shown(text)}")
        return number

    return parse


def size(lowest: int, highest: int, example: int = 0) -> Callable[[str], int]:
    """A parser of sizes such as ``65536``, ``256KiB``, ``16MiB`` or ``1GiB``, in bytes, within these bounds.

    ``example``: one for the message; by default ``highest``.
    """

    def parse(text: str) -> int:
        found = _SIZE.fullmatch(text)
        number = int(found[1]) * _UNITS[found[2] or ""] if found else -1
        if not lowest <= number <= highest:
            raise RequestError(
                f"wanted a size from {size_text(lowest)} to {size_text(highest)}"
                f" such as {size_text(example or highest)}, got {shown(text)}"
            )
        return number

    return parse


def size_text(number: int) -> str:
    """The size in its shortest form, such as ``16MiB``."""
    for unit in ("GiB", "MiB", "KiB"):
        if number and not number % _UNITS[unit]:
            return f"{number // _UNITS[unit]}{unit}"
    return str(number)


def port(text: str) -> int:
    """A port, 0 to 65535."""
    try:
        return whole_number(0, 65535)(text)
    except RequestError as error:
        raise RequestError(f"wanted a port, 0 to 65535, got {shown(text)}") from error


def dns_name(text: str) -> str:
    """A DNS name that a certificate may carry: no wildcard and no trailing dot (RFC 5280, section 4.2.1.6)."""
    if not _DNS_NAME.fullmatch(text):
        raise RequestError(f"DNS name {text!r}: wanted labels of a-z, 0-9 and '-', at most 253 bytes, no wildcard")
    return text


def plain_or_shown(text: str) -> str:
    """For a message: the text itself if it is one short, printable word of ASCII, else as ``shown``."""
    is_plain = text and len(text) <= _LONGEST_PLAIN and text.isascii() and text.isprintable() and " " not in text
    return text if is_plain else shown(text)


def count_of(number: int, one: str, many: str = "") -> str:
    """The number with its noun, for a message, such as 1 SVID and 2 SVIDs. ``many``: the plural, if not with s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def shown(text: str) -> str:
    """The text in quotes for a message; only the beginning if it is long."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text)} characters)"
