"""How ``meshtls watch`` notifies a program that does not speak SPIFFE of a new SVID.

A failure is logged and never stops the watch. A program that fails is run again at the next rotation; a signal whose
pid file is late (the program has not started yet, or is restarting) is tried again until it is sent.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from meshtls.logs import logger

__all__ = ["MOST_PID", "RunProgram", "SendSignal", "Teller", "Telling"]

MOST_PID = 2**22
_STDERR = 2

log = logger("meshtls.watch")


class Teller(Protocol):
    """Notified of each new SVID, one at a time."""

    async def tell(self, environment: Mapping[str, str]) -> bool:
        """``environment`` has what is new, and where its files are. False: try again later."""


class Telling:
    """Notifies the tellers in their order, in rounds. What came during a round is the next round, and of that only the
    newest. Between two rounds those that asked for it are tried again: after ``pauses[0]`` seconds, then after twice as
    long each time, up to ``pauses[1]``.
    """

    def __init__(self, tellers: Sequence[Teller], pauses: tuple[float, float] = (1.0, 10.0)) -> None:
        self._tellers = tellers
        self._pauses = pauses
        self._next: asyncio.Queue[Mapping[str, str]] = asyncio.Queue(maxsize=1)

    def news(self, environment: Mapping[str, str]) -> None:
        """To be told next, in place of what still waits for it."""
        if self._next.full():
            self._next.get_nowait()
        self._next.put_nowait(environment)

    async def run(self) -> None:
        """For ever."""
        first, longest = self._pauses
        environment, pending, pause = await self._next.get(), list(self._tellers), first
        while True:
            pending = [teller for teller in pending if not await teller.tell(environment)]
            newer = await self._newer(pause if pending else None)
            if newer is None:
                pause = min(2 * pause, longest)
            else:
                environment, pending, pause = newer, list(self._tellers), first

    async def _newer(self, seconds: float | None) -> Mapping[str, str] | None:
        """What is new, or None after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                return await self._next.get()
        except TimeoutError:
            return None


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Runs a program, without a shell, with our environment and the variables, and kills it where it takes longer than
    ``seconds``. Its output goes to our standard error.
    """

    words: Sequence[str]
    seconds: float = 60.0

    async def tell(self, environment: Mapping[str, str]) -> bool:
        try:
            running = await asyncio.create_subprocess_exec(
                *self.words, stdin=asyncio.subprocess.DEVNULL, stdout=_STDERR, env={**os.environ, **environment}
            )
        except (OSError, ValueError) as error:
            log.error("%s: could not be run: %s", self.words[0], error)  # noqa: TRY400  # the message says it all
            return True
        code = await _ended(running, self.seconds)
        if code != 0:
            ended = f"ended with code {code}" if code is not None else f"did not end within {self.seconds:g} s"
            log.error("%s %s", self.words[0], ended)
        return True


@dataclass(slots=True)
class SendSignal:
    """Sends a signal to a process: by its pid, or by the pid that a file holds at that time.

    A pid file that is missing, half written or out of date is tried again, with one log line for each reason and SVID.
    """

    number: signal.Signals
    process: int | Path
    _logged: tuple[str, Mapping[str, str]] = field(default=("", {}), init=False)

    async def tell(self, environment: Mapping[str, str]) -> bool:
        try:
            os.kill(self._pid(), self.number)
        except (OSError, ValueError) as error:
            again = isinstance(self.process, Path)
            complaint = f"{self.number.name} could not be sent: {error}{'; trying again' if again else ''}"
            if self._logged[0] != complaint or self._logged[1] is not environment:
                log.error(complaint)  # noqa: TRY400  # the message says it all
            self._logged = complaint, environment
            return not again
        return True

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
