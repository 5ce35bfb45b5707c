"""Writes docs/reference from the declared keys and states: ``python -m meshtls.cli.reference docs/reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from meshtls.cli.config import FILES
from meshtls.config.schema import markdown_table
from meshtls.sidecar.tunnel import states as session
from meshtls.tls import states as tls_states
from meshtls.wire.http2 import states, streams

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
_STATES_HEAD = """\
<!-- Made by `make reference` from the tables that the code works by. Change those, not this page. -->

# States

A row is a state, a column what happens, a cell the state that follows. Where a cell is empty, the code can't take that
step: it raises, and a test shows it."""
_Table = Mapping[Any, Mapping[Any, Enum]]  # keys of a Mapping are invariant
_TABLES: tuple[tuple[str, str, _Table], ...] = (
    ("The session of a tunnel", "sidecar/tunnel/states.py", session.NEXT),
    ("The HTTP/2 connection of a tunnel", "wire/http2/states.py", states.NEXT),
    ("A stream of a tunnel", "wire/http2/streams.py", streams.NEXT),
    ("A connection of the library's `listen` or `dial`", "tls/states.py", tls_states.NEXT),
)


def pages() -> Iterator[tuple[str, str]]:
    """The name and the text of each page."""
    for name, file in FILES.items():
        reading = _READING.format(name=name) + (_SPIRE.format(name=name) if name in ("agent", "server") else "")
        yield (
            f"{name}.md",
            f"{_HEAD}\n\n# The file of `{file.verb}`\n\n{reading}\n\n{markdown_table(file.keys())}\n",
        )
    tables = "\n\n".join(f"## {title}\n\n`{module}`\n\n{_state_table(table)}" for title, module, table in _TABLES)
    yield "states.md", f"{_STATES_HEAD}\n\n{tables}\n"


def _state_table(table: _Table) -> str:
    events = sorted({event for steps in table.values() for event in steps}, key=lambda event: int(event.value))
    rows = [
        [state.name, *(steps[event].name if event in steps else "" for event in events)]
        for state, steps in table.items()
    ]
    head = ["", *(event.name for event in events)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    for page, text in pages():
        Path(sys.argv[1], page).write_text(text, "utf-8")
