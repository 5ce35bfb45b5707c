"""The tree, its tiles and its proofs, against RFC 6962's own definitions."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.ca.tlog.frontier import Frontier
from meshtls.ca.tlog.hashing import EMPTY_ROOT, leaf_hash
from meshtls.ca.tlog.proofs import (
    consistency_ranges,
    inclusion_ranges,
    tiles_for,
    verify_consistency,
    verify_inclusion,
)
from meshtls.ca.tlog.tiles import ENTRIES, Tile, bundle_of, entries_in, entry_tiles, parse_tile
from meshtls.errors import LogProofError, RequestError
from tests.unit.ca.tlog.trees import consistency, entries, inclusion, root_of, tile_content, tiles_of

LOG = entries(600)
SIZES = st.integers(1, len(LOG))


def grown(count: int, start: Frontier | None = None) -> Frontier:
    start = start or Frontier()
    return start.append(map(leaf_hash, LOG[start.size : count]))[0]


def test_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier().root == EMPTY_ROOT == root_of([])
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@given(SIZES, SIZES)
def test_frontier_has_the_root_of_the_whole_tree_however_it_was_appended_to(one: int, other: int) -> None:
    first, second = sorted((one, other))
    stored = Frontier.from_bytes(first, grown(first).to_bytes())
    assert grown(second, stored) == grown(second)
    assert grown(second).root == root_of(LOG[:second])


def test_append_returns_each_node_of_the_tiles_above_level_0_once() -> None:
    frontier, nodes = Frontier(), []
    for size in range(0, 70_000, 700):
        more = (leaf_hash(b"%d" % number) for number in range(size, size + 700))
        frontier, new = frontier.append(more)
        nodes += new
    assert [(node.level, node.place) for node in nodes if node.level == 1] == [(1, index) for index in range(273)]
    [top] = [node for node in nodes if node.level > 1]
    assert (top.level, top.place) == (2, 0)
    ones = [node.hash for node in nodes if node.level == 1][:256]
    assert Frontier().append(ones)[0].root == top.hash


def test_frontier_refuses_a_state_of_another_size() -> None:
    with pytest.raises(LogProofError, match=r"^tree of 3 leaves: wanted 2 hashes as its state, got 32 bytes$"):
        Frontier.from_bytes(3, bytes(32))


@given(SIZES, st.data())
def test_inclusion_of_each_leaf_is_proven_and_of_no_other(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    log, root = LOG[:size], root_of(LOG[:size])
    proof = inclusion(log, index)
    verify_inclusion(leaf_hash(log[index]), index, size, root, proof)
    wrong = [(leaf_hash(b"other"), index, root, proof), (leaf_hash(log[index]), index, bytes(32), proof)]
    wrong += [(leaf_hash(log[index]), index, root, [*proof, bytes(32)])]
    wrong += [
        (leaf_hash(log[index]), index, root, [*proof[:at], bytes(32), *proof[at + 1 :]]) for at in range(len(proof))
    ]
    wrong += [(leaf_hash(log[index]), index, root, proof[:-1])] * bool(proof)
    wrong += [(leaf_hash(log[index]), other, root, proof) for other in (index - 1, index + 1)]
    for leaf, place, top, hashes in wrong:
        with pytest.raises(LogProofError):
            verify_inclusion(leaf, place, size, top, hashes)


@given(SIZES, SIZES)
def test_consistency_is_proven_with_the_earlier_tree_and_no_other(one: int, other: int) -> None:
    old, new = sorted((one, other))
    old_root, new_root = root_of(LOG[:old]), root_of(LOG[:new])
    proof = consistency(LOG[:new], old)
    verify_consistency(old, old_root, new, new_root, proof)
    rewritten = root_of([b"rewritten", *LOG[1:old]])
    wrong = [(old, rewritten, new_root, proof), (old, old_root, bytes(32), proof)]
    wrong += [(old, old_root, new_root, [*proof, bytes(32)]), (new + 1, old_root, new_root, proof)]
    wrong += [(old, old_root, new_root, proof[:-1])] * bool(proof)
    for size, before, after, hashes in wrong:
        with pytest.raises(LogProofError):
            verify_consistency(size, before, new, after, hashes)


def test_consistency_names_a_fork_and_a_shrunken_log() -> None:
    one, two = root_of(LOG[:5]), root_of([*LOG[:4], b"other"])
    verify_consistency(5, one, 5, one, [])
    with pytest.raises(LogProofError, match=r"^two different trees of 5 leaves: the log has forked$"):
        verify_consistency(5, one, 5, two, [])
    with pytest.raises(LogProofError, match=r"^the tree has 4 leaves, and had 5 before: a log never shrinks$"):
        verify_consistency(5, one, 4, root_of(LOG[:4]), [])


def test_proof_needs_tiles_that_the_tree_has() -> None:
    served = {size: set(tiles_of(LOG[:size])) for size in (1, 255, 256, 257, 511, 512, 600)}
    for size, tiles in served.items():
        assert all(tile.exists_in(size) for tile in tiles)
        needed = {tile for index in range(size) for tile in tiles_for(inclusion_ranges(index, size), size)}
        needed |= {tile for old in range(size) for tile in tiles_for(consistency_ranges(old, size), size)}
        assert needed <= tiles


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1234067), "tile/0/x001/x234/067"),
        (Tile(3, 5, 8), "tile/3/005.p/8"),
        (Tile(ENTRIES, 273, 112), "tile/entries/273.p/112"),
        (Tile(63, 1000, 255), "tile/63/x001/000.p/255"),
    ],
)
def test_tile_has_one_path(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_tile(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/00",
        "tile/0/0000",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/067",
        "tile/0/001/067",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/\u0663",
        "tile/-1/000",
        "tile/0/000\n",
        "tile/0/../000",
        "checkpoint",
        "tile/0/" + "x001/" * 30 + "000",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(RequestError, match="wanted a path such as tile/0/x001/067"):
        parse_tile(path)


def test_partial_tiles_exist_in_trees_that_reach_them() -> None:
    assert Tile(0, 1, 1).exists_in(257)
    assert not Tile(0, 1, 2).exists_in(257)
    assert Tile(1, 0, 1).exists_in(256)
    assert not Tile(1, 0, 1).exists_in(255)


def test_entries_are_read_back_from_their_bundles() -> None:
    for before, after in pairwise((0, 1, 255, 256, 300, 600)):
        read = [
            entry
            for tile in entry_tiles(before, after)
            for entry in entries_in(tile_content(LOG, tile), tile)[max(0, before - tile.first) :]
        ]
        assert read == LOG[before:after]


@pytest.mark.parametrize("content", [b"", b"\0\1", b"\0\1ab", b"\0\1a\0\1b\0\1c", b"\0\5abc"])
def test_bundle_with_other_than_its_whole_entries_is_refused(content: bytes) -> None:
    tile = Tile(ENTRIES, 0, 2)
    assert entries_in(bundle_of([b"a", b"b"]), tile) == [b"a", b"b"]
    with pytest.raises(
        RequestError, match=f"^tile/entries/000.p/2: wanted 2 whole entries, got other content of {len(content)}"
    ):
        entries_in(content, tile)
