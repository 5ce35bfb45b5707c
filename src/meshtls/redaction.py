"""Leaves out of a URL, and of a request's target, what may be secret: for messages, logs and pages. Pure.

A user's name and password stand before the host, and keys and tokens in the query or the fragment (RFC 3986, sections
3.2.1, 3.4 and 3.5). Which parameters hold one is not known, so none is shown.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from meshtls.scalars import shown

__all__ = ["bare_url", "shown_url", "without_query"]

_HIDDEN = "…"
_QUERY = re.compile(r"[?#]")


def without_query(target: str) -> str:
    """A request's target with ``?…`` for its query and ``#…`` for its fragment."""
    found = _QUERY.search(target)
    return target if found is None or found.end() == len(target) else f"{target[: found.end()]}{_HIDDEN}"


def bare_url(url: str) -> str:
    """The URL with ``…@`` for its user info and ``?…`` for its query. Of one that is no URL, nothing before an @."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    try:
        parts = urlsplit(url)
        is_url = bool(mark and parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    # urlsplit drops line breaks, so that its places are not those of the text.
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0] if is_url else rest
    at = authority.rfind("@")
    if at >= 0:
        rest = f"{_HIDDEN}@{rest[at + 1 :]}"
    return f"{scheme}{mark}{without_query(rest)}"


def shown_url(url: str) -> str:
    """The ``bare_url`` in quotes for a message; only the beginning if it is long."""
    return shown(bare_url(url))
