"""Programs that are notified of a new SVID: their environment and signal, and failures to notify them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from meshtls.cli.telling import RunProgram, SendSignal, Telling
from meshtls.workload.background import in_background
from tests.support.waiting import until


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
        (("a\0b",), r"a\x00b: could not be run: embedded null byte"),
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
        ("0\n", "SIGHUP could not be sent: {file}: wanted a process ID, got '0'; retrying"),
        ("-1\n", "SIGHUP could not be sent: {file}: wanted a process ID, got '-1'; retrying"),
        ("", "SIGHUP could not be sent: {file}: wanted a process ID, got ''; retrying"),
        (
            "9" * 30,
            "SIGHUP could not be sent: {file}: wanted a process ID, got '" + "9" * 30 + "'; retrying",
        ),
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

    async def tell(self, environment: Mapping[str, str]) -> bool:
        self.begun.put_nowait(environment["STATE"])
        await self.may_end.acquire()
        return True


async def test_a_busy_watcher_gets_the_newest_state_and_no_intermediate_one() -> None:
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


async def test_a_signal_is_sent_once_the_pid_file_names_a_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, signalled = tmp_path / "pid", asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, signalled.set)
    telling = Telling([SendSignal(signal.SIGUSR1, file)], pauses=(0.01, 0.01))
    try:
        async with asyncio.timeout(10), in_background(telling.run(), "tell"):
            telling.news({})
            await until(lambda: len(caplog.records) == 1)
            file.write_text("")
            await until(lambda: len(caplog.records) == 2)
            file.write_text(f"{os.getpid()}\n")
            await signalled.wait()
    finally:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    # One line for each reason, however often it was tried.
    assert [record.getMessage() for record in caplog.records] == [
        f"SIGUSR1 could not be sent: [Errno 2] No such file or directory: '{file}'; retrying",
        f"SIGUSR1 could not be sent: {file}: wanted a process ID, got ''; retrying",
    ]


async def test_a_signal_that_was_sent_is_not_sent_again_before_the_next_news() -> None:
    counted = Counted(settled=True)
    telling = Telling([counted, late := Counted(settled=False)], pauses=(0.001, 0.001))
    async with asyncio.timeout(10), in_background(telling.run(), "tell"):
        telling.news({})
        await until(lambda: late.times == 5)
        assert counted.times == 1
        telling.news({})
        await until(lambda: counted.times == 2)


async def test_a_signal_to_a_pid_that_is_gone_is_logged_once_and_not_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()

    assert await SendSignal(signal.SIGUSR1, gone.pid).tell({}) is True
    assert [record.getMessage() for record in caplog.records] == [
        "SIGUSR1 could not be sent: [Errno 3] No such process"
    ]


class Counted:
    def __init__(self, *, settled: bool) -> None:
        self.times = 0
        self._settled = settled

    async def tell(self, environment: Mapping[str, str]) -> bool:
        self.times += 1
        return self._settled
