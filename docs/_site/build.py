"""Builds the documentation as a site: ``python docs/_site/build.py OUTPUT``. Broken links are errors.

Pages of the repository that are not in docs/ are on the site, too, and links lead to their place there. Nothing is
fetched, neither now nor by a reader's browser.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from diagrams import svg_of, with_diagrams

ROOT = Path(__file__).resolve().parents[2]
#: The pages that are not in docs/, and their places on the site.
OUTSIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "bench/README.md": "measuring.md",
    "examples/README.md": "examples.md",
}
#: The navigation: each page of docs/ has to be in it.
NAVIGATION = {
    "Learn": ("concepts", "lesson", "handshake-costs", "tls-states", "glossary"),
    "Tutorials": (
        "tutorial-strict",
        "tutorial-rotation",
        "tutorial-revocation",
        "tutorial-hsm",
        "tutorial-log",
        "tutorial-federation",
        "tutorial-wire",
    ),
    "How to": (
        "deployment",
        "sidecar",
        "library",
        "operations",
        "alerts",
        "admin",
        "tracing",
        "dashboard",
        "check",
        "captures",
        "captures-live",
        "troubleshooting",
        "migration-certificates",
        "migration-spire",
        "examples",
    ),
    "Policy": ("policy", "policy-sidecar", "policy-commands", "request-auth"),
    "Trust": ("certificates", "authorities", "revocation", "federation", "transparency-log", "audit"),
    "Security": ("security-model", "limits", "security"),
    "Reference": (
        "reference/commands",
        "reference/server",
        "reference/agent",
        "reference/sidecar",
        "reference/ca",
        "reference/policy",
        "reference/outcomes",
        "reference/metrics",
        "reference/python",
        "reference/states",
    ),
    "The code": ("architecture", "where", "contributing", "measuring", "bench/README", "changelog"),
}
_LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?(?=\))")
_FILE = re.compile(r"(?<=\]\()(?:\.\./)*(files/[^)#]+)(?=\))")
#: What a browser loads by itself, unlike a link in the text, from another site.
_FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
    r"|(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\s]*"
)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def main() -> None:
    output = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        assemble(tree)
        command = [
            sys.executable,
            "-m",
            "sphinx",
            "-b",
            "html",
            "-W",
            "--keep-going",
            "-q",
            "-E",
            str(tree),
            str(output),
        ]
        failed = subprocess.call(command)  # noqa: S603  # all of it is ours
    fetches = fetched(output)
    for one in fetches:
        print(f"{one}: a reader's browser would fetch this", file=sys.stderr)
    sys.exit(1 if failed or fetches else 0)


def assemble(tree: Path) -> None:
    """Write all pages, and what they show, into this directory."""
    shutil.copytree(ROOT / "docs", tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("_site"))
    shutil.copy(Path(__file__).with_name("conf.py"), tree)
    pages = {f"docs/{one.relative_to(tree).as_posix()}": one for one in tree.rglob("*.md")}
    pages |= {source: tree / place for source, place in OUTSIDE.items()}
    for source, page in pages.items():
        text = on_site((ROOT / source).read_text("utf-8"), source, page.relative_to(tree).as_posix())
        page.write_text(with_diagrams(text, svg_of), "utf-8")
        for link in _FILE.findall(text):
            file = tree / link
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file.relative_to(tree / "files"), file)
    with (tree / "index.md").open("a") as index:
        index.write(_tables_of_contents())


def fetched(output: Path) -> list[str]:
    """Each file of the site, and what a reader's browser would fetch from elsewhere to show it."""
    files = sorted(one for one in output.rglob("*") if one.suffix in {".html", ".css"})
    return [
        f"{file.relative_to(output)}: {found[0]}"
        for file in files
        for found in _FETCHED.finditer(file.read_text("utf-8"))
    ]


def on_site(text: str, source: str, place: str) -> str:
    """The text of a page of the repository, with links as they have to be at its place on the site."""
    fences = _FENCE.findall(text)
    prose = [
        _LINK.sub(lambda found: _moved(found[1], source, place) + (found[2] or ""), part) for part in _FENCE.split(text)
    ]
    return "".join(part for pair in zip(prose, [*fences, ""], strict=True) for part in pair)


def _moved(link: str, source: str, place: str) -> str:
    target = normpath(str(PurePosixPath(source).parent / link))
    if target in OUTSIDE:
        there = OUTSIDE[target]
    elif target == "docs/reference":
        there = "reference/server.md"
    elif target.startswith("docs/"):
        there = target.removeprefix("docs/")
    elif (ROOT / target).is_file():
        there = f"files/{target}"
    else:
        return link  # it leads nowhere, which the build says
    return relpath(there, str(PurePosixPath(place).parent))


def _tables_of_contents() -> str:
    blocks = [
        "\n".join(("```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```"))
        for caption, pages in NAVIGATION.items()
    ]
    return "\n\n" + "\n\n".join(blocks) + "\n"


if __name__ == "__main__":
    main()
