"""Worker processes, forked for real: each is watched, replaced, and told to stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# What a worker does is told by the first argument; one that waits ends after so many signals, or with its parent.
PARENT = """
import logging, os, select, signal, sys
from meshtls.errors import ConfigError
from meshtls.sidecar.whole_lines import WholeLines
from meshtls.sidecar.workers import Workers

# The test of whole lines has standard output for itself.
where = sys.stderr if sys.argv[1] == "lines" else sys.stdout
logging.basicConfig(level=logging.INFO, stream=where, format="%(levelname)s %(message)s")

if sys.argv[1] == "refork":
    fork, forks = os.fork, []
    def refused_once():
        forks.append(len(forks))
        if len(forks) == 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()
    os.fork = refused_once

def serve(parent, place):
    if sys.argv[1] == "config":
        raise ConfigError("a.yaml: it is wrong")
    if sys.argv[1] == "fails":
        raise ZeroDivisionError("a defect")
    if sys.argv[1] == "lines":
        for number in range(200):
            lines.write(f"_{os.getpid()}:" + "x" * (50 + 97 * number) + ":end\\n")
        return
    asked = []
    if sys.argv[1] == "reread":
        signal.signal(signal.SIGHUP, lambda *_: lines.write(f"reload {os.getpid()}\\n"))
    signal.signal(signal.SIGTERM, lambda *_: asked.append("stop"))
    lines.write(f"up {os.getpid()}\\n")
    told = 0
    while len(asked) < int(sys.argv[2]):
        if len(asked) > told:
            told += 1
            lines.write(f"asked {os.getpid()}\\n")
        if select.select([parent], [], [], 0.05)[0]:
            lines.write(f"orphan {os.getpid()}\\n")
            return
    lines.write(f"stopped {os.getpid()}\\n")

found = {True: iter([True, False]), False: iter([False, True])}

def reread(asked):
    result = next(found[asked], False)
    lines.write(f"reread asked={asked} {result}\\n")
    return result

with WholeLines(sys.stdout) as lines:
    sys.exit(Workers(2, serve, reread if sys.argv[1] == "reread" else None).run())
"""


@contextmanager
def parent(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", PARENT, *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str], start: str) -> str:
    """The next line that starts so."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(start):
            return line.strip()
    raise AssertionError(f"wanted a line that starts with {start!r}, got {seen}")


def pids_of(process: subprocess.Popen[str], count: int = 2) -> list[int]:
    return [int(said(process, "up").split()[1]) for _ in range(count)]


def test_each_worker_is_a_process_and_all_are_asked_to_stop() -> None:
    with parent("wait", "1") as process:
        workers = pids_of(process)
        assert len({*workers, process.pid}) == 3
        process.send_signal(signal.SIGTERM)
        assert {int(said(process, "stopped").split()[1]) for _ in range(2)} == set(workers)
        assert process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_is_passed_on_as_well(number: signal.Signals) -> None:
    with parent("wait", "2") as process:
        pids_of(process)
        process.send_signal(number)
        assert len({said(process, "asked") for _ in range(2)}) == 2
        process.send_signal(number)
        assert process.wait(20) == 0


def test_a_worker_that_dies_is_noticed_logged_and_replaced() -> None:
    with parent("wait", "1") as process:
        first, second = pids_of(process)
        os.kill(first, signal.SIGKILL)
        line = said(process, "ERROR")
        assert re.fullmatch(rf"ERROR worker [12], process {first}, ended by signal 9; another takes its place", line)
        (third,) = pids_of(process, 1)
        assert third not in (first, second)
        process.send_signal(signal.SIGTERM)
        assert {int(said(process, "stopped").split()[1]) for _ in range(2)} == {second, third}
        assert process.wait(20) == 0


def test_a_worker_that_cannot_be_forked_is_retried_and_the_others_go_on() -> None:
    with parent("refork", "1") as process:
        first, second = pids_of(process)
        os.kill(first, signal.SIGKILL)
        assert said(process, "ERROR").endswith("another takes its place")
        line = said(process, "ERROR")
        assert re.fullmatch(r"ERROR worker [12] could not be started, next try in [0-9.]+ s: \[Errno 11\] .+", line)
        (third,) = pids_of(process, 1)
        process.send_signal(signal.SIGTERM)
        assert {int(said(process, "stopped").split()[1]) for _ in range(2)} == {second, third}
        assert process.wait(20) == 0


def test_a_worker_that_fails_is_replaced_again_and_again_until_told_to_stop() -> None:
    with parent("fails") as process:
        for _ in range(3):
            assert said(process, "ERROR").endswith("ended with status 1; another takes its place")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, 1)


def test_a_worker_whose_configuration_is_wrong_stops_all() -> None:
    with parent("config") as process:
        assert said(process, "ERROR") == "ERROR a.yaml: it is wrong"
        assert process.wait(20) == 2


def test_workers_end_with_their_parent() -> None:
    with parent("wait", "1") as process:
        workers = pids_of(process)
        process.kill()
        assert {int(said(process, "orphan").split()[1]) for _ in range(2)} == set(workers)


def test_lines_longer_than_a_pipe_takes_at_once_stay_whole() -> None:
    with parent("lines") as process:
        for _ in range(400):
            assert re.fullmatch(r"_[0-9]+:x+:end", said(process, "_"))
        process.send_signal(signal.SIGTERM)
        process.communicate()


def test_the_parent_validates_a_reloaded_configuration_before_its_workers_follow() -> None:
    with parent("reread", "1") as process:
        pids = {said(process, "up").split()[1] for _ in range(2)}
        said(process, "reread asked=False False")
        said(process, "reread asked=False True")
        assert {said(process, "reload").split()[1] for _ in range(2)} == pids
        process.send_signal(signal.SIGHUP)
        said(process, "reread asked=True True")
        assert {said(process, "reload").split()[1] for _ in range(2)} == pids
        process.send_signal(signal.SIGHUP)
        said(process, "reread asked=True False")
        process.terminate()
        seen = [said(process, "stopped") for _ in range(2)]
        assert len(set(seen)) == 2
        assert process.wait(20) == 0


def test_sighup_neither_ends_workers_nor_their_parent_where_there_is_nothing_to_read() -> None:
    with parent("waits", "1") as process:
        pids = {int(said(process, "up").split()[1]) for _ in range(2)}
        process.send_signal(signal.SIGHUP)
        for pid in pids:
            os.kill(pid, signal.SIGHUP)
        process.terminate()
        assert len({said(process, "stopped") for _ in range(2)}) == 2
        assert process.wait(20) == 0
