"""The way on when the data store was lost: this server's log ends, and another begins with the leaves that are left.

It is loud on purpose. Monitors and witnesses know the old log by its origin, and see that it does not continue.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.hashing import leaf_hash
from meshtls.ca.tlog.leaf import Leaf, LeafKind
from meshtls.clock import SystemClock
from meshtls.logs import logger
from meshtls.server.audit import AuditTrail
from meshtls.server.log_guard import LogGuard
from meshtls.server.server_id import server_id_in
from meshtls.server.settings import ServerConfig
from meshtls.server.startup import locked_data_dir, opened_database
from meshtls.server.store import transparency
from meshtls.server.store.database import run_steps
from meshtls.server.transparency import new_origin

__all__ = ["Abandoned", "abandon_log"]

log = logger("meshtls.server")


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The checkpoint that the server had signed last, the origin of the log from now on, and the guard's new path."""

    old: Checkpoint | None
    new: str
    aside: Path | None


async def abandon_log(config: ServerConfig) -> Abandoned:
    """End the log that this server has signed. Raises ConfigError while the server runs, StoreError.

    If another server of the data store has done so already, this one joins its new log.
    """
    guard = LogGuard(config.data_dir)
    with locked_data_dir(config):
        old = guard.load()
        server_id = server_id_in(config.data_dir)
        async with opened_database(config) as database:
            trail = AuditTrail(server_id, SystemClock())
            async with database.write() as tx:
                await transparency.create_state(tx, new_origin(config.trust_domain))
                state = await transparency.read_state(tx, lock=True)
                origin = state.origin
                if old is None or old.origin == origin:
                    origin = new_origin(config.trust_domain)
                    await transparency.rename_log(tx, origin)
                    leaf = _predecessor(old or Checkpoint(state.origin, 0, b""), server_id)
                    after, nodes = state.frontier.append([leaf_hash(leaf)])
                    await run_steps(tx, transparency.append_steps(state.frontier, [leaf], after, nodes))
                act = trail.record(None, "abandon transparency log", state.origin, after={"origin": origin})
                await trail.append(tx, [act])
        aside = await asyncio.to_thread(guard.set_aside, f"abandoned.{(old.origin if old else origin)[-8:]}")
    log.warning("the transparency log %s is abandoned for %s", old, origin)
    return Abandoned(old, origin, aside)


def _predecessor(old: Checkpoint, server_id: str) -> bytes:
    return bytes(
        Leaf(
            kind=LeafKind.PREDECESSOR,
            spiffe_id=old.origin,
            serial=str(old.size),
            digest=old.root.hex(),
            server_id=server_id,
        )
    )
