"""A program of ``meshtls``, started and stopped as a user does it, and what it has printed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.integration.cli.identity_site import Told

__all__ = ["SECONDS", "Program", "until"]

#: For whatever a busy machine may need a while for.
SECONDS = 120.0
_PAUSE = 0.05


def until(holds: Callable[[], bool], wanted: Callable[[], str]) -> None:
    """Wait for something that another process does, without an event here. ``wanted`` is the message of a failure."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, wanted()
        time.sleep(_PAUSE)


class Program:
    """Its standard output and error are appended to files, also by its next life. ``prefix`` is of its next start."""

    def __init__(
        self,
        directory: Path,
        name: str,
        arguments: Sequence[str | Path],
        ready: Callable[[], bool],
        prefix: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.out, self.err = directory / f"{name}.out", directory / f"{name}.err"
        self.prefix = tuple(prefix)
        self._arguments = [sys.executable, "-m", "meshtls", *map(str, arguments)]
        self._ready = ready
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._running is not None, f"{self.name} is down"
        return self._running.pid

    @property
    def runs(self) -> bool:
        return self._running is not None and self._running.poll() is None

    def start(self, wait: bool = True) -> None:
        """Start it, and wait until it serves."""
        with self.out.open("ab") as out, self.err.open("ab") as err:
            self._running = subprocess.Popen([*self.prefix, *self._arguments], stdout=out, stderr=err)
        if wait:
            self.until_ready()

    def until_ready(self) -> None:
        until(lambda: not self.runs or self._ready(), lambda: f"{self.name} is not ready: {self.said()[-3000:]}")
        assert self.runs, f"{self.name} ended: {self.said()[-3000:]}"

    def stop(self, kill: bool = False) -> None:
        """End it, and wait for that."""
        running, self._running = self._running, None
        if running is None:
            return
        (running.kill if kill else running.terminate)()
        try:
            running.wait(SECONDS)
        finally:
            running.kill()
            running.wait()

    def signal(self, number: int) -> None:
        assert self._running is not None, f"{self.name} is down"
        self._running.send_signal(number)

    def said(self, since: int = 0) -> str:
        """Its log, from this byte on."""
        return self.err.read_bytes()[since:].decode() if self.err.exists() else ""

    def run(self, *arguments: str | Path) -> Told:
        """Run another command to its end, with this program's prefix: on its machine, so to speak."""
        command = [*self.prefix, sys.executable, "-m", "meshtls", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        return Told(done.returncode, done.stdout, done.stderr)
