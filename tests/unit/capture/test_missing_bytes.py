"""Where bytes of TLS are not in the capture, application bytes are a bound, and not fewer than were sent."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.connection import Connection
from meshtls.capture.analysis.row import bytes_of
from meshtls.capture.files.packet import Packet
from meshtls.capture.keylog import KeyLog
from meshtls.wire.side import Side
from tests.support.packets import captured, pcap
from tests.support.tls_capture import Tape
from tests.support.tls_wire import Flight, Wire, contexts

ASKED = b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n"
ANSWERED = b"HTTP/1.1 200 OK\r\nContent-Length: 1600\r\n\r\n" + bytes(1600)
SENT = 2 * len(ASKED), 2 * len(ANSWERED)
SEGMENT = 700
CONNECT: list[Flight] = [
    (Side.CLIENT, b"CONNECT web.test:443 HTTP/1.1\r\nHost: web.test:443\r\n\r\n"),
    (Side.SERVER, b"HTTP/1.1 200 OK\r\n\r\n"),
]


def packets_of(directory: Path, version: int, before: list[Flight], segment: int = SEGMENT) -> list[Packet]:
    """Two requests with their responses, in segments of so many bytes."""
    wire = Wire(*contexts(directory, directory / "keys", mutual=True, version=version))
    assert wire.shake() == {}
    for _ in range(2):
        wire.send(Side.CLIENT, ASKED)
        wire.send(Side.SERVER, ANSWERED)
    wire.close()
    whole = [*before, *wire.flights]
    wire.flights[:] = [(side, sent[at : at + segment]) for side, sent in whole for at in range(0, len(sent), segment)]
    tape = Tape()
    tape.wire(wire)
    return captured(tape.frames)


def told(packets: list[Packet], keys: Path | None) -> Connection:
    (found,) = Analysis(io.BytesIO(pcap(packets)), KeyLog(keys.read_bytes()) if keys is not None else None)
    return found


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("before", [[], CONNECT], ids=["direct", "through a proxy"])
@pytest.mark.parametrize("snapshot", [60, 96, 200, 400])
def test_byte_counts_of_cut_packets_are_upper_bounds(
    version: int, keys: bool, before: list[Flight], snapshot: int, tmp_path: Path
) -> None:
    packets = packets_of(tmp_path, version, before)
    log = tmp_path / "keys" if keys else None
    whole = told(packets, log)
    assert (whole.client.application_bytes, whole.server.application_bytes, whole.at_most) == (*SENT, False)
    found = told([one._replace(data=one.data[:snapshot]) for one in packets], log)
    if found.protocol != "TLS":
        assert (before, snapshot < 200) == (CONNECT, True)  # the CONNECT itself is cut
        return
    assert (found.estimated, found.at_most) == (True, True)
    assert bytes_of(found) == f"<={found.application_bytes}"
    for end, sent in zip((found.client, found.server), SENT, strict=True):
        assert sent <= end.application_bytes <= end.tcp_bytes
    if found.problem:
        words = f"{found.client.cut_bytes + found.server.cut_bytes} bytes of this connection are not in the capture"
        assert found.problem == f"{words}, and the rest does not show that its handshake was complete"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("segment", [120, 200, 300, 700])
def test_with_any_packet_lost_the_bytes_are_no_fewer_than_were_sent(
    version: int, keys: bool, segment: int, tmp_path: Path
) -> None:
    packets = packets_of(tmp_path, version, [], segment)
    assert len(packets) > 10
    fewer: dict[int, tuple[int, int]] = {}
    for at in range(3, len(packets)):
        found = told(packets[:at] + packets[at + 1 :], tmp_path / "keys" if keys else None)
        counts = found.client.application_bytes, found.server.application_bytes
        if any(
            count < sent or (count > sent and not found.estimated) for count, sent in zip(counts, SENT, strict=True)
        ):
            fewer[at] = counts
    assert fewer == {}


def records(flights: list[Flight]) -> list[Flight]:
    """Each record of its own."""
    found: list[Flight] = []
    for side, data in flights:
        at = 0
        while at < len(data):
            end = at + 5 + int.from_bytes(data[at + 3 : at + 5], "big")
            found.append((side, data[at:end]))
            at = end
    return found


@pytest.mark.parametrize("mutual", [True, False])
def test_a_record_that_is_cut_and_may_be_no_data_is_a_bound_or_is_not_counted_with_keys(
    mutual: bool, tmp_path: Path
) -> None:
    """Only session tickets, which come first, and alerts, which have a length of their own, may be taken for data."""
    wire = Wire(*contexts(tmp_path, tmp_path / "keys", mutual=mutual, version=3))
    assert wire.shake() == {}
    handshake = len(records(wire.flights))
    tickets = 2
    wire.send(Side.CLIENT, ASKED)
    wire.send(Side.SERVER, ANSWERED)
    wire.close()
    wire.flights[:] = records(wire.flights)
    assert len(wire.flights) == handshake + 4
    tape = Tape()
    tape.wire(wire)
    packets = captured(tape.frames)
    for at in range(handshake + 4):
        cut = list(packets)
        cut[3 + at] = cut[3 + at]._replace(data=cut[3 + at].data[:60])
        found = told(cut, tmp_path / "keys")
        # A ClientHello that is cut names no connection in the key log: then lengths tell, as without keys.
        is_ticket = handshake - tickets <= at < handshake
        sent = found.client.application_bytes, found.server.application_bytes
        assert found.at_most is (is_ticket or at == handshake + 1)  # the server's first data has the length of one
        assert sent > (len(ASKED), len(ANSWERED)) if is_ticket else sent == (len(ASKED), len(ANSWERED))
        assert found.estimated is (at == 0 or at >= handshake - tickets)


@pytest.mark.parametrize("keys", [True, False])
def test_bytes_that_are_lost_within_a_record_leave_its_length_known(keys: bool, tmp_path: Path) -> None:
    packets = packets_of(tmp_path, 3, [])
    large = [at for at, one in enumerate(packets) if one.data[54:57] == b"\x17\x03\x03" and len(one.data) > SEGMENT]
    assert len(large) >= 2
    del packets[large[-1] + 1]
    found = told(packets, tmp_path / "keys" if keys else None)
    assert found.server.lost_bytes == SEGMENT
    assert (found.client.application_bytes, found.server.application_bytes, found.at_most) == (*SENT, False)
