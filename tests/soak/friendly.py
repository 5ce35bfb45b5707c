"""Friendly clients: they keep dialling their own sidecar in plaintext, and expect every byte back.

Beside the many short connections, each flow between web and db has one that stays open for the whole run, through every
rotation and every kill.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.soak.app import App
from tests.soak.mesh import FLOWS, Flow, Mesh
from tests.soak.outages import Connection
from tests.soak.stopping import Load

__all__ = ["FriendlyLoad"]

_AT_ONCE = 2  # of each flow
_PAUSES_S = (0.02, 0.15)
_SIZES = (16, 2_000, 60_000, 300_000)
#: Not a bound on speed: a call without a response by then counts as hanging.
_TIMEOUT_S = 90.0


@dataclass(slots=True)
class FriendlyLoad:
    """``served`` counts by flow; ``last_served`` is when the last served connection of a flow began."""

    mesh: Mesh
    apps: dict[tuple[str, bool], App]
    load: Load
    served: Counter[str] = field(default_factory=Counter)
    last_served: dict[str, float] = field(default_factory=dict)
    failures: list[tuple[Flow, Connection]] = field(default_factory=list)
    longest_s: float = 0.0
    echoed_in_long: int = 0
    _count: int = 0

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        for flow in FLOWS:
            for number in range(_AT_ONCE):
                tasks.create_task(self._dial_again_and_again(flow, self.load.chances(f"{flow.name} {number}")))
            if "brief" not in flow.ends:
                tasks.create_task(self._stay(flow))

    async def _dial_again_and_again(self, flow: Flow, chances: random.Random) -> None:
        while self.load.going:
            await self.attempt(flow, chances.choice(_SIZES))
            await self.load.pause(chances.uniform(*_PAUSES_S))

    async def attempt(self, flow: Flow, size: int) -> None:
        line, began = self._announce(flow, "once"), time.time()
        why = await self._failure_of(flow, line + b"x" * size)
        ended = time.time()
        if why is None:
            self.served[flow.name] += 1
            self.last_served[flow.name] = began
            self.longest_s = max(self.longest_s, ended - began)
        else:
            self.failures.append((flow, Connection(flow.ends, began, ended, why)))

    async def _failure_of(self, flow: Flow, said: bytes) -> str | None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(*self.mesh.outbound(flow))
                try:
                    writer.write(said)
                    writer.write_eof()
                    heard = await reader.read(-1)
                finally:
                    writer.close()
        except TimeoutError:
            return f"no answer within {_TIMEOUT_S:g} s"
        except OSError as error:
            return str(error)
        return None if heard == said else f"{len(said)} bytes sent, {len(heard)} came back, or others"

    async def _stay(self, flow: Flow) -> None:
        """One connection for the whole run, which sends a line twice a second and reads its echo."""
        line, began = self._announce(flow, "long"), time.time()
        try:
            reader, writer = await asyncio.open_connection(*self.mesh.outbound(flow))
            try:
                while self.load.going:
                    writer.write(line)
                    async with asyncio.timeout(_TIMEOUT_S):
                        heard = await reader.readexactly(len(line))
                    if heard != line:
                        raise ConnectionError(f"wanted {line!r} back, got {heard!r}")
                    self.echoed_in_long += 1
                    await self.load.pause(0.5)
            finally:
                writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            why = f"the long connection: {str(error) or type(error).__name__}"
            self.failures.append((flow, Connection(flow.ends, time.time(), time.time(), f"{why}, opened at {began}")))

    def _announce(self, flow: Flow, kind: str) -> bytes:
        self._count += 1
        line = f"friendly {flow.name} {kind} {self._count}\n".encode()
        self.apps[flow.callee, flow.tunnel].announce(line)
        return line
