"""Rotation: the entries of web and db are changed every two seconds, and the agent's SVIDs are watched."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import datetime

from meshtls.errors import LocalIdentityError
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.svid.x509 import X509Svid
from meshtls.workload.x509_source import X509Source
from tests.soak.mesh import LONG_TTL, WORKLOADS, Mesh
from tests.soak.outages import Life, SvidLives
from tests.soak.stopping import Load

__all__ = ["Rotation"]

_EVERY_S = 2.0
_FORCED = ("web", "db")


@dataclass(slots=True)
class Rotation:
    """``newest`` is the present SVID of each workload, ``seen`` the number of its SVIDs so far."""

    mesh: Mesh
    load: Load
    lives: SvidLives = field(default_factory=SvidLives)
    newest: dict[str, X509Svid] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    _opened: AsyncExitStack = field(default_factory=AsyncExitStack)
    _watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Rotation:
        """Wait until the agent has an SVID for every workload."""
        source = await self._opened.enter_async_context(X509Source(f"unix://{self.mesh.workload_socket}", timeout=90))
        self._watching = asyncio.create_task(self._watch(source))
        async with asyncio.timeout(90):
            while set(self.newest) != set(WORKLOADS):  # noqa: ASYNC110  # the watcher has no event
                await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()
        if self._watching is not None:
            await self._watching

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        tasks.create_task(self._force())

    def renewed_since(self, moment: float) -> bool:
        """Whether every workload that talks has an SVID that was first seen after this."""
        return all(self.lives.of[name][-1].seen > moment for name in WORKLOADS if name != "outsider")

    async def _watch(self, source: X509Source) -> None:
        generation = 0
        try:
            while True:
                context = await source.changed(generation)
                generation = context.generation
                for svid in context.svids:
                    self._note(svid.spiffe_id.path.removeprefix("/"), svid)
        except LocalIdentityError:
            return  # the source is closed

    def _note(self, workload: str, svid: X509Svid) -> None:
        before = self.newest.get(workload)
        if before is None or before.serial != svid.serial:
            self.newest[workload] = svid
            self.seen[workload] += 1
            self.lives.add(workload, Life(time.time(), _seconds(svid.not_after)))

    async def _force(self) -> None:
        """Change the TTL of an entry by a second: its SVID no longer fits the entry, and is signed again."""
        with closing(local_channel(self.mesh.admin_socket)) as channel:
            admin = AdminClient(channel)
            count = 0
            while self.load.going:
                count += 1
                entries = [self.mesh.entries[name] for name in _FORCED]
                try:
                    await admin.update_entries(
                        replace(one, x509_svid_ttl=LONG_TTL - count % 2, revision=0) for one in entries
                    )
                except LocalIdentityError:
                    await self.load.pause(0.2)  # the server is down: repeat the change once it is back
                    continue
                await self.load.pause(_EVERY_S)


def _seconds(moment: datetime) -> float:
    return moment.timestamp()
