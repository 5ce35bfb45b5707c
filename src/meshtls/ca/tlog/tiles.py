"""The resources of a log (C2SP tlog-tiles): tiles of 256 hashes, bundles of 256 entries, and their paths. Pure."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from meshtls.errors import RequestError
from meshtls.scalars import shown

__all__ = ["ENTRIES", "MAX_ENTRY", "TILE_WIDTH", "Tile", "bundle_of", "entries_in", "entry_tiles", "parse_tile"]

TILE_WIDTH = 256
#: The ``level`` of a bundle of entries.
ENTRIES = -1
MAX_ENTRY = 0xFFFF
_MAX_LEVEL = 63
_LONGEST_PATH = 64
_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """The ``number``-th tile of a ``level``, with ``width`` hashes (1 to 256); or, of level ENTRIES, of entries."""

    level: int
    number: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """Such as ``tile/0/x001/067`` or, partial, ``tile/0/x001/067.p/8``."""
        groups = [f"{self.number % 1000:03}"]
        rest = self.number // 1000
        while rest:
            groups.append(f"x{rest % 1000:03}")
            rest //= 1000
        level = "entries" if self.level == ENTRIES else str(self.level)
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"

    @property
    def first(self) -> int:
        """The index of its first hash or entry within the level."""
        return self.number * TILE_WIDTH

    def exists_in(self, size: int) -> bool:
        """Whether a tree of this size has all of its hashes or entries."""
        return self.first + self.width <= size >> 8 * max(self.level, 0)

    def __str__(self) -> str:
        return self.path


def parse_tile(path: str) -> Tile:
    """The tile with this path, which has one form only. Raises RequestError."""
    found = _PATH.fullmatch(path) if len(path) <= _LONGEST_PATH else None
    if found:
        level = ENTRIES if found[1] == "entries" else int(found[1])
        tile = Tile(level, int(found[2].replace("/", "").replace("x", "")), int(found[3] or TILE_WIDTH))
        if level <= _MAX_LEVEL and tile.path == path:
            return tile
    raise RequestError(f"wanted a path such as tile/0/x001/067 or tile/entries/000.p/5, got {shown(path)}")


def entry_tiles(start: int, size: int) -> Iterator[Tile]:
    """The bundles with the entries from ``start`` to the end of a tree of this size."""
    for number in range(start // TILE_WIDTH, -(-size // TILE_WIDTH)):
        yield Tile(ENTRIES, number, min(TILE_WIDTH, size - number * TILE_WIDTH))


def bundle_of(entries: Iterable[bytes]) -> bytes:
    """The content of a bundle: each entry (at most MAX_ENTRY bytes) after its length."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def entries_in(bundle: bytes, tile: Tile) -> list[bytes]:
    """The entries of a bundle. Raises RequestError for any other content than ``tile.width`` whole entries."""
    entries: list[bytes] = []
    at = 0
    while at + 2 <= len(bundle) and len(entries) < tile.width:
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        entries.append(bundle[at + 2 : end])
        at = end
    if at != len(bundle) or len(entries) != tile.width:
        raise RequestError(f"{tile}: wanted {tile.width} whole entries, got other content of {len(bundle)} bytes")
    return entries
