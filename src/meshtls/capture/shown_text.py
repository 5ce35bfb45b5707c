"""What of an HTTP message may be shown: no part that may be a secret, and nothing that is too long. Pure."""

from __future__ import annotations

from meshtls.printable import printable

__all__ = ["LONGEST_TEXT", "shown_path", "shown_text"]

#: Characters of a text and of a path that are kept.
LONGEST_TEXT, LONGEST_PATH = 256, 2048


def shown_path(path: str) -> str:
    """A request's target without its query, which may have a secret: only how long it is."""
    path, mark, query = path.partition("?")
    text = printable(path[:LONGEST_PATH])
    return f"{text}?({len(query)} bytes)" if mark else text


def shown_text(text: str) -> str:
    """The beginning of a text from outside."""
    return printable(text[:LONGEST_TEXT])
