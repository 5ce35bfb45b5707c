"""Runs a page of ``docs/`` as its reader does: its files, its commands, and the output that it shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

__all__ = ["DOCS", "SECONDS", "follow_page"]

DOCS = Path(__file__).parents[3] / "docs"
#: For a command to show what the page does. Where a page waits longer, as for an end of an SVID, its command waits.
SECONDS = 60.0
_BLOCK = re.compile(r"^```(yaml|hcl|nginx|python|bash|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "-- end of output --"
_FIGURE = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_TOKEN = re.compile(rf"…|{_FIGURE.pattern}(?P<ms> ms)?|[ ]{{1,200}}|[^…0-9 ]{{1,999}}")
_ROUNDED = 0.03


def follow_page(
    text: str,
    directory: Path,
    more: Mapping[str, str],
    *,
    near: float = 0.0,
    prefix: Sequence[str] = (),
    seconds: float = SECONDS,
) -> None:
    """``more`` has lines to add to files of the page. A program that prints what the page doesn't show fails this.

    ``near``: the part by which numbers may differ from those that the page shows; then times in ms may be any.
    ``prefix``: the command that runs the shell. ``seconds``: for commands to show what the page does.
    """
    shell = Shell(directory, prefix)
    try:
        for kind, block in _BLOCK.findall(text):
            if kind != "console":
                name = block.splitlines()[0].removeprefix("# ")
                (directory / name).parent.mkdir(exist_ok=True)
                (directory / name).write_text(block + more.get(name, ""))
                continue
            for shows, commands in groupby(shown(block), key=lambda one: bool(one[1])):
                follow(shell, list(commands), seconds=seconds if shows else 0, near=near)
    finally:
        shell.close()


class Shell:
    """One bash, for the whole page: what it starts in the background goes on."""

    def __init__(self, directory: Path, prefix: Sequence[str] = ()) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._bash = subprocess.Popen(
            [*prefix, "bash"], cwd=directory, env=os.environ | {"PATH": path}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, command: str) -> str:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\necho '{_END}'\n")
        self._bash.stdin.flush()
        lines: list[str] = []
        while (line := self._bash.stdout.readline()) != f"{_END}\n":
            assert line, f"bash ended at {command!r}"
            lines.append(line)
        return "".join(lines)

    def close(self) -> None:
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()


def shown(block: str) -> list[tuple[str, str]]:
    """Each command of a console block, and the output that the page shows."""
    found: list[tuple[str, str]] = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].strip(), ""))
        else:
            command, output = found[-1]
            found[-1] = command, output + line
    return found


def follow(shell: Shell, commands: list[tuple[str, str]], *, seconds: float, near: float = 0.0) -> None:
    """Those with output again, in their order, until it is as shown: a change of policy takes up to a second."""
    end = time.monotonic() + seconds
    while True:
        got = [(command, shell.run(command)) for command, _ in commands]
        if all(matches(shown, came, near) for (_, shown), (_, came) in zip(commands, got, strict=True)):
            return
        assert time.monotonic() < end, f"wanted {commands}\ngot {got}"
        time.sleep(0.1)


def matches(shown: str, came: str, near: float = 0.0) -> bool:
    if near:
        return _near(shown, came, near)
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), came) is not None


def _near(shown: str, came: str, near: float) -> bool:
    """Columns may have another width. A figure with a point may also be off by some hundredths: it was rounded."""
    pattern, figures = "", list[str]()
    for token in _TOKEN.finditer(shown):
        text = token[0]
        if text == "…":
            pattern += ".*"
        elif text.isspace() and "\n" not in text:
            pattern += " +"
        elif token["ms"]:
            pattern += f"{_FIGURE.pattern} ms"
        elif text[0].isdecimal():
            pattern += f"({_FIGURE.pattern})"
            figures.append(text)
        else:
            pattern += re.escape(text)
    found = re.fullmatch(pattern, came)
    return found is not None and all(
        abs(float(wanted) - float(got)) <= near * float(wanted) + _ROUNDED * ("." in wanted)
        for wanted, got in zip(figures, found.groups(), strict=True)
    )
