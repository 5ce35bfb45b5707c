"""Writes docs/reference from the declared keys: ``python -m meshtls.cli.reference docs/reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from meshtls.cli.config import FILES
from meshtls.config.schema import markdown_table

__all__ = ["pages"]

_HEAD = "<!-- Made by `make reference` from the keys that the code declares. Change those, not this page. -->"
_READING = """\
A file is UTF-8, of at most 1 MiB. `meshtls {name} validate` and a start tell all that is wrong with it at once, each
problem with its line and key. A key that is not in the table is a problem, and so is one that is there twice. Times are
written as Go writes them: `500ms`, `90s`, `5m`, `1h30m`. `meshtls config schema {name} --output json` prints the same
as JSON Schema, for editors."""
_SPIRE = """\

SPIRE's `{name}.conf` is read as well: in HCL, as JSON, and in a Kubernetes ConfigMap. What SPIRE has and what has no
effect here is named in a notice with the reason; what would protect or restrict and is not there is refused."""


def pages() -> Iterator[tuple[str, str]]:
    """The name and the text of each page."""
    for name, file in FILES.items():
        reading = _READING.format(name=name) + (_SPIRE.format(name=name) if name in ("agent", "server") else "")
        yield (
            f"{name}.md",
            f"{_HEAD}\n\n# The file of `{file.verb}`\n\n{reading}\n\n{markdown_table(file.keys())}\n",
        )


if __name__ == "__main__":
    for page, text in pages():
        Path(sys.argv[1], page).write_text(text, "utf-8")
