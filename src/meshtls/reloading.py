"""Triggers a reload of the configuration of a running program: on SIGHUP, and when one of its files has changed.

Files are polled. inotify would miss a replaced symbolic link on the path (a Kubernetes ConfigMap is a chain of these)
and writes by other machines. A change counts once two polls in a row see the same content, so that a file is not read
while it is being written.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import stat
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from meshtls.clock import Clock
from meshtls.errors import ConfigError
from meshtls.logs import logger

__all__ = ["FileStat", "FileWatch", "hangup_signal", "is_irregular", "reload_on_change", "stat_of_regular"]

log = logger("meshtls.reload")

#: Seconds between two polls of the files.
INTERVAL = 1.0
#: With very many files: so many times as long as a poll took.
_PAUSES = 20
#: Seconds after a write during which another write may leave the file's times unchanged.
_RECENT = 2.0
#: Bytes of a configuration file. Changes of larger files are detected by inode and times only.
_LARGEST = 1 << 24
#: Files that a message names.
_NAMED = 4
#: Device, inode, size, and the times of the last change of content and of status, in nanoseconds.
FileStat = tuple[int, int, int, int, int]


@contextmanager
def hangup_signal() -> Iterator[asyncio.Event]:
    """The event that SIGHUP sets while the body runs, instead of ending the process. Main thread only.

    Enter it before anything else, since until then SIGHUP kills the process. The code that handles the event clears it.
    """
    loop, hangup = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    try:
        yield hangup
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def reload_on_change(
    files: Iterable[Path] | FileWatch,
    reload: Callable[[], Awaitable[None]],
    hangup: asyncio.Event,
    clock: Clock,
    *,
    interval: float = INTERVAL,
    refused: Callable[[ConfigError | None], None] = lambda _: None,
) -> NoReturn:
    """Call ``reload`` for each SIGHUP (``hangup``) and each change of a file's content, until cancelled.

    ``reload`` reads the files. If it raises ConfigError, the error is logged, and the running configuration stays.
    ``refused`` is called with the error after each try, and with None for one that succeeded. Files are polled every
    ``interval`` seconds.

    If much time may pass between the first reading of the files and this call, pass a FileWatch that was created before
    that reading, so that changes in between are noticed.
    """
    watch = files if isinstance(files, FileWatch) else FileWatch(files, clock)
    took = 0.0
    while True:
        sleep = asyncio.ensure_future(clock.sleep(max(interval, _PAUSES * took)))
        hung_up = asyncio.ensure_future(hangup.wait())
        try:
            await asyncio.wait((sleep, hung_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            hung_up.cancel()
        asked = hangup.is_set()
        hangup.clear()
        began = time.monotonic()
        changed = asked or watch.changed()
        took = time.monotonic() - began
        if not changed:
            continue
        if asked:
            watch.look()
        log.info("%s: reading the configuration again", "SIGHUP" if asked else watch)
        try:
            watch.check_regular()
            await reload()
        except ConfigError as error:
            told = "; ".join(error.problems)
            log.error("%s; the configuration in use stays", told)  # noqa: TRY400  # the message says it all
            refused(error)
        else:
            refused(None)


class FileWatch:
    """Detects changes of files. A file that is missing or not regular counts as empty.

    A function that lists the files is called at each look: which files there are is then a part of the content.
    """

    def __init__(self, files: Iterable[Path] | Callable[[], Iterable[Path]], clock: Clock) -> None:
        fixed = () if callable(files) else tuple(files)
        self._listed = files if callable(files) else lambda: fixed
        self._files: tuple[Path, ...] = fixed
        self._clock = clock
        self._stats: list[FileStat | None] = []
        #: Digests. One digest of all content would not show bytes that move between files.
        self._content: dict[Path, bytes] = {}
        self._pending: dict[Path, bytes] | None = None
        self.look()

    def look(self) -> None:
        """Take the current content as known: ``changed`` reports later changes."""
        self._stats = self._stat_all()
        self._content = self._digests()
        self._pending = None

    def relist(self) -> None:
        """The function lists other files from now on: take the current content of the new ones as known."""
        known = self._content
        self._stats = self._stat_all()
        self._content = {file: known[file] if file in known else _digest(file) for file in self._files}

    def check_regular(self) -> None:
        """Raises ConfigError for files that exist and are not regular. A directory is left to those that read files."""
        irregular = [
            f"{file}: wanted a regular file, since it is read again"
            for file in self._files
            if is_irregular(file) and not file.is_dir()
        ]
        if irregular:
            raise ConfigError(*irregular)

    def changed(self) -> bool:
        """Whether the content differs from the known one and is the same as at the last call. It is then known."""
        before = self._files
        stats = self._stat_all()
        now = self._clock.now().timestamp()
        recent = any(one is not None and now - one[-1] / 1e9 < _RECENT for one in stats)
        if stats == self._stats and before == self._files and self._pending is None and not recent:
            return False
        self._stats, content = stats, self._digests()
        if content == self._content:
            self._pending = None
            return False
        if content != self._pending:
            self._pending = content
            return False
        self._content, self._pending = content, None
        return True

    def _stat_all(self) -> list[FileStat | None]:
        self._files = tuple(self._listed())
        return [stat_of_regular(file) for file in self._files]

    def _digests(self) -> dict[Path, bytes]:
        return {file: _digest(file) for file in self._files}

    def __str__(self) -> str:
        names = [str(file) for file in self._files[:_NAMED]]
        return ", ".join([*names, *([f"and {len(self._files) - _NAMED} more"] if len(self._files) > _NAMED else [])])


def is_irregular(file: Path) -> bool:
    """Whether it exists and is not a regular file: reading a pipe could block forever, and would consume its bytes."""
    found = _found(file)
    return found is not None and not stat.S_ISREG(found.st_mode)


def stat_of_regular(file: Path) -> FileStat | None:
    """What differs once the file has changed; None for one that is missing or not regular."""
    found = _found(file)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _found(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except (OSError, ValueError):
        return None


def _digest(file: Path) -> bytes:
    return hashlib.sha256(_content(file)).digest()


def _content(file: Path) -> bytes:
    found = stat_of_regular(file)
    if found is None:
        return b""
    if found[2] > _LARGEST:
        return repr(found).encode()
    try:
        return file.read_bytes()
    except OSError:
        return b""
