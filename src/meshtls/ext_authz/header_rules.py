"""Which headers may be passed between a request, a provider and the app. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from meshtls.wire.http_rules import is_token

__all__ = ["is_passed", "is_value", "latin_1", "matches", "utf_8"]

# No control character but the tab (RFC 9110, section 5.5).
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
#: They are of one connection, or frame the body (RFC 9110, section 7.6.1); or we alone tell the app who calls.
_OURS = frozenset(
    (
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-client-cert",
    )
)


def is_value(text: str) -> bool:
    """Whether it is a field value, as Latin-1."""
    return _VALUE.fullmatch(text) is not None


def is_passed(name: str) -> bool:
    """Whether a provider may set or remove this header, whose name is in lower case; framing, for one, it may not."""
    return name not in _OURS and is_token(name)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern is this name: ``*``, ``abc*``, ``*abc`` or the name itself; all in lower case."""
    for one in patterns:
        if one == name or one == "*":
            return True
        if (one.endswith("*") and name.startswith(one[:-1])) or (one.startswith("*") and name.endswith(one[1:])):
            return True
    return False


def utf_8(value: str) -> str:
    """A header's value, which is Latin-1 here, as the text that its bytes are in UTF-8."""
    return value.encode("latin-1", "replace").decode("utf-8", "replace")


def latin_1(value: str) -> str:
    """The inverse of ``utf_8``."""
    return value.encode("utf-8", "replace").decode("latin-1")
