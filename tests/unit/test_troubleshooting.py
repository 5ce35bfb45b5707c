"""The messages that docs/troubleshooting.md explains are those of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import meshtls

SOURCE = Path(meshtls.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text("utf-8")
MESSAGES = re.findall(r"^### [0-9]+\. `(.*)`$", PAGE, re.MULTILINE)


def _texts() -> str:
    """All texts of the package, with a line feed for each value in them."""
    found = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(one.value if isinstance(one, ast.Constant) else "\n" for one in node.values))  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\0".join(found)


TEXTS = _texts()


def test_the_page_has_the_most_asked_questions() -> None:
    assert len(MESSAGES) >= 25


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_of_the_page_is_in_the_code(message: str) -> None:
    pieces = [piece for piece in message.split("…") if piece]
    assert pieces
    assert [piece for piece in pieces if piece not in TEXTS] == []


def test_a_message_that_is_not_in_the_code_is_found() -> None:
    assert "a message that nothing prints"[::-1] not in TEXTS
