"""What is told of a TCP connection: its bytes in order, what is missing, how it ends."""

from __future__ import annotations

from meshtls.capture.flow import Ending
from meshtls.wire.side import Side
from tests.support.packets import Talk, captured, read


def test_bytes_in_order_are_delivered_in_order_and_both_ends_close() -> None:
    talk = Talk()
    frames = [
        *talk.handshake(),
        talk.client(b"GET /"),
        talk.client(b" HTTP/1.1"),
        talk.server(b"200"),
        talk.client(),
        *talk.close(),
    ]
    seen, flows = read(captured(frames))

    [flow], [kept] = seen.flows, seen.sinks
    assert kept.events == [
        ("data", Side.CLIENT, b"GET / HTTP/1.1"),
        ("data", Side.SERVER, b"200"),
        ("ended", Side.CLIENT, Ending.FIN),
        ("ended", Side.SERVER, Ending.FIN),
    ]
    assert kept.numbers == [4, 5, 6]
    assert (str(flow.client.address), str(flow.server.address)) == ("10.0.0.1:40000", "10.0.0.2:443")
    assert (flow.client.packets, flow.client.bytes, flow.server.packets, flow.server.bytes) == (7, 14, 3, 3)
    assert flow.from_start
    assert flow.syn_ns is not None
    assert flow.syn_ack_ns == flow.syn_ns + 1_000_000
    assert flow.established_ns == flow.syn_ns + 2_000_000
    assert (flow.first_ns, flow.last_ns) == (flow.syn_ns, flow.syn_ns + 9_000_000)
    assert flows.totals.without_flow == 0
