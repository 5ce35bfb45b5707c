"""What is said of packets that a connection's bytes do not show."""

from __future__ import annotations

import io

import pytest

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.figures import Figures
from meshtls.capture.analysis.oddities import oddities, oddities_of
from tests.support.packets import RST, Talk, captured, pcap


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((0, 0, 0), []),
        ((7, 0, 0), ["7 bytes were cut off by the snapshot length: capture whole packets (tcpdump: -s 0)"]),
        (
            (0, 1, 0),
            [
                "1 segment was sent again with other bytes than before, of which the first count: a device on the way"
                " changes packets, or someone forges them"
            ],
        ),
        (
            (0, 0, 2),
            [
                "2 segments were ignored, which the receiver can't have accepted: outside of the window, after the end,"
                " or a FIN, RST or SYN after which the connection went on"
            ],
        ),
    ],
)
def test_each_count_has_a_sentence(counts: tuple[int, int, int], said: list[str]) -> None:
    assert list(oddities(*counts)) == said


def test_the_record_of_a_connection_and_the_totals_have_the_counts() -> None:
    talk = Talk()
    frames = [
        *talk.handshake(),
        talk.client(b"GET / HTTP/1.1\r\n\r\n"),
        talk.client(b"PUT", seq=1001),
        talk.server(flags=RST, seq=1 << 31),
        talk.server(b"HTTP/1.1 204 No Content\r\n\r\n"),
        *talk.close(),
    ]
    packets = captured(frames)
    packets[6] = packets[6]._replace(data=packets[6].data[:-5])
    [found] = Analysis(io.BytesIO(pcap(packets)))
    assert [(end.cut_bytes, end.conflicts, end.strange) for end in (found.client, found.server)] == [
        (0, 1, 0),
        (5, 0, 1),
    ]
    assert list(oddities_of(found)) == list(oddities(5, 1, 1))
    figures = Figures()
    figures.add(found)
    figures.add(found)
    assert {name: figures.record()[name] for name in ("cut_bytes", "conflicts", "strange")} == {
        "cut_bytes": 10,
        "conflicts": 2,
        "strange": 2,
    }
