"""The documentation's site: its navigation has every page, and links lead to their place on it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_site_build", ROOT / "docs/_site/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs/_site"))  # as for a program in that directory
        spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation_once(build: ModuleType) -> None:
    there = {one.relative_to(ROOT / "docs").with_suffix("").as_posix() for one in (ROOT / "docs").rglob("*.md")}
    outside = {place.removesuffix(".md") for place in build.OUTSIDE.values()} - {"index"}
    navigated = [page for pages in build.NAVIGATION.values() for page in pages]
    assert sorted(navigated) == sorted(there | outside)


@pytest.mark.parametrize(
    ("text", "source", "place", "moved"),
    [
        ("[a](limits.md)", "docs/policy.md", "policy.md", "[a](limits.md)"),
        ("[a](limits.md#one)", "docs/policy.md", "policy.md", "[a](limits.md#one)"),
        ("[a](#one)", "docs/policy.md", "policy.md", "[a](#one)"),
        ("[a](docs/policy.md)", "README.md", "index.md", "[a](policy.md)"),
        ("[a](../README.md)", "docs/policy.md", "policy.md", "[a](index.md)"),
        ("[a](../limits.md)", "docs/reference/server.md", "reference/server.md", "[a](../limits.md)"),
        ("[a](docs/reference)", "ARCHITECTURE.md", "architecture.md", "[a](reference/server.md)"),
        ("[a](../docker-compose.yml)", "docs/deployment.md", "deployment.md", "[a](files/docker-compose.yml)"),
        ("[a](https://example.org/x.md)", "README.md", "index.md", "[a](https://example.org/x.md)"),
        ("[a](missing.md)", "README.md", "index.md", "[a](missing.md)"),
        ("```\n[a](docs/policy.md)\n```", "README.md", "index.md", "```\n[a](docs/policy.md)\n```"),
    ],
)
def test_link_leads_to_its_place_on_the_site(build: ModuleType, text: str, source: str, place: str, moved: str) -> None:
    assert build.on_site(text, source, place) == moved


def test_a_resource_that_a_browser_would_fetch_is_found(build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="a.css"><script src="a.js"></script><a href="https://example.org/">a link</a>'
        '<script defer src="https://example.org/b.js"></script><img src="//example.org/c.png">'
    )
    (tmp_path / "a.css").write_text('a { background: url(a.png) } @import "https://example.org/d.css";')
    assert build.fetched(tmp_path) == [
        'a.css: @import "https://example.org/d.css";',
        'a.html: <script defer src="https://example.org/b.js">',
        'a.html: <img src="//example.org/c.png">',
    ]
