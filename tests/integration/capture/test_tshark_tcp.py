"""tshark tells the same of TCP connections: of captures made here, in any order and with losses, and of real ones."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import json
import random
import re
import secrets
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meshtls.capture.files.reading import read_packets
from meshtls.capture.files.writing import PcapngWriter
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.live.kernel_filter import Instruction, assembled
from meshtls.capture.tcp import Flows
from meshtls.wire.side import Side
from tests.support import capture
from tests.support.packets import ACK, EPOCH, FIN, MS, Kept, Seen, Talk, captured, pcap
from tests.support.require import require

_MISSING = re.compile(rb"\[(\d+) bytes missing in capture file\]\x00")
ANALYSIS = ("retransmission", "out_of_order", "keep_alive", "zero_window", "duplicate_ack")


@pytest.fixture(autouse=True)
def tshark() -> None:
    require("tshark", shutil.which("tshark") is not None, "no tshark")


def run(file: Path, *options: str) -> str:
    command = ("tshark", "-r", str(file), *options)
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=170).stdout


def analysis(file: Path) -> dict[tuple[str, str], Counter[str]]:
    """Of each end, by its address and port: what tshark counts."""
    fields = ("ip.src", "ipv6.src", "tcp.srcport", "tcp.len", *(f"tcp.analysis.{name}" for name in ANALYSIS))
    found: dict[tuple[str, str], Counter[str]] = {}
    for packet in json.loads(run(file, "-Y", "tcp", "-T", "json", *(part for name in fields for part in ("-e", name)))):
        layers: dict[str, list[Any]] = packet["_source"]["layers"]
        host = layers.get("ip.src", layers.get("ipv6.src", [""]))[0]
        counts = found.setdefault((host, layers["tcp.srcport"][0]), Counter())
        counts["packets"] += 1
        counts.update(name for name in ANALYSIS if f"tcp.analysis.{name}" in layers)
    return found


def followed(file: Path, stream: int) -> dict[Side, list[bytes | int]]:
    """The bytes of each side, and the lengths of what is missing, in the order of that side."""
    text = run(file, "-q", "-z", f"follow,tcp,raw,{stream}")
    lines = text.split("===================================================================\n")[1].split("\n")[4:]
    # Those of node 1 are indented; which node is the client, the first SYN has said.
    parts: dict[Side, bytearray] = {Side.CLIENT: bytearray(), Side.SERVER: bytearray()}
    for line in lines:
        parts[Side.SERVER if line.startswith("\t") else Side.CLIENT] += bytes.fromhex(line.strip())
    return {side: list(pieces(bytes(data))) for side, data in parts.items()}


def pieces(data: bytes) -> Iterator[bytes | int]:
    at = 0
    for match in _MISSING.finditer(data):
        if match.start() > at:
            yield data[at : match.start()]
        yield int(match[1])
        at = match.end()
    if at < len(data):
        yield data[at:]


def ours(file: Path) -> list[tuple[Flow, Kept]]:
    seen = Seen()
    flows = Flows(seen.opened)
    with open(file, "rb") as stream:
        reader = read_packets(stream)
        for packet in reader:
            flows.packet(packet)
    flows.finish()
    assert reader.error is None
    return sorted(zip(seen.flows, seen.sinks, strict=True), key=lambda one: one[0].number)


def conversation(chance: random.Random, port: int, *, lossy: bool, spread: int) -> list[tuple[int, bytes]]:
    """Frames with their times: segments that are reordered, lost before the capture or by it, and sent again."""
    talk = Talk(("10.0.0.1", port), ("10.0.0.2", port - 30_000), isns=(chance.getrandbits(32), chance.getrandbits(32)))
    frames: list[tuple[int, bytes]] = []
    now = EPOCH + port * MS

    def put(frame: bytes, after: int = MS) -> None:
        nonlocal now
        now += after
        frames.append((now, frame))

    for frame in talk.handshake():
        put(frame, 5 * MS)
    for _ in range(chance.randrange(5, 40)):
        side = chance.choice(list(Side))
        batch = []
        for _ in range(chance.randrange(1, 6)):
            at = talk.next[side]
            payload = chance.randbytes(chance.randrange(2, 900))
            batch.append((at, payload, talk.send(side, payload)))
        if chance.random() < 0.3:
            chance.shuffle(batch[:spread])
            batch = [batch[at] for at in sorted(range(len(batch)), key=lambda at: at + chance.random() * spread)]
        lost = [one for one in batch if lossy and chance.random() < 0.1]
        for one in batch:
            if one not in lost:
                put(one[2], MS // 10)
        put(talk.send(side.other), MS)
        if not lost and chance.random() < 0.2:  # sent again, later than a round trip
            at, payload, _ = chance.choice(batch)
            put(talk.send(side, payload, seq=at), 300 * MS)
            put(talk.send(side.other), MS)
    put(talk.client(flags=FIN | ACK))
    put(talk.server(flags=FIN | ACK))
    put(talk.client())
    return frames


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lossy", [False, True])
def test_the_streams_of_captures_made_here_are_tsharks(seed: int, lossy: bool, tmp_path: Path) -> None:
    chance = random.Random(f"{seed} {lossy}")  # noqa: S311  # the same captures each time
    frames = [one for port in range(40_000, 40_004) for one in conversation(chance, port, lossy=lossy, spread=seed)]
    packets = [
        one._replace(time_ns=time_ns)
        for one, (time_ns, _) in zip(captured(frame for _, frame in sorted(frames)), sorted(frames), strict=True)
    ]
    file = tmp_path / "made.pcap"
    file.write_bytes(pcap(packets))
    counted = analysis(file)
    flows = ours(file)

    assert len(flows) == 4
    for flow, kept in flows:
        theirs = followed(file, flow.number)
        for half in flow.halves:
            told = kept.stream(half.side)
            if told and isinstance(told[-1], int):
                told.pop()  # tshark does not say what is missing at the end
            assert told == theirs[half.side]
            assert bool(half.lost_bytes) <= lossy
            address = half.address
            counts = counted[address.host, str(address.port)]
            assert half.packets == counts["packets"]
            assert half.retransmitted + half.out_of_order == counts["retransmission"] + counts["out_of_order"]
            if not lossy:
                assert (half.retransmitted, half.duplicate_acks) == (counts["retransmission"], counts["duplicate_ack"])


def test_keep_alives_and_zero_windows_are_tsharks(tmp_path: Path) -> None:
    talk = Talk()
    frames = [
        *talk.handshake(),
        talk.client(b"data"),
        talk.server(),
        talk.client(seq=1004),
        talk.server(),
        talk.client(b"\0", seq=1004),
        talk.send(Side.SERVER, window=0),
        talk.send(Side.SERVER, window=0),
        talk.send(Side.SERVER, window=64_000),
        talk.client(b"more"),
    ]
    file = tmp_path / "made.pcap"
    file.write_bytes(pcap(captured(frames)))
    counted = analysis(file)
    [(flow, _)] = ours(file)
    client, server = counted["10.0.0.1", "40000"], counted["10.0.0.2", "443"]
    assert (
        (flow.client.keep_alives, flow.client.zero_windows) == (client["keep_alive"], client["zero_window"]) == (2, 0)
    )
    assert (
        (flow.server.keep_alives, flow.server.zero_windows) == (server["keep_alive"], server["zero_window"]) == (0, 2)
    )


# -- real packets --


@contextlib.contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def exchange(server: socket.socket, size: int) -> tuple[bytes, bytes]:
    """A client sends ``size`` bytes and closes its half, the server answers with as many."""
    port = server.getsockname()[1]
    question, answer = stream_of(1, size), stream_of(2, size)

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            while connection.recv(1 << 16):
                pass
            connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(question)
        client.shutdown(socket.SHUT_WR)
        got = b""
        while piece := client.recv(1 << 16):
            got += piece
    thread.join(60)
    assert got == answer
    return question, answer


def stream_of(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311


async def test_a_real_connection_is_told_as_tshark_tells_it(tmp_path: Path) -> None:
    file = tmp_path / "lo.pcap"
    with listener() as server:
        async with capture.captured(server.getsockname()[1], file):
            question, answer = await asyncio.to_thread(exchange, server, 20_000)
    [(flow, kept)] = ours(file)
    assert (kept.stream(Side.CLIENT), kept.stream(Side.SERVER)) == ([question], [answer])
    assert (kept.ending(Side.CLIENT), kept.ending(Side.SERVER)) == (Ending.FIN, Ending.FIN)
    assert followed(file, 0) == {Side.CLIENT: [question], Side.SERVER: [answer]}
    counted = analysis(file)
    for half in flow.halves:
        counts = counted[half.address.host, str(half.address.port)]
        assert half.packets + half.duplicated == counts["packets"]
        assert half.lost_bytes == half.conflicts == half.strange == 0
    [first] = run(file, "-T", "fields", "-e", "tcp.analysis.initial_rtt", "-Y", "tcp.len > 0", "-c", "50").split()[:1]
    assert flow.syn_ns is not None
    assert flow.established_ns is not None
    assert (flow.established_ns - flow.syn_ns) / 1e9 == pytest.approx(float(first), abs=2e-6)


def test_on_loopback_each_packet_that_is_captured_twice_is_counted_once(tmp_path: Path) -> None:
    """tcpdump skips what goes out on this interface. Whoever does not, sees each packet twice."""
    require("tshark", _may_capture(), "no right to capture (CAP_NET_RAW)")
    everything, ip_packets = 0x0003, 0x0800
    packets: list[tuple[int, bytes]] = []
    with listener() as server, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        port = server.getsockname()[1]
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        _keep_port(raw, port)  # what else is said on this interface would fill the buffer
        raw.bind(("lo", everything))
        question, answer = exchange(server, 100_000)
        mark = secrets.token_bytes(16)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(mark, ("127.0.0.1", port))
        raw.settimeout(60)
        while not packets or mark not in packets[-1][1]:
            data, address = raw.recvfrom(1 << 18)
            if address[1] == ip_packets:
                packets.append((time.time_ns(), data))
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    interface = writer.interface(1, "lo")
    for time_ns, data in packets:
        if port.to_bytes(2, "big") in (data[34:36], data[36:38]):
            writer.packet(interface, time_ns, data)
    seen = Seen()
    flows = Flows(seen.opened)
    stream.seek(0)
    for packet in read_packets(stream):
        flows.packet(packet)
    flows.finish()
    [flow], [kept] = seen.flows, seen.sinks
    assert (kept.stream(Side.CLIENT), kept.stream(Side.SERVER)) == ([question], [answer])
    for half in flow.halves:
        assert half.duplicated == half.packets
        assert half.conflicts == half.lost_bytes == 0


def _keep_port(raw: socket.socket, port: int) -> None:
    """Receive only Ethernet frames with IPv4 and no options, from or to this port of TCP or UDP."""
    load, jump_if_equal, keep = 0x28, 0x15, 0x06
    program = (
        Instruction(load, 0, 0, 12),
        Instruction(jump_if_equal, 0, 5, 0x0800),
        Instruction(load, 0, 0, 34),
        Instruction(jump_if_equal, 2, 0, port),
        Instruction(load, 0, 0, 36),
        Instruction(jump_if_equal, 0, 1, port),
        Instruction(keep, 0, 0, 1 << 18),
        Instruction(keep, 0, 0, 0),
    )
    code = ctypes.create_string_buffer(assembled(program))
    attach_filter = 26  # and struct sock_fprog (Linux, Documentation/networking/filter.rst)
    raw.setsockopt(socket.SOL_SOCKET, attach_filter, struct.pack("@HP", len(program), ctypes.addressof(code)))


def _may_capture() -> bool:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except OSError:
        return False
    return True
