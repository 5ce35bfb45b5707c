"""Go's golang.org/x/mod/sumdb/tlog and note verify our checkpoints, tiles and proofs."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.frontier import Frontier
from meshtls.ca.tlog.hashing import leaf_hash
from meshtls.ca.tlog.note import NoteKey, sign_note
from meshtls.ca.tlog.proofs import consistency_ranges, inclusion_ranges, proof_from, tiles_for
from meshtls.ca.tlog.tiles import ENTRIES, Tile
from tests.support.go_tlog import GoLogReader, b64
from tests.unit.ca.tlog.trees import entries, root_of, tile_content, tiles_of

SIZE = 70_000
INDEXES = (0, 1, 255, 256, 999, 65_535, 65_536, 69_999)
OLD = (1, 2, 255, 256, 257, 1000, 65_536, 69_999, 70_000)


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> GoLogReader:
    return GoLogReader(tmp_path_factory.mktemp("go"))


def test_go_reads_the_log_and_verifies_its_proofs(go: GoLogReader, tmp_path: Path) -> None:
    log, origin, signer = entries(SIZE), "example.org/log", Ed25519PrivateKey.generate()
    key = NoteKey.of(origin, signer)
    tree = Frontier().append(map(leaf_hash, log))[0]
    note = str(sign_note(Checkpoint(origin, SIZE, tree.root).text, origin, signer))
    (tmp_path / "checkpoint").write_text(note)
    contents = {tile: tile_content(log, tile) for tile in tiles_of(log) if tile.level != ENTRIES}
    for tile, content in contents.items():
        path = tmp_path / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def proof(ranges: list[tuple[int, int]], size: int, tiles: dict[Tile, bytes]) -> list[str]:
        wanted = tiles_for(ranges, size)
        return [b64(one) for one in proof_from(ranges, size, {tile: tiles[tile] for tile in wanted})]

    root = b64(tree.root)
    inclusion = [
        {"Index": one, "Entry": b64(log[one]), "Size": SIZE, "Root": root}
        | {"Proof": proof(inclusion_ranges(one, SIZE), SIZE, contents)}
        for one in INDEXES
    ]
    consistency = [
        {"Old": old, "New": SIZE, "OldRoot": b64(root_of(log[:old])), "NewRoot": root}
        | {"Proof": proof(consistency_ranges(old, SIZE), SIZE, contents)}
        for old in OLD
    ]
    said = go.ask(
        [key], Notes=[note], Inclusion=inclusion, Consistency=consistency, Log=str(tmp_path), Indexes=list(INDEXES)
    )
    assert said["Failures"] is None
    assert said["Signed"] == [[origin]]
    assert (said["Size"], said["Root"]) == (SIZE, root)
    assert said["Leaves"] == [b64(leaf_hash(log[one])) for one in INDEXES]
    forged = inclusion[0] | {"Root": b64(bytes(32))}
    refused = go.ask([key], Notes=[note.replace("70000", "70001")], Inclusion=[forged])
    assert refused["Failures"] == [
        f"invalid signature for key {origin}+{key.id.hex()}",
        f"inclusion 0 of {SIZE}: invalid transparency proof",
    ]
