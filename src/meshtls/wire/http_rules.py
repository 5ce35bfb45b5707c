"""What a request of HTTP/1.1 and one of HTTP/2 may have alike (RFC 9110). Pure."""

from __future__ import annotations

import re
from itertools import product

__all__ = [
    "FRAMING",
    "NOT_JUDGED",
    "has_port",
    "is_host",
    "is_method",
    "is_token",
    "latin_1",
    "may_be_set",
    "may_be_trailer",
    "spellings",
    "utf_8",
]

#: Headers of one connection, and of a body's framing (RFC 9110, section 7.6.1; RFC 9112, section 6): taken out of a
#: request before it is judged, and written anew for the app.
NOT_JUDGED = frozenset(
    ("connection", "content-length", "http2-settings", "keep-alive", "proxy-connection", "te", "transfer-encoding")
)
#: Headers that a filter writes itself, or that are of HTTP/1.1: none of these is added to a request that was judged.
FRAMING = NOT_JUDGED | {"host", "upgrade"}
_NOT_SET = FRAMING | {"expect", "trailer", "x-forwarded-client-cert"}

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


def may_be_set(name: str) -> bool:
    """Whether a policy or a provider may set or remove this header of a request, its name in lower case: it neither
    frames the message nor is of one connection, nor tells the app who calls, which we alone do. WSGI and CGI take an
    underscore for a dash.
    """
    return is_token(name) and name.replace("_", "-") not in _NOT_SET


def may_be_trailer(name: str) -> bool:
    """Whether a trailer of this name, in lower case, can't change what the head said (section 6.5.1)."""
    return name not in _NOT_IN_TRAILERS and not name.startswith(_NOT_IN_TRAILERS_PREFIXES)


def spellings(name: str) -> frozenset[str]:
    """The names that WSGI and CGI take for this one: any of its dashes may be an underscore."""
    return frozenset(map("".join, product(*(("-", "_") if one == "-" else one for one in name))))


def latin_1(text: str) -> str:
    """A text as the value of a field: its bytes of UTF-8, read as Latin-1, as the values of ``HttpRequest`` are."""
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("latin-1")


def utf_8(value: str) -> str:
    """The inverse of ``latin_1``. What is not UTF-8 becomes U+FFFD."""
    return value.encode("latin-1", "replace").decode("utf-8", "replace")
