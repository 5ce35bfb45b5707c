"""A whole log in memory, as the reference: the tree by RFC 6962's definition, its tiles by tlog-tiles' definition."""

from __future__ import annotations

from collections.abc import Sequence

from meshtls.ca.tlog.hashing import EMPTY_ROOT, leaf_hash, node_hash
from meshtls.ca.tlog.proofs import consistency_ranges, inclusion_ranges, proof_from, tiles_for
from meshtls.ca.tlog.tiles import ENTRIES, TILE_WIDTH, Tile, bundle_of

__all__ = ["consistency", "entries", "inclusion", "root_of", "tile_content", "tiles_of"]


def entries(count: int) -> list[bytes]:
    return [f"entry {number}".encode() for number in range(count)]


def root_of(log: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not log:
        return EMPTY_ROOT
    if len(log) == 1:
        return leaf_hash(log[0])
    left = 1
    while left * 2 < len(log):
        left *= 2
    return node_hash(root_of(log[:left]), root_of(log[left:]))


def tile_content(log: Sequence[bytes], tile: Tile) -> bytes:
    if tile.level == ENTRIES:
        return bundle_of(log[tile.first : tile.first + tile.width])
    span = TILE_WIDTH**tile.level
    starts = [(tile.first + place) * span for place in range(tile.width)]
    return b"".join(root_of(log[start : start + span]) for start in starts)


def tiles_of(log: Sequence[bytes]) -> list[Tile]:
    """All tiles that a log of this size has to serve."""
    found, level, width = [], 0, len(log)
    while width:
        found += [
            Tile(one, number, min(TILE_WIDTH, width - number * TILE_WIDTH))
            for number in range(-(-width // TILE_WIDTH))
            for one in ((0, ENTRIES) if level == 0 else (level,))
        ]
        level, width = level + 1, width // TILE_WIDTH
    return found


def inclusion(log: Sequence[bytes], index: int) -> list[bytes]:
    return _proof(log, inclusion_ranges(index, len(log)))


def consistency(log: Sequence[bytes], old: int) -> list[bytes]:
    return _proof(log, consistency_ranges(old, len(log)))


def _proof(log: Sequence[bytes], ranges: list[tuple[int, int]]) -> list[bytes]:
    tiles = tiles_for(ranges, len(log))
    return proof_from(ranges, len(log), {tile: tile_content(log, tile) for tile in tiles})
