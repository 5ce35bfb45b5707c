"""Worker processes at a terminal, and how long the place of one that dies stays empty. Forked for real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

# The first argument tells what a worker does, the second how many seconds of life are too few.
PARENT = """
import fcntl, logging, os, select, signal, sys, termios
from meshtls.sidecar import workers
from meshtls.sidecar.whole_lines import WholeLines

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(created)f %(message)s")
workers._SOON = float(sys.argv[2])
if sys.stdin.isatty():
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)

def serve(parent, place):
    if sys.argv[1] == "dies":
        raise SystemExit(3)
    asked = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, frame: asked.append(signal.Signals(got).name))
    lines.write(f"up {os.getpid()} in group {os.getpgid(0)}\\n")
    while not asked:
        if select.select([parent], [], [], 0.05)[0]:
            return
    lines.write(f"drained after {' '.join(asked)}\\n")

with WholeLines(sys.stdout) as lines:
    sys.exit(workers.Workers(2, serve).run())
"""


@contextmanager
def parent(*arguments: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", PARENT, *arguments]
    with subprocess.Popen(
        argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """The next line that matches."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if match := re.search(pattern, line):
            return match
    raise AssertionError(f"wanted a line like {pattern!r}, got {seen}")


def emptied(process: subprocess.Popen[str], times: int) -> list[float]:
    """For how many seconds worker 1's place stayed empty, each time that its process had ended."""
    found = []
    for _ in range(times):
        died = float(said(process, r"^([0-9.]+) worker 1, process \d+, ended .+ another takes its place")[1])
        found.append(float(said(process, r"^([0-9.]+) worker 1 is process")[1]) - died)
    return found


def test_a_worker_that_dies_at_once_is_replaced_after_a_pause_that_doubles() -> None:
    with parent("dies", "10") as process:
        said(process, r"worker 1 is process")
        pauses = emptied(process, 3)
    assert all(pause >= 0.9 * least for pause, least in zip(pauses, (0.2, 0.4, 0.8), strict=True)), pauses


def test_a_worker_that_has_lived_long_is_replaced_after_the_shortest_pause_each_time() -> None:
    with parent("dies", "0") as process:
        said(process, r"worker 1 is process")
        pauses = emptied(process, 5)
    assert min(pauses) >= 0.09
    assert min(pauses[3:]) < 1.5, "doubled each time, the fourth would be longer"


def test_each_worker_is_in_a_group_of_its_own() -> None:
    with parent("serves", "10") as process:
        for _ in range(2):
            up = said(process, r"^up (\d+) in group (\d+)")
            assert up[1] == up[2] != str(os.getpgid(process.pid))


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The ends of a pseudo-terminal: the keyboard's and the program's."""
    ends = os.openpty()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def test_a_control_c_reaches_the_parent_alone_which_has_its_workers_drain(terminal: tuple[int, int]) -> None:
    keyboard, program = terminal
    with parent("serves", "10", stdin=program) as process:
        for _ in range(2):
            said(process, r"^up ")
        os.write(keyboard, b"\x03")
        for _ in range(2):
            assert said(process, r"^drained after (.+)")[1] == "SIGTERM"
        assert process.wait(20) == 0


def test_a_signal_to_the_parent_reaches_its_workers() -> None:
    with parent("serves", "10") as process:
        for _ in range(2):
            said(process, r"^up ")
        process.send_signal(signal.SIGINT)
        for _ in range(2):
            assert said(process, r"^drained after (.+)")[1] == "SIGTERM"
        assert process.wait(20) == 0
