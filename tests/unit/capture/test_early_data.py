"""Early data waits for the server's answer in bounded memory."""

from __future__ import annotations

import pytest

from meshtls.capture.early_data import EarlyData
from meshtls.capture.memory import MemoryPool
from meshtls.capture.server_hello import accepts_early_data

RECORD = bytes(16_384)


def test_early_data_is_taken_with_its_times_and_gives_its_memory_back() -> None:
    share = MemoryPool().share()
    early = EarlyData(share)
    early.hold(b"one", 1)
    early.hold(b"two", 2)
    assert (early.bytes, early.whole, share.taken) == (6, True, 6)
    assert early.taken() == [(b"one", 1), (b"two", 2)]
    assert (early.taken(), share.taken) == ([], 0)


@pytest.mark.parametrize(("most", "kept"), [(1 << 27, 4), (64, 0)])
def test_the_beginning_of_early_data_is_kept_where_there_is_no_room_for_more(most: int, kept: int) -> None:
    share = MemoryPool(most).share()
    early = EarlyData(share)
    for number in range(10):
        early.hold(RECORD, number)
    assert (early.bytes, early.whole, share.taken) == (10 * len(RECORD), False, kept * len(RECORD))
    assert early.taken() == [(RECORD, number) for number in range(kept)]


@pytest.mark.parametrize(
    ("extensions", "accepted"),
    [
        ("", False),
        ("0010 0005 0003 02 6832", False),
        ("002a 0000", True),
        ("0010 0005 0003 02 6832 002a 0000", True),
        # The length of the first is wrong, or it ends early.
        ("0010 ffff 002a 0000", False),
        ("002a", False),
    ],
)
def test_an_extension_accepts_early_data(extensions: str, accepted: bool) -> None:
    content = bytes.fromhex(extensions)
    body = len(content).to_bytes(2, "big") + content
    assert accepts_early_data(b"\x08" + len(body).to_bytes(3, "big") + body) is accepted
