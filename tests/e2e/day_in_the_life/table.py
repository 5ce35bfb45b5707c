"""All breakages, and the table of docs/troubleshooting.md that has them: this module, run as a program, writes it."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.day_in_the_life.breakage import Breakage
from tests.e2e.day_in_the_life.connections import CONNECTIONS
from tests.e2e.day_in_the_life.nodes import NODES

__all__ = ["BREAKAGES", "PAGE", "with_table"]

BREAKAGES = (*CONNECTIONS, *NODES)
PAGE = Path(__file__).parents[3] / "docs/troubleshooting.md"
_BEGIN, _END = "| what is broken | symptom | words | metric | command | dashboard |\n", "\n\n"


def with_table(page: str) -> str:
    """The page with the table of these breakages in the place of its own."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert begin, f"the page has no table that begins with {_BEGIN}"
    assert end, "the table of the page has no end"
    return "".join([before, _BEGIN, "|---|---|---|---|---|---|\n", "\n".join(map(_row, BREAKAGES)), _END, after])


def _row(one: Breakage) -> str:
    words = f"{one.counted_as}: … {one.cause}" if one.counted_as else one.cause
    commands = ", ".join(f"`{command}`" for command in one.commands)
    return f"| {one.name} | {one.symptom} | ``{words}`` | {one.metrics} | {commands} | {one.shown} |"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text("utf-8")), "utf-8")
