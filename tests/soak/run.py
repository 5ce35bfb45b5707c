"""A run from its start to its verdict: the mesh, the load with kills, the load without, the last checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from meshtls.observe.access_log import AccessLine
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.svid.x509 import X509Svid
from tests.soak.app import App, serving
from tests.soak.friendly import FriendlyLoad
from tests.soak.hostile import HostileLoad, chains_of
from tests.soak.kills import Kills
from tests.soak.mesh import ALLOWED, FLOWS, Mesh, id_of, running_mesh
from tests.soak.outages import may_fail
from tests.soak.report import Figure, Report
from tests.soak.resources import Resources, held_by
from tests.soak.rotation import Rotation
from tests.soak.stopping import Load
from tests.soak.strangers import Credentials, StrangerLoad, new_key
from tests.soak.violations import Violations
from tests.soak.writers import WritersLoad
from tests.support.server import new_csr

__all__ = ["soak"]

#: No process is killed after this share of the time, so that server and agent live long enough to be judged.
_KILLING = 0.55
_PROGRESS_S = 5.0
_SAMPLE_S = 0.5
#: Long enough for every connection without a handshake to be closed by its listener.
_SETTLES_S = 60.0
_EXPIRED_TTL = timedelta(seconds=2)

Say = Callable[[str], None]


@dataclass(slots=True)
class _Run:
    seconds: float
    mesh: Mesh
    apps: dict[tuple[str, bool], App]
    violations: Violations
    load: Load
    rotation: Rotation
    friendly: FriendlyLoad
    strangers: StrangerLoad
    hostile: HostileLoad
    writers: WritersLoad
    kills: Kills
    resources: Resources
    say: Say

    async def run(self) -> None:
        for listener in ALLOWED:
            await self._check_strangers_twin(listener)
        self.resources.note_idle()
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            loads = (self.friendly, self.strangers, self.hostile, self.writers, self.rotation)
            for load in loads:
                load.begin(tasks)
            tasks.create_task(self._watch(began))
            await self.kills.run_until(began + self.seconds * _KILLING)
            # On a busy machine an outage may be long; the calm after the last one still has its planned length.
            calm = time.monotonic() + self.seconds * (1 - _KILLING)
            await self.load.pause(max(began + self.seconds, calm) - time.monotonic())
            self.load.stop()
        await self._settle()
        with closing(local_channel(self.mesh.admin_socket)) as channel:
            await self.writers.compare(AdminClient(channel))

    async def _check_strangers_twin(self, listener: tuple[str, bool]) -> None:
        for alpn in ("h2", None) if listener[1] else (None,):
            line = f"twin of the strangers at {listener} {alpn}\n".encode()
            self.apps[listener].announce(line)
            await self.strangers.check_twin(self.rotation.newest["web"], line, listener, alpn)

    async def _watch(self, began: float) -> None:
        told = began
        while self.load.going:
            self.resources.sample()
            for program in self.mesh.programs:
                if ended := program.end_of():
                    self.violations.add("died", ended)
                    self.load.stop()
            if time.monotonic() - told >= _PROGRESS_S:
                told = time.monotonic()
                self.say(self._progress(told - began))
            await self.load.pause(_SAMPLE_S)

    def _progress(self, seconds: float) -> str:
        memory = " ".join(
            f"{program.name} {held.memory:.0f}" for program in self.mesh.programs if (held := held_by(program))
        )
        away = f" ({'; '.join(self.kills.unhealed)})" if self.kills.unhealed else ""
        return (
            f"{seconds:4.0f} s  friendly {self.friendly.served.total():,} served {len(self.friendly.failures)} failed"
            f" | strangers {self.strangers.refused.total():,} refused | hostile {self.hostile.done.total():,}"
            f" | writes {self.writers.model.acknowledged:,} | rotations {self.rotation.seen.total()}"
            f" | kills {self.kills.done.total()}{away}"
            f" | MiB: {memory} | violations {self.violations.counts.total()}"
        )

    async def _settle(self) -> None:
        """Check that every process releases its descriptors without load."""
        deadline = time.monotonic() + _SETTLES_S
        while (above := self.resources.above_idle()) and time.monotonic() < deadline:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.2)
        for one in above:
            self.violations.add("descriptors leak", one)

    def judge(self) -> tuple[int, int]:
        """Run the checks on the records; returns the numbers of permitted and of other friendly failures."""
        permitted = forbidden = 0
        for flow, connection in self.friendly.failures:
            if may_fail(connection, self.kills.outages, self.rotation.lives):
                permitted += 1
            else:
                forbidden += 1
                at = datetime.fromtimestamp(connection.began, UTC)
                self.violations.add("friendly failure", f"{flow.name} at {at:%H:%M:%S.%f}: {connection.why}")
        for listener, app in self.apps.items():
            failed = sum((flow.callee, flow.tunnel) == listener for flow, _ in self.friendly.failures)
            if app.silent > failed:
                self.violations.add(
                    "wrong admission",
                    f"the app {app.name} got {app.silent} connections without a byte; {failed} friendly ones failed",
                )
        for untested in self._untested():
            self.violations.add("not tested", untested)
        return permitted, forbidden

    def _untested(self) -> Iterator[str]:
        """What the run has not exercised, so that its result means nothing."""
        counts: dict[str, Mapping[str, int]] = {
            "friendly": self.friendly.served,
            "strangers": self.strangers.refused,
            "hostile": self.hostile.done,
            "kills": self.kills.done,
        }
        wanted = {
            "friendly": [flow.name for flow in FLOWS],
            "strangers": self.strangers.kinds,
            "hostile": self.hostile.kinds,
            "kills": ["server", "agent", "server and agent"],
        }
        for part, names in wanted.items():
            yield from (f"{part}: {name} never happened" for name in names if not counts[part][name])
        if self.writers.model.acknowledged < 10:
            yield f"writes: {self.writers.model.acknowledged} were answered"
        yield from (
            f"rotation: {name} had no new SVID" for name in ("web", "db", "brief") if self.rotation.seen[name] < 3
        )

    def figures(self, permitted: int, forbidden: int, log: Mapping[str, int]) -> Iterator[Figure]:
        for flow in FLOWS:
            yield Figure("friendly connections", flow.name, self.friendly.served[flow.name])
        yield Figure("friendly connections", "echoes in long connections", self.friendly.echoed_in_long)
        yield Figure("friendly connections", "longest, s", self.friendly.longest_s)
        yield Figure("friendly connections", "failed, an SVID was over in an outage", permitted, "permitted")
        yield Figure("friendly connections", "failed otherwise", forbidden, "none may")
        for listener, app in self.apps.items():
            yield Figure("at the apps", f"{app.name}: announced callers", app.served)
            failed = sum((flow.callee, flow.tunnel) == listener for flow, _ in self.friendly.failures)
            yield Figure("at the apps", f"{app.name}: without a byte", app.silent, f"at most {failed}, of failed ones")
            yield Figure("at the apps", f"{app.name}: strangers", app.strangers, "none may")
        for kind in self.strangers.kinds:
            yield Figure("strangers refused", kind, self.strangers.refused[kind])
        for kind in self.hostile.kinds:
            early = self.hostile.done[f"{kind}, refused early"]
            yield Figure("hostile load", kind, self.hostile.done[kind], f"{early} of them cut or not taken")
        yield Figure("writes", "acknowledged", self.writers.model.acknowledged)
        yield Figure("writes", "without an answer", self.writers.model.unknown, "may be carried out or not")
        yield Figure("writes", "comparisons with the store", self.writers.compared)
        for name, lives in self.rotation.lives.of.items():
            left = self.rotation.lives.least_left(name)
            yield Figure(
                "rotation",
                f"SVIDs of {name}",
                len(lives),
                "" if left is None else f"the next came {left:.1f} s before the end at the latest",
            )
        yield Figure("rotation", "SVIDs that callers presented to db", log["serials"], "by its access log")
        for victims, count in self.kills.done.items():
            yield Figure("kill -9", victims, count)
        healing = [one.healed - one.began for one in self.kills.outages if one.healed]
        yield Figure("kill -9", "longest outage, s", max(healing, default=0.0), "from the kill until all is well")
        for verdict in ("allowed", "denied", "failed"):
            yield Figure("inbound, by the access logs", verdict, log[verdict])


@asynccontextmanager
async def _prepared(seed: int, seconds: float, directory: Path, say: Say) -> AsyncIterator[_Run]:
    violations, load = Violations(), Load(seed)
    async with running_mesh(directory) as mesh:
        apps = {listener: App(f"{listener[0]}{' in a tunnel' * listener[1]}", violations) for listener in ALLOWED}
        async with serving([(app, mesh.app(listener)) for listener, app in apps.items()]):
            expired = await _short_lived(mesh)
            async with Rotation(mesh, load) as rotation:
                friendly = FriendlyLoad(mesh, apps, load)
                chains = await asyncio.to_thread(chains_of, mesh, rotation.newest["web"])
                while datetime.now(UTC) <= expired.not_after:  # noqa: ASYNC110  # it ends by the clock
                    await asyncio.sleep(0.1)
                yield _Run(
                    seconds=seconds,
                    mesh=mesh,
                    apps=apps,
                    violations=violations,
                    load=load,
                    rotation=rotation,
                    friendly=friendly,
                    strangers=StrangerLoad(
                        mesh, Credentials(lambda: rotation.newest["outsider"], expired), violations, load
                    ),
                    hostile=HostileLoad(mesh, chains, violations, load),
                    writers=WritersLoad(mesh, violations, load),
                    kills=Kills(mesh, friendly, rotation, violations, load),
                    resources=Resources(mesh, violations),
                    say=say,
                )


async def _short_lived(mesh: Mesh) -> X509Svid:
    """A real SVID of an allowed identity, which expires in two seconds."""
    key = new_key()
    with closing(local_channel(mesh.admin_socket)) as channel:
        chain = await AdminClient(channel).mint_x509(id_of("web"), new_csr(key), _EXPIRED_TTL)
    return X509Svid.from_chain(chain, key)


async def soak(seed: int, seconds: float, directory: Path, say: Say) -> Report:
    """Run it all. Raises UnmeasuredError if the mesh does not start."""
    async with _prepared(seed, seconds, directory, say) as run:
        say(f"the mesh is ready in {directory}; {len(run.hostile.chains)} hostile chains")
        began = time.monotonic()
        await run.run()
        took = time.monotonic() - began
    # All processes have ended, so their logs are complete.
    permitted, forbidden = run.judge()
    log = _read_access_logs(run.mesh, run.violations)
    trends = run.resources.judge()
    figures = list(run.figures(permitted, forbidden, log))
    return Report(seed=seed, seconds=took, figures=figures, trends=trends, violations=run.violations.lines())


def _read_access_logs(mesh: Mesh, violations: Violations) -> dict[str, int]:
    """Check the sidecars' access logs: each admitted identity must be an allowed one."""
    counts = {"allowed": 0, "denied": 0, "failed": 0}
    serials = set()
    decoder = msgspec.json.Decoder(AccessLine)
    for sidecar in mesh.sidecars:
        may = {str(id_of(one)) for (name, _), allowed in ALLOWED.items() if name == sidecar.name for one in allowed}
        with sidecar.log.open("rb") as lines:
            for line in lines:
                if not line.startswith(b'{"time"'):
                    continue
                told = decoder.decode(line)
                if told.direction != "inbound":
                    continue
                counts[told.verdict] += 1
                if told.verdict == "allowed" and told.source_id not in may:
                    violations.add("wrong admission", f"sidecar {sidecar.name} let {told.source_id} in: {told.detail}")
                if told.verdict == "allowed" and sidecar.name == "db":
                    serials.add(told.peer_serial)
    return {**counts, "serials": len(serials)}
