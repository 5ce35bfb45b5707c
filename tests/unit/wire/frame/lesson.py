"""The lesson's own code, from its text where that is at hand: the reference to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[4]
_TEXT = Path("shared", "brief", "0-wire-lesson.txt")


def lesson() -> tuple[str, str]:
    """Its code and its tests. Skips the test where the text is not beside the repository."""
    for directory in _ROOT.parents:
        if (directory / _TEXT).is_file():
            text = (directory / _TEXT).read_text("utf-8")
            code, tests, _ = text.partition("\n4. Code\n")[2].replace("\n6. ", "\n5. Tests\n").split("\n5. Tests\n")
            return code, tests
    pytest.skip("the lesson's text is not beside the repository")


def reference() -> Any:
    """Its class PacketBuilder."""
    names: dict[str, Any] = {"__name__": "lesson"}
    exec(lesson()[0], names)  # noqa: S102  # its own code is what is compared
    return names["PacketBuilder"]
