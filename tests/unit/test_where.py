"""The page docs/where.md names existing files only."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "where.md").read_text("utf-8")


def test_each_path_of_the_page_is_there() -> None:
    paths = [path for path in re.findall(r"`([\w/]+(?:\.py|\.proto|/))`", PAGE) if "/" in path]
    tests = re.findall(r"`(tests/[\w/]+(?:\.py)?)`", PAGE)

    assert len(paths) + len(tests) > 40
    missing = [path for path in paths if not ((ROOT / "src/meshtls" / path).exists() or (ROOT / path).exists())]
    assert missing + [path for path in tests if not (ROOT / path).exists()] == []
