"""File descriptors to pairs of sidecars."""

import pytest

from meshtls.node.handshake import pairs_for


@pytest.mark.parametrize(
    ("descriptors", "pairs"),
    [(0, 1), (34, 1), (64, 4), (183, 15), (184, 16), (1024, 16), (1 << 20, 16)],
)
def test_the_number_of_pairs_is_limited_by_descriptors(descriptors: int, pairs: int) -> None:
    assert pairs_for(descriptors) == pairs
