"""What a request of HTTP/1.1 and one of HTTP/2 may have alike (RFC 9110). Pure."""

from __future__ import annotations

import re
from itertools import product

__all__ = ["NOT_JUDGED", "has_port", "is_host", "is_method", "is_token", "may_be_trailer", "spellings"]

#: Headers of one connection, and of a body's framing (RFC 9110, section 7.6.1; RFC 9112, section 6): taken out of a
#: request before it is judged, and written anew for the app.
NOT_JUDGED = frozenset(
    ("connection", "content-length", "http2-settings", "keep-alive", "proxy-connection", "te", "transfer-encoding")
)

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: In capital letters: methods are case-sensitive (section 9.1), and some servers raise the case of others.
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
_HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_HIGHEST_PORT = 65535
_NOT_IN_TRAILERS = frozenset((
    *("age", "authorization", "cache-control", "connection", "cookie", "date", "expect", "expires", "forwarded"),
    *("host", "http2-settings", "keep-alive", "location", "max-forwards", "pragma", "range", "retry-after"),
    *("set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "vary", "warning", "www-authenticate"),
))  # fmt: skip
_NOT_IN_TRAILERS_PREFIXES = ("content-", "if-", "x-forwarded-", "proxy-")


def is_token(text: str) -> bool:
    """Whether this may name a field, and more (section 5.6.2)."""
    return _TOKEN.fullmatch(text) is not None


def is_method(text: str) -> bool:
    """Whether this is a method that we pass on."""
    return _METHOD.fullmatch(text) is not None


def is_host(text: str) -> bool:
    """Whether this is a host with or without a port, without escapes (section 7.2)."""
    found = _HOST.fullmatch(text)
    return found is not None and (found[1] is None or int(found[1]) <= _HIGHEST_PORT)


def has_port(text: str) -> bool:
    """Whether this is a host with a port."""
    found = _HOST.fullmatch(text)
    return found is not None and found[1] is not None and int(found[1]) <= _HIGHEST_PORT


def may_be_trailer(name: str) -> bool:
    """Whether a trailer of this name, in lower case, can't change what the head said (section 6.5.1)."""
    return name not in _NOT_IN_TRAILERS and not name.startswith(_NOT_IN_TRAILERS_PREFIXES)


def spellings(name: str) -> frozenset[str]:
    """The names that WSGI and CGI take for this one: any of its dashes may be an underscore."""
    return frozenset(map("".join, product(*(("-", "_") if one == "-" else one for one in name))))
