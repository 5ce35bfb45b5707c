"""Notifies a program that does not support SPIFFE of a new SVID, for ``meshtls watch``.

A failure is logged and never stops the watch. A command that fails is run again at the next rotation. A signal whose
pid file names no running process (the program has not started yet, or is restarting) is retried until it is sent.
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
    """Notifies a program of each new SVID, one at a time."""

    async def tell(self, environment: Mapping[str, str]) -> bool:
        """``environment`` describes the SVID and names its files. Returns False to be called again later."""


class Telling:
    """Calls the tellers in order, in rounds.

    An SVID that arrives during a round starts the next one; of several, only the newest. Between two rounds, tellers
    that returned False are retried: after ``pauses[0]`` seconds, then after twice as long each time, up to
    ``pauses[1]``.
    """

    def __init__(self, tellers: Sequence[Teller], pauses: tuple[float, float] = (1.0, 10.0)) -> None:
        self._tellers = tellers
        self._pauses = pauses
        self._next: asyncio.Queue[Mapping[str, str]] = asyncio.Queue(maxsize=1)

    def news(self, environment: Mapping[str, str]) -> None:
        """Start the next round with this, replacing one that has not started."""
        if self._next.full():
            self._next.get_nowait()
        self._next.put_nowait(environment)

    async def run(self) -> None:
        """Run until cancelled."""
        first, longest = self._pauses
        environment, pending, pause = await self._next.get(), list(self._tellers), first
        while True:
            pending = [teller for teller in pending if not await teller.tell(environment)]
            try:
                async with asyncio.timeout(pause if pending else None):
                    environment = await self._next.get()
            except TimeoutError:
                pause = min(2 * pause, longest)
            else:
                pending, pause = list(self._tellers), first


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Runs a command without a shell, with our environment and the variables of the SVID.

    It is killed after ``seconds``. Its output goes to our standard error.
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
        try:
            async with asyncio.timeout(self.seconds):
                code = await running.wait()
        except TimeoutError:
            log.error("%s did not end within %g s", self.words[0], self.seconds)  # noqa: TRY400  # the message says it all
        else:
            if code != 0:
                log.error("%s ended with code %d", self.words[0], code)
        finally:
            if running.returncode is None:
                running.kill()
                await running.wait()
        return True


@dataclass(slots=True)
class SendSignal:
    """Sends a signal to a process, given by its pid or by a file that holds the pid at that time.

    A pid file that is missing, partly written or out of date is retried, with one log line per reason and SVID.
    """

    number: signal.Signals
    process: int | Path
    _logged: tuple[str, Mapping[str, str]] = field(default=("", {}), init=False)

    async def tell(self, environment: Mapping[str, str]) -> bool:
        try:
            os.kill(self._pid(), self.number)
        except (OSError, ValueError) as error:
            again = isinstance(self.process, Path)
            complaint = f"{self.number.name} could not be sent: {error}{'; retrying' if again else ''}"
            if self._logged[0] != complaint or self._logged[1] is not environment:
                log.error(complaint)  # noqa: TRY400  # the message says it all
            self._logged = complaint, environment
            return not again
        return True

    def _pid(self) -> int:
        if isinstance(self.process, int):
            return self.process
        text = self.process.read_text("utf-8").strip()
        # 0 and negative numbers are process groups, ours among them.
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= MOST_PID):
            raise ValueError(f"{self.process}: wanted a process ID, got {text[:40]!r}")
        return int(text)
