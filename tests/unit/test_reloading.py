"""Reloading the configuration: what counts as a change, and the effect of SIGHUP and of a bad file."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from meshtls.errors import ConfigError
from meshtls.reloading import FileWatch, hangup_signal, reload_on_change
from tests.support.clock import ManualClock
from tests.support.waiting import until


def rewrite(file: Path) -> None:
    file.write_text("two")


def replace(file: Path) -> None:
    (file.parent / "next").write_text("two")
    (file.parent / "next").rename(file)


def rewrite_with_the_same_size_and_times(file: Path) -> None:
    before = file.stat()
    file.write_text("ONE")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def switch_a_link(file: Path) -> None:
    (file.parent / "data-2").write_text("two")
    (file.parent / "link").symlink_to(file.parent / "data-2")
    (file.parent / "link").rename(file)


@pytest.mark.parametrize("change", [rewrite, replace, rewrite_with_the_same_size_and_times, switch_a_link, Path.unlink])
def test_a_change_of_content_is_seen_once_it_is_settled(tmp_path: Path, change: Callable[[Path], object]) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    watch = FileWatch([file], ManualClock())
    assert not watch.changed()
    change(file)
    assert [watch.changed() for _ in range(3)] == [False, True, False]


def touch(file: Path) -> None:
    file.touch()


def rewrite_unchanged(file: Path) -> None:
    file.write_text("one")


def change_and_change_back(file: Path) -> None:
    file.write_text("two")
    file.write_text("one")


def become_a_pipe_and_a_file_again(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)
    assert not FileWatch([file], ManualClock()).changed()  # does not block
    file.unlink()
    file.write_text("one")


@pytest.mark.parametrize("change", [touch, rewrite_unchanged, change_and_change_back, become_a_pipe_and_a_file_again])
def test_the_same_content_is_no_change(tmp_path: Path, change: Callable[[Path], object]) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    watch = FileWatch([file], ManualClock())
    change(file)
    assert [watch.changed() for _ in range(3)] == [False, False, False]


def test_a_file_that_is_still_being_written_is_not_a_change_yet(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    watch = FileWatch([file], ManualClock())
    seen = []
    for text in ("t", "tw", "two", "two"):
        file.write_text(text)
        seen.append(watch.changed())
    assert seen == [False, False, False, True]


def test_each_of_several_files_is_watched(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("ab")
    second.write_text("c")
    watch = FileWatch([first, second], ManualClock())
    first.write_text("a")
    second.write_text("bc")
    assert [watch.changed() for _ in range(3)] == [False, True, False]


@asynccontextmanager
async def reloading(file: Path, clock: ManualClock) -> AsyncIterator[list[str]]:
    """The accepted texts; "bad" is refused."""
    taken: list[str] = []

    async def reload() -> None:
        text = file.read_text()  # noqa: ASYNC240  # a few bytes
        taken.append(text)
        if text == "bad":
            raise ConfigError("file: wanted good, got bad")

    with hangup_signal() as hangup:
        running = asyncio.create_task(reload_on_change([file], reload, hangup, clock))
        try:
            await clock.until_sleepers()
            yield taken
        finally:
            running.cancel()
            await asyncio.wait([running])
            assert running.cancelled()


async def tick(clock: ManualClock) -> None:
    await clock.until_sleepers()
    clock.advance(1)
    await until(lambda: clock.wakes_in == (1.0,))


async def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file, clock = tmp_path / "file", ManualClock()
    file.write_text("one")
    async with reloading(file, clock) as taken:
        await tick(clock)
        assert taken == []
        file.write_text("two")
        await tick(clock)
        assert taken == []
        await tick(clock)
        assert taken == ["two"]


async def test_sighup_has_the_file_read_at_once_changed_or_not(tmp_path: Path) -> None:
    file, clock = tmp_path / "file", ManualClock()
    file.write_text("one")
    async with reloading(file, clock) as taken:
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: taken == ["one"])
        file.write_text("two")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: taken == ["one", "two"])
        await tick(clock)
        await tick(clock)
        assert taken == ["one", "two"]  # known already


async def test_a_refused_configuration_is_logged_and_the_next_one_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, clock = tmp_path / "file", ManualClock()
    file.write_text("one")
    async with reloading(file, clock) as taken:
        file.write_text("bad")
        await tick(clock)
        await tick(clock)
        assert taken == ["bad"]
        await tick(clock)
        await tick(clock)
        assert caplog.messages == ["file: wanted good, got bad; the configuration in use stays"]  # once
        file.write_text("two")
        await tick(clock)
        await tick(clock)
        assert taken == ["bad", "two"]


@pytest.mark.parametrize("hangup", [True, False], ids=["at SIGHUP", "by itself"])
async def test_a_pipe_in_place_of_the_file_is_refused_unread_and_the_next_file_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hangup: bool
) -> None:
    file, clock = tmp_path / "file", ManualClock()
    file.write_text("one")
    async with reloading(file, clock) as taken:
        file.unlink()
        os.mkfifo(file)
        if hangup:
            os.kill(os.getpid(), signal.SIGHUP)
        else:
            await tick(clock)
            await tick(clock)
        await until(lambda: bool(caplog.messages))
        refusal = f"{file}: wanted a regular file, since it is read again; the configuration in use stays"
        assert (caplog.messages, taken) == ([refusal], [])
        file.unlink()
        file.write_text("two")
        await tick(clock)
        await tick(clock)
        assert taken == ["two"]


@contextmanager
def default_hangup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_the_default_sighup_handler_is_restored_afterwards() -> None:
    with default_hangup():
        with hangup_signal() as hangup:
            os.kill(os.getpid(), signal.SIGHUP)
            await hangup.wait()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
