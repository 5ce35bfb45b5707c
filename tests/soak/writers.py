"""Administrators that create, change and delete entries while the server is killed, and check acknowledged writes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace

from meshtls.errors import LocalIdentityError, MeshtlsError
from meshtls.registration import Entry, EntryFilter, Selector
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.spiffeid import SpiffeId
from tests.soak.mesh import DOMAIN, Mesh, id_of
from tests.soak.stopping import Load
from tests.soak.violations import Violations
from tests.soak.writes_model import WritesModel

__all__ = ["WritersLoad"]

_WRITERS = 5
_PAUSES_S = (0.0, 0.06)
_MOST_KEPT = 25  # of each writer
#: No process has this selector: the agent signs these identities, and no workload gets them.
_NOBODY = (Selector.parse("unix:uid:4294967000"),)
_ELSEWHERE = id_of("node-elsewhere")
LOST = "lost write"


@dataclass(slots=True)
class WritersLoad:
    """Each writer has its own entries, so the order of the calls on one entry is known."""

    mesh: Mesh
    violations: Violations
    load: Load
    model: WritesModel = field(default_factory=WritesModel)
    compared: int = 0

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        for number in range(_WRITERS):
            # One of them has its entries at the agent, which signs for each.
            parent = self.mesh.entries["web"].parent_id if number == 0 else _ELSEWHERE
            tasks.create_task(self._write(number, parent, self.load.chances(f"writer {number}")))

    async def compare(self, admin: AdminClient) -> None:
        """Compare the whole store with the model, while no call of a writer is in progress."""
        held = {str(one.spiffe_id): one.x509_svid_ttl async for one in admin.entries() if one.selectors == _NOBODY}
        for wrong in self.model.observe_all(held):
            self.violations.add(LOST, wrong)
        self.compared += 1

    async def _write(self, number: int, parent: SpiffeId, chances: random.Random) -> None:
        with closing(local_channel(self.mesh.admin_socket)) as channel:
            admin = AdminClient(channel)
            kept: list[Entry] = []
            for count in range(1 << 30):
                if not self.load.going:
                    return
                name = SpiffeId(DOMAIN, f"/written/{number}/{count}")
                try:
                    await self._change(admin, kept, name, parent, chances)
                except LocalIdentityError:
                    kept = await self._found_again(admin, f"/written/{number}/", parent)
                except MeshtlsError as error:
                    self.violations.add(LOST, f"writer {number}: an answer that can't be: {error}")
                    kept = await self._found_again(admin, f"/written/{number}/", parent)
                await self.load.pause(chances.uniform(*_PAUSES_S))

    async def _change(
        self, admin: AdminClient, kept: list[Entry], name: SpiffeId, parent: SpiffeId, chances: random.Random
    ) -> None:
        """One call, whose response is recorded in the model. Raises LocalIdentityError if there is no response."""
        ttl = chances.randrange(60, 3_600)
        weights = (4, 3, 3) if len(kept) < _MOST_KEPT else (0, 1, 3)
        what = chances.choices(("create", "update", "delete"), weights)[0] if kept else "create"
        place = chances.randrange(len(kept)) if kept else 0
        wanted = None if what == "delete" else ttl
        entry = Entry(spiffe_id=name, parent_id=parent, selectors=_NOBODY) if what == "create" else kept[place]
        entry = replace(entry, x509_svid_ttl=ttl)
        try:
            if what == "create":
                kept += await admin.create_entries([entry])
            elif what == "update":
                kept[place] = await admin.update_entry(entry)
            else:
                await admin.delete_entries([entry.id])
                del kept[place]
        except LocalIdentityError:
            self.model.leave_open(str(entry.spiffe_id), wanted)
            raise
        self.model.acknowledge(str(entry.spiffe_id), wanted)

    async def _found_again(self, admin: AdminClient, prefix: str, parent: SpiffeId) -> list[Entry]:
        """The writer's entries once the server is back; each must match the model."""
        while True:
            try:
                found = [one async for one in admin.entries(EntryFilter(parent_id=parent))]
            except LocalIdentityError:
                await asyncio.sleep(0.1)
                continue
            own = [one for one in found if one.spiffe_id.path.startswith(prefix)]
            self._observe(prefix, own)
            return own

    def _observe(self, prefix: str, own: Iterable[Entry]) -> None:
        held = {str(one.spiffe_id): one.x509_svid_ttl for one in own}
        for wrong in self.model.observe_all(held, under=f"spiffe://{DOMAIN}{prefix}"):
            self.violations.add(LOST, wrong)
        self.compared += 1
