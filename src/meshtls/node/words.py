"""Keeps what others wrote from filling a reply. Pure."""

from __future__ import annotations

__all__ = ["LONGEST_DETAIL", "LONGEST_TEXT", "bounded"]

LONGEST_TEXT = 2000
#: Both IDs of a refusal are in its detail, and each may have 2,048 bytes.
LONGEST_DETAIL = 5000
_TAIL = 500
_CUT = " ... "


def bounded(text: str, most: int = LONGEST_TEXT) -> str:
    """At most so many characters, over 505: what is cut out is the middle, for there are the values."""
    return text if len(text) <= most else text[: most - len(_CUT) - _TAIL] + _CUT + text[-_TAIL:]
