"""Reads access logs: files, also compressed by gzip, and standard input. Each line by itself, in bounded memory."""

from __future__ import annotations

import gzip
import io
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import cast

from meshtls.cli.output import tell, tell_progress
from meshtls.errors import ConfigError, RequestError
from meshtls.policy.recorded import LONGEST_LINE, Recorded, Skipped, read_line

__all__ = ["LogLines", "log_lines"]

_GZIP = b"\x1f\x8b"
_BUFFER = 1 << 18
#: Lines between two looks at the clock, and seconds between two words of progress: on a terminal, and elsewhere.
_LINES = 5000
_SECONDS = (0.5, 10.0)
_MOST_NAMED = 5


class LogLines:
    """The recorded lines of these files, and ``counts`` of the others. ``-`` is standard input."""

    def __init__(self, files: tuple[Path, ...]) -> None:
        self._files = files
        self.read = 0
        self.counts: Counter[Skipped] = Counter()
        #: The first of the broken lines, by file and line, and what ended a file early.
        self.broken: list[str] = []
        self._told_at = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._progress = False

    def __iter__(self) -> Iterator[Recorded]:
        """Raises ConfigError for a file that can't be read."""
        for file in self._files:
            for number, line in enumerate(log_lines(file), 1):
                self.read += 1
                if self.read % _LINES == 0:
                    self._tell_progress(file)
                if not line.strip():
                    continue
                found = read_line(line)
                if isinstance(found, Recorded):
                    yield found
                    continue
                self.counts[found] += 1
                if found is Skipped.BROKEN and len(self.broken) < _MOST_NAMED:
                    self.broken.append(f"{_name(file)}, line {number}")
        if self._progress:
            tell_progress(f"{self.read} lines read", last=True)

    def nothing_judged(self) -> RequestError:
        """What to say if no line was one to judge."""
        broken = f" ({self.counts[Skipped.BROKEN]} broken)" if self.counts[Skipped.BROKEN] else ""
        return RequestError(
            f"no inbound line of {self.read}{broken} was judged by a policy; wanted the access log that a sidecar"
            " writes"
        )

    def _tell_progress(self, file: Path) -> None:
        now = time.monotonic()
        if now - self._told_at < _SECONDS[0 if self._terminal else 1]:
            return
        self._told_at = now
        words = f"{self.read} lines read, now {_name(file)}"
        if self._terminal:
            tell_progress(words, last=False)
            self._progress = True
        else:
            tell(words, err=True)


def log_lines(file: Path) -> Iterator[bytes]:
    """The lines of one file, of which one that is too long is cut. Raises ConfigError for a file that can't be read."""
    try:
        with _opened(file) as content:
            while line := content.readline(LONGEST_LINE + 1):
                rest = line
                while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):  # it is too long: drop the rest
                    rest = content.readline(LONGEST_LINE + 1)
                yield line
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{_name(file)}: wanted an access log to read: {reason}") from error


@contextmanager
def _opened(file: Path) -> Iterator[io.BufferedReader]:
    with nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb", _BUFFER) as raw:
        buffered = cast("io.BufferedReader", raw)
        if buffered.peek(2)[:2] == _GZIP:
            with gzip.GzipFile(fileobj=buffered) as unpacked:
                yield io.BufferedReader(unpacked, _BUFFER)
        else:
            yield buffered


def _name(file: Path) -> str:
    return "standard input" if str(file) == "-" else str(file)
