"""Shared by the targets: unexpected values of JSON and YAML, and texts that parsers tend to get wrong."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

__all__ = ["ODD_TEXTS", "json_values", "odd_text", "spoilt"]

ODD_TEXTS = [
    "", "0", "-1", "1.5", "NaN", "null", "true", "~", "9" * 400, "1e999", "\0", "\n", "\r", "\x1b[0m", "\x85", "\u2028",
    "\u0130", "\u212a", "é", "\ud800", "\U0001f600", " ", "../..", "//", "%00", "%ff", "[::1]", "[::1%lo]:1", "::", ":",
    "a" * 300, "spiffe://", "spiffe://example.org/web", "spiffe://example.org", "SPIFFE://A/b", "spiffe://a/../b",
    "unix:uid:0", "example.org", "1h", "1h1h1h", "65536", "127.0.0.1:0", "²", "٣",
]  # fmt: skip
odd_text = st.sampled_from(ODD_TEXTS) | st.text(max_size=40)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | odd_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoilt(draw: st.DrawFn, good: Any) -> Any:
    """A JSON value with a few of its parts exchanged, at any depth."""
    value = json.loads(json.dumps(good))
    for _ in range(draw(st.integers(0, 3))):
        at = value
        while True:
            places: list[Any] = list(at) if isinstance(at, dict) else list(range(len(at)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(at[place], dict | list) and draw(st.booleans()):
                at = at[place]
                continue
            if isinstance(at, dict) and draw(st.booleans()):
                at[draw(odd_text)] = at.pop(place)
            else:
                at[place] = draw(json_values)
            break
    return value
