"""Where records are lost, what reads the data inside of TLS is told: otherwise it would join what does not belong
together.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.capture.session import TlsSession
from meshtls.wire.side import Side
from tests.integration.capture.network_captures import Bytes
from tests.integration.capture.test_decrypt_damage import WORDS, Said

_SERVER = Side.SERVER


@pytest.fixture(params=[2, 3])
def said(request: pytest.FixtureRequest, tmp_path: Path) -> Said:
    return Said(tmp_path, request.param)


def inside(said: Said, lost: range) -> list[bytes]:
    """What comes of the server's data between gaps, where the capture misses these bytes of its stream."""
    found = Bytes()
    session = TlsSession(said.keys, found)
    offset = 0
    for side, data in said.flights:
        if side is Side.CLIENT:
            session.feed(side, data, 1)
            continue
        begin, end = (min(max(one - offset, 0), len(data)) for one in (lost.start, lost.stop))
        session.feed(side, data[:begin], 1)
        if end > begin:
            session.gap(side, end - begin)
        session.feed(side, data[end:], 1)
        offset += len(data)
    return [bytes(one) for one in found.pieces[_SERVER]]


@pytest.mark.parametrize(
    ("first", "last", "wanted"),
    [
        ((4, 0), (5, 0), [range(4), range(5, 12)]),
        ((4, 3), (5, 0), [range(4), range(5, 12)]),
        ((4, 30), (4, 60), [range(4), range(5, 12)]),
        ((4, 30), (6, 30), [range(4), range(7, 12)]),
    ],
    ids=["a record", "a header and the rest", "within a record", "from within a record into another"],
)
def test_lost_records_are_a_gap_inside(
    said: Said, first: tuple[int, int], last: tuple[int, int], wanted: list[range]
) -> None:
    words = said.words()
    (begin, after), (end, into) = first, last
    pieces = inside(said, range(words[begin][0] + after, words[end][0] + into))
    # A gap may be told more than once: of the record that is cut off, and of those after it.
    assert list(filter(None, pieces)) == [b"".join(WORDS[one] for one in some) for some in wanted]


def test_without_a_loss_there_is_no_gap_inside(said: Said) -> None:
    assert inside(said, range(0)) == [b"".join(WORDS)]


def test_lost_handshake_records_are_no_gap_inside(tmp_path: Path) -> None:
    """The first record of application data has the number 0 under its keys: no other one was lost."""
    said = Said(tmp_path, 3)
    tickets = said.records(_SERVER)[-len(WORDS) - 3]
    hello_end = said.records(_SERVER)[0][1]
    assert inside(said, range(hello_end + 1, tickets[0])) == [b"".join(WORDS)]
