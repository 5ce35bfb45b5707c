"""Values of headers, and patterns of names, that go between a request, a provider and the app. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["is_value", "matches"]

# No control character but the tab (RFC 9110, section 5.5).
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def is_value(text: str) -> bool:
    """Whether it is a field value, as Latin-1."""
    return _VALUE.fullmatch(text) is not None


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern is this name: ``*``, ``abc*``, ``*abc`` or the name itself; all in lower case."""
    for one in patterns:
        if one == name or one == "*":
            return True
        if (one.endswith("*") and name.startswith(one[:-1])) or (one.startswith("*") and name.endswith(one[1:])):
            return True
    return False
