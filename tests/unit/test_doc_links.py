"""Links within the documentation lead to files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")))


def links(text: str) -> list[str]:
    """The targets of a page's links, without those to other sites."""
    prose = "".join(text.split("```")[::2])
    found = [part.partition(")")[0] for part in prose.split("](")[1:]]
    return [one for one in found if not one.startswith(("https:", "http:"))]


def anchors(text: str) -> set[str]:
    """The names under which a page's headings can be reached."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def broken(page: Path) -> list[str]:
    found = []
    for link in links(page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=[str(one.relative_to(ROOT)) for one in PAGES])
def test_each_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_to_a_missing_page_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    (tmp_path / "b.md").write_text("# One `thing`\n")
    page.write_text("[a](b.md) [b](c.md) [c](b.md#one-thing) [d](b.md#two) [e](https://example.org/c.md) `[f](g.md)`\n")
    assert broken(page) == ["c.md", "b.md#two", "g.md"]
