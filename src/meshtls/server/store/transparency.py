"""The transparency log in the store: its leaves, the nodes of its tiles, and its state. Each call is in a transaction.

Leaves and nodes are only ever inserted. The one row of ``log_state`` serializes the writers of all servers: the first
to advance it holds its lock until its transaction ends, and the next finds another tree than it expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.ca.tlog.frontier import Frontier, TileNode
from meshtls.ca.tlog.hashing import leaf_hash
from meshtls.ca.tlog.tiles import ENTRIES, Tile, bundle_of
from meshtls.errors import LogProofError, StoreError
from meshtls.server.store.database import Quick, Step
from meshtls.server.store.schema import issuances, log_keys, log_leaves, log_nodes, log_state

__all__ = [
    "LogState",
    "add_log_key",
    "append_steps",
    "create_state",
    "index_of_serial",
    "intermediate_leaf",
    "known_log_keys",
    "read_state",
    "rename_log",
    "store_checkpoint",
    "tile_content",
]


_ADVANCE = Quick(
    update(log_state)
    .where((log_state.c.size == bindparam("before")) & (log_state.c.peaks == bindparam("peaks_before")))
    .values(size=bindparam("after"), peaks=bindparam("peaks_after"))
    .returning(log_state.c.id)
)
_LEAF = Quick(insert(log_leaves))
_NODE = Quick(insert(log_nodes))


@dataclass(frozen=True, slots=True)
class LogState:
    """The state of the transparency log in the store. ``note`` is the newest signed checkpoint, of the first
    ``signed_size`` leaves; empty before the first.
    """

    origin: str
    frontier: Frontier
    signed_size: int
    note: str


async def create_state(tx: AsyncConnection, origin: str) -> None:
    """Begin an empty log of this origin, unless there is one already."""
    row = "INSERT INTO log_state (id, origin, size, peaks, signed_size, note) VALUES (1, :origin, 0, :peaks, 0, '')"
    await tx.execute(text(f"{row} ON CONFLICT DO NOTHING"), {"origin": origin, "peaks": b""})


async def read_state(tx: AsyncConnection, *, lock: bool = False) -> LogState:
    """The log's state; with ``lock`` it stays until the transaction ends. Raises StoreError for an invalid one."""
    query = select(log_state)
    row = (await tx.execute(query.with_for_update() if lock else query)).mappings().one()
    try:
        frontier = Frontier.from_bytes(row["size"], row["peaks"])
    except LogProofError as error:
        raise StoreError(f"transparency log {row['origin']}: {error}; restore the data store from a backup") from error
    return LogState(row["origin"], frontier, row["signed_size"], row["note"])


def append_steps(before: Frontier, entries: Sequence[bytes], after: Frontier, nodes: Iterable[TileNode]) -> list[Step]:
    """Replace the tree, on the condition that it is ``before``; insert the entries, and the nodes that are complete."""
    tree = {
        "before": before.size,
        "peaks_before": before.to_bytes(),
        "after": after.size,
        "peaks_after": after.to_bytes(),
    }
    return [
        Step(_ADVANCE, [tree], condition=True),
        Step(_LEAF, [{"number": before.size + at, "entry": one} for at, one in enumerate(entries)]),
        Step(_NODE, [{"level": node.level, "place": node.place, "hash": node.hash} for node in nodes]),
    ]


async def tile_content(tx: AsyncConnection, tile: Tile) -> bytes:
    """The content of a tile that exists in the log's tree. Raises StoreError where rows of it are missing."""
    first, last = tile.first, tile.first + tile.width - 1
    if tile.level > 0:
        nodes = (log_nodes.c.level == tile.level) & log_nodes.c.place.between(first, last)
        query = select(log_nodes.c.hash).where(nodes).order_by(log_nodes.c.place)
    else:
        leaves = log_leaves.c.number.between(first, last)
        query = select(log_leaves.c.entry).where(leaves).order_by(log_leaves.c.number)
    found = list((await tx.execute(query)).scalars())
    if len(found) != tile.width:
        raise StoreError(f"transparency log: {tile}: {tile.width - len(found)} rows are missing; restore a backup")
    if tile.level == ENTRIES:
        return bundle_of(found)
    return b"".join(found if tile.level else map(leaf_hash, found))


async def store_checkpoint(tx: AsyncConnection, origin: str, size: int, note: str) -> None:
    """Store a signed checkpoint, unless a newer one is there."""
    older = (log_state.c.origin == origin) & (log_state.c.signed_size <= size)
    await tx.execute(update(log_state).where(older).values(signed_size=size, note=note))


async def rename_log(tx: AsyncConnection, origin: str) -> None:
    """Give the log another origin, under which no checkpoint was signed yet."""
    await tx.execute(update(log_state).values(origin=origin, signed_size=0, note=""))


async def known_log_keys(tx: AsyncConnection, origin: str) -> list[str]:
    """The keys that have signed checkpoints of this origin, one for each server."""
    query = select(log_keys.c.key).where(log_keys.c.origin == origin).order_by(log_keys.c.key)
    return list((await tx.execute(query)).scalars())


async def add_log_key(tx: AsyncConnection, key: str, origin: str, server_id: str) -> None:
    await tx.execute(insert(log_keys), {"key": key, "origin": origin, "server_id": server_id})


async def index_of_serial(tx: AsyncConnection, serial: str) -> int | None:
    """The leaf of the SVID on record with this serial; None without one."""
    query = select(issuances.c.log_index).where(issuances.c.serial == serial)
    index: int | None = (await tx.execute(query)).scalar_one_or_none()
    return index


async def intermediate_leaf(tx: AsyncConnection, serial: str) -> bytes | None:
    """The entry about the intermediate of a server of this store with this serial; None without one."""
    is_own = (issuances.c.kind == "ca") & issuances.c.entry_id.is_(None)  # that of a server below has an entry
    query = select(log_leaves.c.entry).join(issuances, issuances.c.log_index == log_leaves.c.number)
    found: bytes | None = (await tx.execute(query.where(is_own & (issuances.c.serial == serial)))).scalar_one_or_none()
    return found
