"""What a sidecar writes itself has invented headers: the file says so, and nothing is told that depends on them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from meshtls.capture.analysis.figures import Figures
from meshtls.capture.files.writing import PcapngWriter
from meshtls.capture.report.costs import latency, overhead
from meshtls.capture.synthetic import RAW_IP, SYNTHETIC_HEADERS, Conversation
from meshtls.wire.side import Side
from tests.support.packets import EPOCH, MS
from tests.support.tls_capture import analyzed, shaken
from tests.support.tls_wire import Wire

SAID = (
    "the TCP and IP headers are synthetic, since the writer of the file saw only the bytes in TCP: the duration of"
    " TCP's handshake and the overhead are unknown, and packets and wire_bytes count invented headers"
)


def written(wire: Wire, description: str) -> bytes:
    """The file of the conversation, on the second interface of it."""
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.interface(1, "eth0")
    interface = writer.interface(RAW_IP, "sidecar web", description=description)
    talk = Conversation(("10.0.0.1", 40_000), ("10.0.0.2", 443))
    for packet in talk.open():
        writer.packet(interface, EPOCH, packet)
    for at, (side, data) in enumerate(wire.flights):
        for packet in talk.data(side, data):
            writer.packet(interface, EPOCH + at * MS, packet)
    for side in Side:
        for packet in talk.end(side):
            writer.packet(interface, EPOCH + len(wire.flights) * MS, packet)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("description", "synthetic"), [(SYNTHETIC_HEADERS, True), ("", False), ("an interface of a program", False)]
)
def test_figures_of_synthetic_headers_are_not_told(description: str, synthetic: bool, tmp_path: Path) -> None:
    wire = shaken(tmp_path)
    [found] = analyzed(written(wire, description), tmp_path / "keys")
    assert found.handshake is not None
    assert found.handshake.ms is not None
    assert (found.synthetic, found.troubles) == (synthetic, (SAID,) if synthetic else ())
    assert (found.tcp_rtt_ms, found.overhead is None) == (None if synthetic else 0.0, synthetic)
    figures = Figures()
    figures.add(found)
    assert figures.overhead == found.overhead
    rows = dict(overhead(found)) | dict(latency(found))
    assert ("%" in rows["application data"]) is not synthetic
    told = (rows["TCP handshake"], rows["headers of packets, and retransmissions"].partition(":")[0])
    ratio = rows["overhead ratio (other bytes for each byte of application data)"]
    if synthetic:
        assert (*told, ratio) == ("unknown: it is synthetic", "unknown", "unknown")
    else:
        assert (told[0], ratio) == ("0.000 ms", f"{found.overhead:.2f}")


def test_a_checksum_that_adds_up_to_nothing_is_zero() -> None:
    """Of all payloads of two bytes, one is such that the rest adds up to a multiple of 65535. tshark takes 65535 for a
    wrong checksum.
    """
    sums = set()
    for number in range(1 << 16):
        talk = Conversation(("192.0.2.1", 40000), ("192.0.2.2", 443))
        (frame,) = talk.data(Side.CLIENT, number.to_bytes(2, "big"))
        sums.add(frame[36:38])
    assert bytes(2) in sums
    assert b"\xff\xff" not in sums
