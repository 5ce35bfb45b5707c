"""``python -m bench.capture_reading WAY FILE [PACKETS]``: read a capture in one way, and print how many packets it has.

Each way has a process of its own, whose CPU time ``bench.capture_programs`` takes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, BinaryIO

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.connection import as_json
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.files.reading import read_packets
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.tcp import Flows
from meshtls.printable import json_line
from meshtls.wire.side import Side
from meshtls.wire.tls.messages import decode_message
from meshtls.wire.tls.records import RecordReader

__all__ = ["WAYS", "analyzed", "recorded", "streamed"]


def _packets(stream: BinaryIO, most: int) -> int:
    return sum(1 for _ in islice(read_packets(stream), most))


class _Bytes:
    """A sink that counts."""

    def __init__(self) -> None:
        self.bytes = self.records = 0

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        self.bytes += len(data)

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        """Nothing is missing in what the benchmark makes."""

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        """Nothing is kept."""


class _Records(_Bytes):
    """A sink that cuts records, and keeps no application data."""

    def __init__(self) -> None:
        super().__init__()
        self._feeds = {side: RecordReader(side, keep_application_data=False).feed for side in Side}

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        self.records += len(self._feeds[side](data))


def _followed(stream: BinaryIO, most: int, kind: type[_Bytes]) -> tuple[int, list[_Bytes]]:
    sinks: list[_Bytes] = []

    def opened(_flow: Flow) -> _Bytes:
        sinks.append(kind())
        return sinks[-1]

    flows, count = Flows(opened), 0
    for packet in islice(read_packets(stream), most):
        flows.packet(packet)
        count += 1
    flows.finish()
    return count, sinks


def streamed(stream: BinaryIO, most: int) -> tuple[int, int]:
    """Packets, and the bytes of their TCP streams."""
    count, sinks = _followed(stream, most, _Bytes)
    return count, sum(sink.bytes for sink in sinks)


def recorded(stream: BinaryIO, most: int) -> tuple[int, int]:
    """Packets, and the TLS records in them."""
    count, sinks = _followed(stream, most, _Records)
    return count, sum(sink.records for sink in sinks)


def analyzed(stream: BinaryIO, write: Callable[[dict[str, Any]], None]) -> tuple[int, int]:
    """Packets, and the fields of all handshake messages. ``write`` gets the record of each connection."""
    fields = 0

    def keep(watched: Watched) -> None:
        nonlocal fields
        session = watched.conversation.tls
        if session is None:
            return
        for one in session.index.messages:
            tree = decode_message(one.kind, one.data, session.version, suite=session.suite or None)
            fields += len(tree.children)

    analysis = Analysis(stream, keep=keep)
    for one in analysis:
        write(as_json(one))
    return analysis.packets, fields


def _scapy(stream: BinaryIO, most: int) -> int:
    """Each packet by itself, to its TLS layer: scapy puts segments together only where it is asked to, and that costs
    it more.
    """
    from scapy.main import load_layer  # optional, and its import takes a second
    from scapy.utils import PcapReader

    for layer in ("l2", "inet", "tls"):
        load_layer(layer)
    with PcapReader(stream.name) as packets:
        return sum(1 for packet in islice(packets, most) if packet.layers())


#: By its name, what reads a stream, at most so many packets of it.
WAYS: Mapping[str, Callable[[BinaryIO, int], int]] = {
    "packets": _packets,
    "streams": lambda stream, most: streamed(stream, most)[0],
    "records": lambda stream, most: recorded(stream, most)[0],
    "analysis": lambda stream, _: analyzed(stream, lambda record: print(json_line(record)))[0],
    "scapy": _scapy,
}


if __name__ == "__main__":
    with open(sys.argv[2], "rb") as opened_file:
        read = WAYS[sys.argv[1]](opened_file, int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize)
    print(read, file=sys.stderr)
