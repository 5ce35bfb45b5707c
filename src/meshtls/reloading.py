"""When a running program reads its configuration again: on SIGHUP, and when one of its files has changed.

Files are polled, not watched by inotify: that misses what is replaced under a directory (a Kubernetes ConfigMap is a
chain of symbolic links) and what another machine writes. A change is taken once two looks in a row see the same, so
that a file that is being written is not read half-way.
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

#: Seconds between two looks at the files.
INTERVAL = 1.0
#: A file written so recently, in seconds, may be written again without its times showing it.
_RECENT = 2.0
#: Bytes of a configuration file; what is larger is told apart by its inode and times alone.
_LARGEST = 1 << 24
_Stat = tuple[int, int, int, int, int]


@contextmanager
def hangup_signal() -> Iterator[asyncio.Event]:
    """The event that SIGHUP sets while the body runs, instead of ending the process. Main thread only.

    Enter it before anything else: until then SIGHUP kills. Whoever acts on the event clears it.
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

    Where much time may pass between the first reading of the files and this call, give a FileWatch that was made before
    that reading.

    ``reload`` reads the files, and raises ConfigError where what they say cannot be used: that is logged, and whatever
    ran goes on.
    """
    watch = files if isinstance(files, FileWatch) else FileWatch(files, clock)
    while True:
        asked = await _hangup_within(INTERVAL, hangup, clock)
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
    """Files, and what was in them at the latest look. A file that is missing or no regular one is empty to it."""

    def __init__(self, files: Iterable[Path], clock: Clock) -> None:
        self._files = tuple(files)
        self._clock = clock
        self._stats: list[_Stat | None] = []
        self._content: bytes = b""
        self._pending: bytes | None = None
        self.look()

    def look(self) -> None:
        """Take what is there now for known: ``changed`` is about what comes after."""
        self._stats = [_stat(file) for file in self._files]
        self._content = self._digest()
        self._pending = None

    def check_regular(self) -> None:
        """Raises ConfigError where a file is there that is no regular one: to read a pipe could block for ever."""
        odd = [f"{file}: wanted a regular file, since it is read again" for file in self._files if _is_odd(file)]
        if odd:
            raise ConfigError(*odd)

    def changed(self) -> bool:
        """Whether the content differs from the known, and did not change since the call before; it is known then."""
        stats = [_stat(file) for file in self._files]
        if stats == self._stats and self._pending is None and not self._recent(stats):
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

    def _recent(self, stats: Iterable[_Stat | None]) -> bool:
        now = self._clock.now().timestamp()
        return any(stat is not None and now - stat[-1] / 1e9 < _RECENT for stat in stats)

    def _digest(self) -> bytes:
        """Of all files, each by its own digest: no byte can move from one file to the next unseen."""
        return b"".join(hashlib.sha256(_content(file)).digest() for file in self._files)

    def __str__(self) -> str:
        return ", ".join(map(str, self._files))


async def _hangup_within(seconds: float, hangup: asyncio.Event, clock: Clock) -> bool:
    """Wait for the event, at most so long; clear it."""
    sleep, heard = asyncio.ensure_future(clock.sleep(seconds)), asyncio.ensure_future(hangup.wait())
    try:
        await asyncio.wait((sleep, heard), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleep.cancel()
        heard.cancel()
    asked = hangup.is_set()
    hangup.clear()
    return asked


def _is_odd(file: Path) -> bool:
    found = _found(file)
    return found is not None and not stat.S_ISREG(found.st_mode)


def _stat(file: Path) -> _Stat | None:
    found = _found(file)
    if found is None or not stat.S_ISREG(found.st_mode):
        return None  # reading a pipe could block for ever, and would take its content away
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
