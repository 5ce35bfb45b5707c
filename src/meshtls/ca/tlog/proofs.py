"""Inclusion and consistency proofs (RFC 6962, section 2.1): which tiles one needs, its hashes, its verification. Pure.

A proof is planned first, as ranges of leaves whose roots it consists of. ``tiles_for`` says which tiles have them, and
``proof_from`` computes the hashes from the content of these tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from meshtls.ca.tlog.hashing import HASH_BYTES, node_hash
from meshtls.ca.tlog.tiles import TILE_WIDTH, Tile
from meshtls.errors import LogProofError, RequestError

__all__ = [
    "Range",
    "consistency_ranges",
    "inclusion_ranges",
    "peak_ranges",
    "proof_from",
    "tiles_for",
    "verify_consistency",
    "verify_inclusion",
]

#: The leaves from the first number up to, not including, the second.
Range = tuple[int, int]


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The subtrees beside the path from leaf ``index`` to the root, lowest first. Raises RequestError."""
    if not 0 <= index < size:
        raise RequestError(f"leaf {index}: wanted 0 to {size - 1}, as the tree has {size} leaves")
    low, high = 0, size
    found = []
    while high - low > 1:
        middle = low + _left_width(high - low)
        if index < middle:
            found.append((middle, high))
            high = middle
        else:
            found.append((low, middle))
            low = middle
    return found[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The subtrees that lead from the tree of ``old`` leaves to that of ``new``; none from 0. Raises RequestError."""
    if not 0 <= old <= new:
        raise RequestError(f"old size {old}: wanted 0 to {new}, the size of the tree")
    if old in (0, new):
        return []
    low, high = 0, new
    found = []
    while old != high:
        middle = low + _left_width(high - low)
        if old <= middle:
            found.append((middle, high))
            high = middle
        else:
            found.append((low, middle))
            low = middle
    if low:
        found.append((low, high))
    return found[::-1]


def peak_ranges(size: int) -> list[Range]:
    """The perfect subtrees that make up a tree of this size, the largest first."""
    return [(place << height, (place + 1) << height) for height, place in _perfect((0, size))]


def tiles_for(ranges: Sequence[Range], size: int) -> list[Tile]:
    """The tiles, as a tree of this size has them, from which ``proof_from`` computes the roots of these ranges."""
    return sorted({_place(height, index, size)[0] for one in ranges for height, index in _perfect(one)})


def proof_from(ranges: Sequence[Range], size: int, tiles: Mapping[Tile, bytes]) -> list[bytes]:
    """The roots of these ranges. Raises LogProofError where a tile's content has not the tile's size."""
    for tile, content in tiles.items():
        if len(content) != tile.width * HASH_BYTES:
            raise LogProofError(f"{tile}: wanted {tile.width * HASH_BYTES} bytes, got {len(content)}")
    return [_root(one, size, tiles) for one in ranges]


def verify_inclusion(leaf: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree with this size and root has this leaf hash at ``index``. Raises LogProofError."""
    if not 0 <= index < size:
        raise LogProofError(f"leaf {index}: the tree has {size} leaves only")
    here, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise LogProofError(f"leaf {index} of {size}: the inclusion proof is too long")
        if here & 1 or here == last:
            computed = node_hash(sibling, computed)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        here, last = here >> 1, last >> 1
    if last or computed != root:
        raise LogProofError(f"leaf {index} of {size}: the inclusion proof does not lead to the checkpoint's root")


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the new tree begins with all leaves of the old one. Raises LogProofError."""
    if not 0 <= old <= new:
        raise LogProofError(f"the tree has {new} leaves, and had {old} before: a log never shrinks")
    if old == new:
        if proof or old_root != new_root:
            raise LogProofError(f"two different trees of {old} leaves: the log has forked")
        return
    if old == 0:
        if proof:
            raise LogProofError("wanted no consistency proof from the empty tree, got one")
        return
    here, last = old - 1, new - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    hashes = list(proof) if here else [old_root, *proof]
    if not hashes:
        raise LogProofError(f"from {old} to {new} leaves: wanted a consistency proof, got none")
    older = newer = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            raise LogProofError(f"from {old} to {new} leaves: the consistency proof is too long")
        if here & 1 or here == last:
            older, newer = node_hash(sibling, older), node_hash(sibling, newer)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            newer = node_hash(newer, sibling)
        here, last = here >> 1, last >> 1
    if last or older != old_root or newer != new_root:
        raise LogProofError(f"from {old} to {new} leaves: not consistent; the log was rewritten or has forked")


def _left_width(leaves: int) -> int:
    """The largest power of two below this number of leaves: the size of the left subtree."""
    return 1 << (leaves - 1).bit_length() - 1


def _perfect(leaves: Range) -> Iterator[tuple[int, int]]:
    """The perfect subtrees that make up a range of leaves, left to right, each by its height and place."""
    start, end = leaves
    while start < end:
        height = (end - start).bit_length() - 1
        yield height, start >> height
        start += 1 << height


def _place(height: int, index: int, size: int) -> tuple[Tile, int, int]:
    """The tile with the hashes below this subtree's root, the place of the first within it, and their number."""
    level, above = divmod(height, 8)
    number, offset = divmod(index << above, TILE_WIDTH)
    width = min(TILE_WIDTH, (size >> 8 * level) - number * TILE_WIDTH)
    return Tile(level, number, width), offset, 1 << above


def _root(leaves: Range, size: int, tiles: Mapping[Tile, bytes]) -> bytes:
    root = b""
    for height, index in reversed(list(_perfect(leaves))):
        tile, offset, count = _place(height, index, size)
        content = tiles[tile]
        row = [content[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in range(offset, offset + count)]
        while len(row) > 1:
            row = [node_hash(left, right) for left, right in zip(row[::2], row[1::2], strict=True)]
        root = node_hash(row[0], root) if root else row[0]
    return root
