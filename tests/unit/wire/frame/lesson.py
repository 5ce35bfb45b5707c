"""The lesson's own code, from its text where that is at hand: the reference to compare with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[4]
_TEXT = Path("shared", "brief", "0-wire-lesson.txt")
_CODE = re.compile(r"^4\. Code\n(.*?)^5\. Tests\n(.*?)^6\. ", re.MULTILINE | re.DOTALL)


def lesson() -> tuple[str, str]:
    """Its code and its tests. Skips the test where the text is not beside the repository."""
    for directory in _ROOT.parents:
        if (directory / _TEXT).is_file():
            found = _CODE.search((directory / _TEXT).read_text("utf-8"))
            assert found is not None, "the lesson has no sections 4 and 5"
            return found[1], found[2]
    pytest.skip("the lesson's text is not beside the repository")


def reference() -> Any:
    """Its class PacketBuilder."""
    names: dict[str, Any] = {"__name__": "lesson"}
    exec(lesson()[0], names)  # noqa: S102  # its own code is what is compared
    return names["PacketBuilder"]
