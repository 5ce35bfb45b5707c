"""The state of a growing Merkle tree: the roots of its perfect subtrees, at most one for each bit of its size. Pure.

That is enough to append and to compute the root. Appending returns the nodes that a tile above level 0 consists of, so
that they are stored once and the tree is never read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from meshtls.ca.tlog.hashing import EMPTY_ROOT, HASH_BYTES, node_hash
from meshtls.errors import LogProofError

__all__ = ["Frontier", "TileNode"]

_TILE_HEIGHT = 8


class TileNode(NamedTuple):
    """A hash in a tile of ``level`` 1 or more: the ``place``-th root of a perfect subtree of 256**level leaves."""

    level: int
    place: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Frontier:
    """The state of a growing tree. ``peaks`` are the roots of the perfect subtrees that make up ``size`` leaves, the
    largest first.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """The inverse of ``to_bytes``. Raises LogProofError where the bytes are of another size's tree."""
        count = size.bit_count()
        if size < 0 or len(data) != count * HASH_BYTES:
            raise LogProofError(f"tree of {size} leaves: wanted {count} hashes as its state, got {len(data)} bytes")
        return cls(size, tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)))

    def to_bytes(self) -> bytes:
        return b"".join(self.peaks)

    def append(self, leaves: Iterable[bytes]) -> tuple[Frontier, list[TileNode]]:
        """The state after these leaf hashes, and the nodes that are new in tiles above level 0."""
        size, peaks = self.size, list(self.peaks)
        nodes: list[TileNode] = []
        for leaf in leaves:
            root, height = leaf, 0
            while size >> height & 1:
                root = node_hash(peaks.pop(), root)
                height += 1
                if height % _TILE_HEIGHT == 0:
                    nodes.append(TileNode(height // _TILE_HEIGHT, size >> height, root))
            peaks.append(root)
            size += 1
        return Frontier(size, tuple(peaks)), nodes

    @property
    def root(self) -> bytes:
        """The hash of the whole tree (RFC 6962, section 2.1)."""
        if not self.peaks:
            return EMPTY_ROOT
        *larger, root = self.peaks
        for peak in reversed(larger):
            root = node_hash(peak, root)
        return root

    def __repr__(self) -> str:
        return f"<Frontier {self.size} leaves, root {self.root.hex()[:16]}>"
