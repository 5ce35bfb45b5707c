"""The marks before a line that passed, is a warning or failed: in ASCII where the output is not UTF-8."""

from __future__ import annotations

import sys
from enum import Enum

__all__ = ["Mark", "mark_text"]


class Mark(Enum):
    """The value is the name in JSON."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"


_SIGNS = {Mark.PASSED: "✓", Mark.WARNING: "‼", Mark.FAILED: "×"}
_ASCII = {Mark.PASSED: "[ok]", Mark.WARNING: "[!!]", Mark.FAILED: "[no]"}


def mark_text(mark: Mark) -> str:
    """The mark as standard output can show it."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower().replace("-", "")
    return (_SIGNS if encoding == "utf8" else _ASCII)[mark]
