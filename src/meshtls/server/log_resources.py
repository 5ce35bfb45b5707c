"""What the transparency log serves, over HTTP and to administrators. Nothing in it is secret."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.ca.tlog.tiles import parse_tile
from meshtls.errors import NotFoundError, RequestError
from meshtls.scalars import shown
from meshtls.server.core import Core
from meshtls.server.store import transparency
from meshtls.server.store.transparency import read_state

__all__ = ["LogResource", "resource"]

_LONGEST_SERIAL = 64


@dataclass(frozen=True, slots=True)
class LogResource:
    """The content of one path. It never changes if ``immutable``; it is text unless ``binary``."""

    content: bytes
    binary: bool = False
    immutable: bool = False


async def resource(core: Core, path: str) -> LogResource:
    """What the log serves at this path (C2SP tlog-tiles): ``checkpoint``, or a tile of the tree that this has signed.

    Beside these, ``keys`` has a line for the key of each server that signs checkpoints, and ``lookup/SERIAL`` the index
    of the leaf of an SVID that is on record. Raises NotFoundError, RequestError, StoreError.
    """
    async with core.database.read() as tx:
        state = await read_state(tx)
        if path == "checkpoint":
            return LogResource(state.note.encode())
        if path == "keys":
            keys = await transparency.known_log_keys(tx, state.origin)
            return LogResource("".join(f"{key}\n" for key in keys).encode())
        if path.startswith("lookup/"):
            return LogResource(f"{await _index(tx, path.removeprefix('lookup/'))}\n".encode())
        tile = parse_tile(path)
        if not tile.exists_in(state.signed_size):
            raise NotFoundError(f"{tile}: the log has no such tile; it has {state.signed_size} signed leaves")
        return LogResource(await transparency.tile_content(tx, tile), binary=True, immutable=True)


async def _index(tx: AsyncConnection, serial: str) -> int:
    if not (serial.isascii() and serial.isalnum()) or len(serial) > _LONGEST_SERIAL:
        raise RequestError(f"wanted a serial in hexadecimal, got {shown(serial)}")
    index = await transparency.index_of_serial(tx, serial)
    if index is None:
        raise NotFoundError(f"serial {serial}: no SVID that is on record and in the log has it")
    return index
