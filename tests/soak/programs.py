"""A program of the ``meshtls`` command that is killed and restarted, always by its process id."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from bench.identity.site import last_line
from bench.processes import started

__all__ = ["Program", "running"]

Ready = Callable[[subprocess.Popen[str], Path], Awaitable[None]]


class Program:
    """``life`` counts the starts. ``ready`` waits until the program serves; raises UnmeasuredError if it never does."""

    def __init__(self, name: str, argv: list[str], log: Path, ready: Ready) -> None:
        self.name = name
        self.life = 0
        self.began = 0.0
        self.log = log
        self._argv = [sys.executable, "-m", "meshtls", *argv]
        self._ready = ready
        self._process: subprocess.Popen[str] | None = None
        self._stack = ExitStack()

    @property
    def pid(self) -> int | None:
        """The process id; None while the program is down on purpose."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the program and wait until it serves."""
        self.life += 1
        self.began = time.monotonic()
        self._process = self._stack.enter_context(started(self._argv, self.log))
        await self._ready(self._process, self.log)

    async def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
        await self.stop()

    async def stop(self) -> None:
        """Send SIGTERM if the program runs, and wait for its end."""
        self._process = None
        await asyncio.to_thread(self._stack.close)

    def end_of(self) -> str | None:
        """A message about an unexpected end; None while the program runs, or is down on purpose."""
        if self._process is None or self._process.poll() is None:
            return None
        return f"{self.name} ended with status {self._process.returncode}: {last_line(self.log)}"


@asynccontextmanager
async def running(program: Program) -> AsyncIterator[Program]:
    """The program, started; it is stopped at the end if it runs."""
    try:
        await program.start()
        yield program
    finally:
        await program.stop()
