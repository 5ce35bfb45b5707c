"""Programs that are told: what they get, and what happens where they can't be told."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from meshtls.cli.telling import RunProgram, SendSignal, Telling
from meshtls.workload.background import in_background


async def test_a_program_gets_our_environment_and_the_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "yes")
    script = "import os, sys; open(sys.argv[1], 'w').write(os.environ['OURS'] + os.environ['MESHTLS_SPIFFE_ID'])"
    program = RunProgram([sys.executable, "-c", script, str(tmp_path / "told")])

    await program.tell({"MESHTLS_SPIFFE_ID": "spiffe://example.org/web"})

    assert (tmp_path / "told").read_text() == "yesspiffe://example.org/web"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("/nonexistent",), "/nonexistent: could not be run: [Errno 2] No such file or directory: '/nonexistent'"),
        (("sh", "-c", "exit 3"), "sh ended with code 3"),
        (("a\0b",), "a\0b: could not be run: embedded null byte"),
    ],
)
async def test_a_program_that_fails_is_logged(
    words: tuple[str, ...], complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    await RunProgram(words).tell({})

    assert caplog.record_tuples == [("meshtls.watch", logging.ERROR, complaint)]


async def test_a_program_that_does_not_end_is_killed_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    await RunProgram(("sleep", "1000"), seconds=0.05).tell({})

    assert caplog.record_tuples == [("meshtls.watch", logging.ERROR, "sleep did not end within 0.05 s")]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("0\n", "SIGHUP could not be sent: {file}: wanted the number of a process, got '0'"),
        ("-1\n", "SIGHUP could not be sent: {file}: wanted the number of a process, got '-1'"),
        ("", "SIGHUP could not be sent: {file}: wanted the number of a process, got ''"),
        ("9" * 30, "SIGHUP could not be sent: {file}: wanted the number of a process, got '" + "9" * 30 + "'"),
    ],
)
async def test_a_file_that_names_no_process_is_logged_and_nobody_gets_the_signal(
    tmp_path: Path, content: str, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "pid"
    file.write_text(content)

    await SendSignal(signal.SIGHUP, file).tell({})

    assert [record.getMessage() for record in caplog.records] == [complaint.format(file=file)]


class Held:
    """A program that ends when the test says so."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.may_end = asyncio.Semaphore(0)

    async def tell(self, environment: Mapping[str, str]) -> None:
        self.begun.put_nowait(environment["STATE"])
        await self.may_end.acquire()


async def test_who_is_still_busy_is_told_of_the_newest_afterwards_and_of_nothing_in_between() -> None:
    program = Held()
    telling = Telling([program])
    async with asyncio.timeout(10), in_background(telling.run(), "tell"):
        telling.news({"STATE": "1"})
        assert await program.begun.get() == "1"
        telling.news({"STATE": "2"})
        telling.news({"STATE": "3"})
        assert program.begun.empty()
        program.may_end.release()
        assert await program.begun.get() == "3"
        program.may_end.release()
        telling.news({"STATE": "4"})
        assert await program.begun.get() == "4"
