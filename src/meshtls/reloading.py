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
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from meshtls.clock import Clock
from meshtls.errors import ConfigError
from meshtls.logs import logger

__all__ = ["FileWatch", "hangup_signal", "reload_on_change"]

log = logger("meshtls.reload")

#: Seconds between two polls of the files.
INTERVAL = 1.0
#: Seconds after a write during which another write may leave the file's times unchanged.
_RECENT = 2.0
#: Bytes of a configuration file. Changes of larger files are detected by inode and times only.
_LARGEST = 1 << 24
_Stat = tuple[int, int, int, int, int]


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
    files: Iterable[Path] | FileWatch, reload: Callable[[], Awaitable[None]], hangup: asyncio.Event, clock: Clock
) -> NoReturn:
    """Call ``reload`` for each SIGHUP (``hangup``) and each change of a file's content, until cancelled.

    ``reload`` reads the files. If it raises ConfigError, the error is logged, and the running configuration stays.

    If much time may pass between the first reading of the files and this call, pass a FileWatch that was created before
    that reading, so that changes in between are noticed.
    """
    watch = files if isinstance(files, FileWatch) else FileWatch(files, clock)
    while True:
        sleep = asyncio.ensure_future(clock.sleep(INTERVAL))
        hung_up = asyncio.ensure_future(hangup.wait())
        try:
            await asyncio.wait((sleep, hung_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            hung_up.cancel()
        asked = hangup.is_set()
        hangup.clear()
        if asked:
            watch.look()
        elif not watch.changed():
            continue
        log.info("%s: reading the configuration again", "SIGHUP" if asked else watch)
        try:
            watch.check_regular()
            await reload()
        except ConfigError as error:
            told = "; ".join(error.problems)
            log.error("%s; the configuration in use stays", told)  # noqa: TRY400  # the message says it all


class FileWatch:
    """Detects changes of files. A file that is missing or not regular counts as empty."""

    def __init__(self, files: Iterable[Path], clock: Clock) -> None:
        self._files = tuple(files)
        self._clock = clock
        self._stats: list[_Stat | None] = []
        self._content: bytes = b""
        self._pending: bytes | None = None
        self.look()

    def look(self) -> None:
        """Take the current content as known: ``changed`` reports later changes."""
        self._stats = [_stat(file) for file in self._files]
        self._content = self._digest()
        self._pending = None

    def check_regular(self) -> None:
        """Raises ConfigError for files that exist and are not regular: reading a pipe could block forever."""
        irregular = [
            f"{file}: wanted a regular file, since it is read again"
            for file in self._files
            if (found := _found(file)) is not None and not stat.S_ISREG(found.st_mode)
        ]
        if irregular:
            raise ConfigError(*irregular)

    def changed(self) -> bool:
        """Whether the content differs from the known one and is the same as at the last call. It is then known."""
        stats = [_stat(file) for file in self._files]
        now = self._clock.now().timestamp()
        recent = any(one is not None and now - one[-1] / 1e9 < _RECENT for one in stats)
        if stats == self._stats and self._pending is None and not recent:
            return False
        self._stats, content = stats, self._digest()
        if content == self._content:
            self._pending = None
            return False
        if content != self._pending:
            self._pending = content
            return False
        self._content, self._pending = content, None
        return True

    def _digest(self) -> bytes:
        """The digests of all files. One digest of all content would not show bytes that move between files."""
        return b"".join(hashlib.sha256(_content(file)).digest() for file in self._files)

    def __str__(self) -> str:
        return ", ".join(map(str, self._files))


def _stat(file: Path) -> _Stat | None:
    found = _found(file)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None  # reading a pipe could block forever, and would consume its content
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _found(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except (OSError, ValueError):
        return None


def _content(file: Path) -> bytes:
    found = _stat(file)
    if found is None:
        return b""
    if found[2] > _LARGEST:
        return repr(found).encode()
    try:
        return file.read_bytes()
    except OSError:
        return b""
