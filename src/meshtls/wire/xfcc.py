"""The header x-forwarded-client-cert, by which an app learns who called, as Envoy writes it. Pure.

An element has pairs ``key=value`` separated by semicolons; elements, one for each proxy on the way, are separated by
commas. A value with a comma, semicolon or equals sign would need quotes: a SPIFFE ID has none of these, and PEM is
quoted and percent-encoded.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from meshtls.errors import RequestError

__all__ = ["HEADER", "Element", "appended", "element", "last_element"]

HEADER = "x-forwarded-client-cert"
_ESCAPED = str.maketrans({"\n": "%0A", " ": "%20", "+": "%2B", "/": "%2F", "=": "%3D"})


def element(by: str, digest: str, uri: str, *, cert: str = "", chain: str = "") -> str:
    """One element: ``by`` is our own URI; ``digest``, the SHA-256 of the peer's certificate in hexadecimal; ``uri``,
    the peer's. ``cert`` and ``chain`` are the peer's in PEM, the chain with its leaf; an empty one is left out.
    """
    parts = [f"By={by}", f"Hash={digest}"]
    if cert:
        parts.append(f'Cert="{cert.translate(_ESCAPED)}"')
    if chain:
        parts.append(f'Chain="{chain.translate(_ESCAPED)}"')
    parts.append(f"URI={uri}")
    return ";".join(parts)


def appended(came: list[str], new: str) -> str:
    """The header with what came and one element more."""
    return ",".join([*came, new])


class Element(NamedTuple):
    """What one proxy says of its client: ``by`` is the proxy's URI, ``uri`` the client's, ``digest`` in hexadecimal."""

    by: str
    digest: str
    uri: str


# One pair, with what divides it from the next: the value is quoted, with escaped quotes, or has no divider in it.
_PAIR = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)([,;]|\Z)')
_ELEMENT_KEYS = ("By", "Hash", "URI")


def last_element(value: str) -> Element:
    """The element of the nearest proxy, which is the last. Raises RequestError for a header that is malformed, or whose
    last element has not exactly one each of ``By``, ``Hash`` and ``URI``.
    """
    found: list[tuple[str, str]] = []
    end = 0
    while end < len(value):
        pair = _PAIR.match(value, end)
        if pair is None or (pair.end() == len(value) and pair[3]):
            raise RequestError(f"{HEADER}: wanted key=value pairs, got something else at character {end}")
        found.append((pair[1], pair[2]))
        end = pair.end()
        if pair[3] == ",":
            found.clear()
    said = {key: text for key, text in found if key in _ELEMENT_KEYS}
    if sorted(key for key, _ in found if key in _ELEMENT_KEYS) != sorted(_ELEMENT_KEYS):
        raise RequestError(f"{HEADER}: wanted one By, one Hash and one URI in the last element")
    return Element(*(said[key].removeprefix('"').removesuffix('"') for key in _ELEMENT_KEYS))
