"""Reads the captures of two networks: what our reader delivers of each connection, and what tshark prints of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from meshtls.capture.exchange import HttpExchange, InsideBudget
from meshtls.capture.files.reading import read_packets
from meshtls.capture.files.writing import PcapWriter
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.http2_reader import Http2Reader
from meshtls.capture.keylog import KeyLog
from meshtls.capture.session import TlsSession
from meshtls.capture.tcp import Flows
from meshtls.wire.side import Side
from tests.support.require import require

__all__ = ["Bytes", "Delivered", "data_frames", "delivered", "followed", "server_port", "trimmed", "tshark", "tunnels"]

_RULE = "===================================================================\n"
#: As what tshark decodes a port: what is followed as TCP needs no more.
_DISSECTOR = {"tcp": "data", "tls": "tls"}
_PREFACE_BYTES, _FRAME_HEADER, _DATA = 24, 9, 0


@dataclass
class Bytes:
    """A ByteSink that keeps all of them. ``pieces``: what came without a gap. ``gaps``: bytes lost after each piece."""

    pieces: dict[Side, list[bytearray]] = field(default_factory=lambda: {side: [bytearray()] for side in Side})
    gaps: dict[Side, list[int]] = field(default_factory=lambda: {side: [] for side in Side})

    def feed(self, side: Side, data: bytes, time_ns: int) -> None:
        """Part of ``ByteSink``."""
        self.pieces[side][-1] += data

    def gap(self, side: Side, missing: int) -> None:
        """Part of ``ByteSink``."""
        self.pieces[side].append(bytearray())
        self.gaps[side].append(missing)

    def end(self, side: Side) -> None:
        """Part of ``ByteSink``."""

    def sent(self, side: Side) -> bytes:
        """All that came of ``side``."""
        return b"".join(self.pieces[side])

    def both(self) -> tuple[bytes, bytes]:
        """Of the client, and of the server; there has to be no gap."""
        assert [len(pieces) for pieces in self.pieces.values()] == [1, 1], "bytes are lost"
        return self.sent(Side.CLIENT), self.sent(Side.SERVER)


class Delivered:
    """A FlowSink: the stream of TCP, and of TLS what is inside of it."""

    def __init__(self, flow: Flow, keys: KeyLog) -> None:
        self.flow = flow
        self.tcp, self.inside = Bytes(), Bytes()
        self.tls = TlsSession(keys, self.inside)

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        """Part of ``FlowSink``."""
        self.tcp.feed(side, data, time_ns)
        self.tls.feed(side, bytes(data), time_ns)

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        self.tcp.gap(side, missing)
        self.tls.gap(side, missing)

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        self.tls.end(side)

    @property
    def port(self) -> int:
        """The server's."""
        return server_port(self.flow)


def server_port(flow: Flow) -> int:
    """The port of the server."""
    return flow.server.address.port


def trimmed(file: Path, mark: bytes) -> None:
    """Leave out the packet with the mark, and what came after it."""
    with file.open("rb") as stream:
        reader = read_packets(stream)
        packets = list(reader)
        assert reader.error is None
    ends = [number for number, one in enumerate(packets) if mark in one.data]
    with file.open("wb") as out:
        writer = PcapWriter(out, packets[0].link_type)
        for one in packets[: ends[0]]:
            writer.packet(one.time_ns, one.data, one.original_length)


def delivered(file: Path, keylog: Path) -> list[Delivered]:
    """The connections of a file, in their order."""
    keys, found = KeyLog(keylog.read_bytes()), list[Delivered]()

    def opened(flow: Flow) -> Delivered:
        found.append(Delivered(flow, keys))
        return found[-1]

    flows = Flows(opened)
    with file.open("rb") as stream:
        reader = read_packets(stream)
        for packet in reader:
            flows.packet(packet)
        assert reader.error is None
    flows.finish()
    return sorted(found, key=lambda one: one.flow.number)


def tunnels(one: Delivered) -> list[tuple[HttpExchange, Bytes]]:
    """The streams of HTTP/2 CONNECT inside of TLS, with their bytes."""
    reader = Http2Reader(InsideBudget(), Bytes)
    for side in Side:
        reader.feed(side, one.inside.sent(side), 1)
    return [(each, each.tunnel) for each in reader.exchanges.kept if isinstance(each.tunnel, Bytes)]


def data_frames(stream: bytes, *, preface: bool) -> bytes:
    """The payloads of all DATA frames of one direction of HTTP/2; of padding there is none."""
    at, found = _PREFACE_BYTES if preface else 0, bytearray()
    while at + _FRAME_HEADER <= len(stream):
        length, kind = int.from_bytes(stream[at : at + 3], "big"), stream[at + 3]
        if kind == _DATA:
            found += stream[at + _FRAME_HEADER : at + _FRAME_HEADER + length]
        at += _FRAME_HEADER + length
    return bytes(found)


def tshark(file: Path, *options: str) -> str:
    """What it prints of a capture."""
    require("tshark", shutil.which("tshark") is not None, "no tshark")
    command = ("tshark", "-r", str(file), "-o", "tcp.reassemble_out_of_order:TRUE", *options)
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=170).stdout


def followed(file: Path, keylog: Path, found: Collection[Delivered], kind: str) -> dict[int, set[bytes]]:
    """By the number of a connection the bytes of its two sides, by tshark: of ``tcp``, or inside of ``tls``."""
    options = [part for one in found for part in ("-z", f"follow,{kind},raw,{one.flow.number}")]
    decoded = [part for port in {one.port for one in found} for part in ("-d", f"tcp.port=={port},{_DISSECTOR[kind]}")]
    text = tshark(file, "-q", "-o", f"tls.keylog_file:{keylog}", *decoded, *options)
    return dict(map(_block, text.split(_RULE)[1::2]))


def _block(text: str) -> tuple[int, set[bytes]]:
    """Which side is which tshark does not say of TLS. What is missing is left out."""
    _, shown, _, _, *lines = text.split("\n")
    parts = {True: bytearray(), False: bytearray()}
    for line in lines:
        parts[line.startswith("\t")] += bytes.fromhex(line.strip())
    return int(shown.rpartition(" ")[2]), {bytes(part) for part in parts.values()}
