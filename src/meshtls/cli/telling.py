"""How ``meshtls watch`` tells a program that does not speak SPIFFE of a new SVID. What fails is logged: the next
rotation is told all the same.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["MOST_PID", "RunProgram", "SendSignal", "Teller", "Telling"]

MOST_PID = 2**22
_STDERR = 2

log = logging.getLogger("meshtls.watch")


class Teller(Protocol):
    """Told of each new SVID, one at a time."""

    async def tell(self, environment: Mapping[str, str]) -> None:
        """``environment`` says in variables what is new and where its files are."""


class Telling:
    """Tells them, in their order, beside whoever calls ``news``: one round at a time. What came during a round is told
    after it, and of that only the newest.
    """

    def __init__(self, tellers: Sequence[Teller]) -> None:
        self._tellers = tellers
        self._next: asyncio.Queue[Mapping[str, str]] = asyncio.Queue(maxsize=1)

    def news(self, environment: Mapping[str, str]) -> None:
        """To be told next, in place of what still waits for it."""
        if self._next.full():
            self._next.get_nowait()
        self._next.put_nowait(environment)

    async def run(self) -> None:
        """For ever."""
        while True:
            environment = await self._next.get()
            for teller in self._tellers:
                await teller.tell(environment)


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Runs a program, without a shell, with our environment and the variables, and kills it where it takes longer than
    ``seconds``. Its output goes to our standard error.
    """

    words: Sequence[str]
    seconds: float = 60.0

    async def tell(self, environment: Mapping[str, str]) -> None:
        try:
            running = await asyncio.create_subprocess_exec(
                *self.words, stdin=asyncio.subprocess.DEVNULL, stdout=_STDERR, env={**os.environ, **environment}
            )
        except (OSError, ValueError) as error:
            log.error("%s: could not be run: %s", self.words[0], error)  # noqa: TRY400  # the message says it all
            return
        code = await _ended(running, self.seconds)
        if code != 0:
            ended = f"ended with code {code}" if code is not None else f"did not end within {self.seconds:g} s"
            log.error("%s %s", self.words[0], ended)


@dataclass(frozen=True, slots=True)
class SendSignal:
    """Sends a signal to a process: by its number, or by what a file says at that time."""

    number: signal.Signals
    process: int | Path

    async def tell(self, environment: Mapping[str, str]) -> None:
        try:
            os.kill(self._pid(), self.number)
        except (OSError, ValueError) as error:
            log.error("%s could not be sent: %s", self.number.name, error)  # noqa: TRY400  # the message says it all

    def _pid(self) -> int:
        if isinstance(self.process, int):
            return self.process
        text = self.process.read_text("utf-8").strip()
        # 0 and below are groups of processes, ours among them.
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= MOST_PID):
            raise ValueError(f"{self.process}: wanted the number of a process, got {text[:40]!r}")
        return int(text)


async def _ended(running: asyncio.subprocess.Process, seconds: float) -> int | None:
    """Its exit code; None where it had to be killed."""
    try:
        async with asyncio.timeout(seconds):
            return await running.wait()
    except TimeoutError:
        return None
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
