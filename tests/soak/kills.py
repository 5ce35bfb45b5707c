"""kill -9 of the server and of the agent at random moments, and waiting until the mesh has healed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from bench.identity.figures import UnmeasuredError
from tests.soak.friendly import FriendlyLoad
from tests.soak.mesh import FLOWS, Mesh
from tests.soak.outages import Outage
from tests.soak.rotation import Rotation
from tests.soak.stopping import Load
from tests.soak.violations import Violations

__all__ = ["Kills"]

_APART_S = (1.0, 6.0)
_DOWN_S = (0.0, 1.5)
#: Not a bound on speed: a mesh that has not healed by then does not heal.
_HEALS_S = 180.0


@dataclass(slots=True)
class Kills:
    """The next kill waits until the last one's outage is over, so that an outage is about one kill, or one of both."""

    mesh: Mesh
    friendly: FriendlyLoad
    rotation: Rotation
    violations: Violations
    load: Load
    outages: list[Outage] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    #: The missing conditions for the end of the present outage; empty outside of one.
    unhealed: list[str] = field(default_factory=list)

    async def run_until(self, calm: float) -> None:
        """Kill until this monotonic time, and at least until each of the three kinds of kill was done once."""
        chances = self.load.chances("kills")
        choices = ((self.mesh.server,), (self.mesh.agent,), (self.mesh.server, self.mesh.agent))
        victims = chances.sample(choices, len(choices))  # each kind once, then at random
        while self.load.going:
            await self.load.pause(chances.uniform(*_APART_S))
            if self.load.stopped.is_set() or (not victims and time.monotonic() >= calm):
                return
            chosen = victims.pop() if victims else chances.choice(choices)
            outage = Outage(tuple(one.name for one in chosen), time.time())
            self.outages.append(outage)
            self.unhealed = ["killed"]
            await asyncio.gather(*(one.kill() for one in chosen))
            await asyncio.sleep(chances.uniform(*_DOWN_S))
            restarted = [asyncio.create_task(one.start()) for one in chosen]
            for name, started in zip(outage.victims, restarted, strict=True):
                try:
                    await started
                except UnmeasuredError as error:
                    self.violations.add("not healed", f"{name} did not start again: {error}")
                    return
            self.done[" and ".join(outage.victims)] += 1
            if not await self._heal(outage):
                return

    async def _heal(self, outage: Outage) -> bool:
        back = time.time()
        deadline = time.monotonic() + _HEALS_S
        while time.monotonic() < deadline:
            self.unhealed = await self._look(back)
            if not self.unhealed:
                outage.healed = time.time()
                return True
            await asyncio.sleep(0.1)
        self.violations.add(
            "not healed", f"{_HEALS_S:g} s after {', '.join(outage.victims)}: {'; '.join(self.unhealed)}"
        )
        return False

    async def _look(self, back: float) -> list[str]:
        if not self.rotation.renewed_since(back):
            return ["not every workload has an SVID of after the restart"]
        unready = await self.mesh.unready()
        late = [flow.name for flow in FLOWS if self.friendly.last_served.get(flow.name, 0.0) < back]
        return [*unready, *(f"no connection {name} since" for name in late)]
