"""Captures to read: real TLS sessions, made by OpenSSL in memory, in TCP segments with headers of our own.

Each session is a handshake with a certificate on both sides and what the mix says. A capture has more connections than
sessions are made: these are used again with other ports and sequence numbers.
"""

from __future__ import annotations

import contextlib
import random
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.peers.base import Certs, Side
from meshtls.capture.files.writing import PcapWriter
from meshtls.capture.links import ETHERNET

__all__ = ["MIXES", "Mix", "Written", "write_capture"]

_CLIENT, _SERVER = 0, 1
_FIN, _SYN, _PSH, _ACK = 1, 2, 8, 16
#: Where a segment's time stamps are, its frame has 12 bytes more (RFC 7323); the largest frame has 1,514 bytes.
_STAMPS, _LARGEST = 12, 1514
#: The least frame, without its check sequence: shorter ones are padded.
_SMALLEST = 60
_SESSIONS, _BESIDE = 100, 32
_EPOCH, _EVERY_NS = 1_700_000_000 * 1_000_000_000, 20_000
_HEADERS = 54
#: Who sends how many bytes, in order.
Said = list[tuple[int, int]]
_SHORT: Said = [(_CLIENT, 200), (_SERVER, 600)]
#: Who wrote which bytes, in order.
Flights = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Mix:
    """What each connection carries after its handshake. ``stamps``: whether segments have time stamps."""

    says: Callable[[random.Random], Said]
    stamps: bool = True
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3


MIXES: dict[str, Mix] = {
    "handshakes, TLS 1.3": Mix(lambda _: list(_SHORT)),
    "handshakes, TLS 1.2": Mix(lambda _: list(_SHORT), version=ssl.TLSVersion.TLSv1_2),
    "minimum frames": Mix(lambda _: [(_CLIENT, 1), (_SERVER, 1)] * 100, stamps=False),
    "1,500-byte frames": Mix(lambda _: [(_CLIENT, 200), (_SERVER, 1 << 19)]),
    "mixed": Mix(lambda choice: [pair for _ in range(5) for pair in _request(choice)]),
}


class Written(NamedTuple):
    """What a capture has. ``wire_bytes``: frames without their check sequence. ``sizes``: frames by their bytes."""

    packets: int
    wire_bytes: int
    connections: int
    sizes: dict[int, int]


def write_capture(path: Path, mix: Mix, packets: int, certs: Certs) -> Written:
    """Write a pcap file of about as many packets, of whole connections. Without packets it has its header alone."""
    choice = random.Random(13)  # noqa: S311  # the same traffic in each run
    frames = connections = wire = 0
    sizes: dict[int, int] = {}
    with path.open("wb") as stream:
        writer = PcapWriter(stream, ETHERNET)
        sessions: list[Flights] = []
        running: list[Iterator[bytes]] = []
        while running or frames < packets:
            while len(running) < _BESIDE and frames < packets:
                if len(sessions) < _SESSIONS:
                    sessions.append(_session(mix, mix.says(choice), certs))
                running.append(_connection(sessions[connections % _SESSIONS], connections, stamps=mix.stamps))
                connections += 1
            at = choice.randrange(len(running))
            frame = next(running[at], None)
            if frame is None:
                running.pop(at)
                continue
            writer.packet(_EPOCH + frames * _EVERY_NS, frame)
            frames, count = frames + 1, len(frame)
            wire += count
            sizes[count] = sizes.get(count, 0) + 1
    return Written(frames, wire, connections, sizes)


def _request(choice: random.Random) -> Said:
    """A request and its answer, of sizes as services have them."""
    return [
        (_CLIENT, choice.choice((80, 200, 500, 2000))),
        (_SERVER, choice.choice((100, 400, 1500, 6000, 20_000, 60_000))),
    ]


# -- TLS --


def _session(mix: Mix, said: Said, certs: Certs) -> Flights:
    flights: Flights = []
    into, out = [ssl.MemoryBIO(), ssl.MemoryBIO()], [ssl.MemoryBIO(), ssl.MemoryBIO()]
    ends = [
        _context(mix, side, certs).wrap_bio(
            into[at], out[at], server_side=bool(at), server_hostname=None if at else certs.sides[Side.SERVER].dns_name
        )
        for at, side in enumerate((Side.CLIENT, Side.SERVER))
    ]

    def carry(side: int) -> bool:
        data = out[side].read()
        if data:
            flights.append((side, data))
            into[1 - side].write(data)
        return bool(data)

    while True:
        done = 0
        for side in (_CLIENT, _SERVER):
            with contextlib.suppress(ssl.SSLWantReadError):
                ends[side].do_handshake()
                done += 1
            carry(side)
        if done == len(ends):
            break
    for side, size in said:
        ends[side].write(bytes(size))
        carry(side)
        got = 0
        while got < size:
            got += len(ends[1 - side].read(size - got))
    for side in (_CLIENT, _SERVER):
        with contextlib.suppress(ssl.SSLWantReadError):
            ends[side].unwrap()
        carry(side)
    return flights


def _context(mix: Mix, side: Side, certs: Certs) -> ssl.SSLContext:
    server = side is Side.SERVER
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = mix.version
    own = certs.sides[side]
    context.load_cert_chain(own.chain, own.key)
    context.load_verify_locations(certs.roots)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


# -- TCP --


def _connection(flights: Flights, number: int, *, stamps: bool) -> Iterator[bytes]:
    """The frames of one connection: a segment of the largest size is acknowledged with the one after it."""
    port, host = 1024 + number % 60_000, number // 60_000 + 1
    ends = (bytes((10, 0, host, 1)), port.to_bytes(2, "big")), (b"\x0a\x00\x00\x02", b"\x01\xbb")
    seqs = [(number * 7919) & 0xFFFF_FFFF, (number * 104_729) & 0xFFFF_FFFF]
    idents = [number & 0xFFFF, number & 0xFFFF]
    clock = number

    def frame(side: int, flags: int = _ACK, payload: bytes = b"") -> bytes:
        nonlocal clock
        clock += 1
        (source, source_port), (target, target_port) = ends[side], ends[1 - side]
        options = struct.pack("!BBBBII", 1, 1, 8, 10, clock, clock - 1) if stamps else b""
        if flags & _SYN:
            options = b"\x02\x04\x05\xb4\x01\x03\x03\x07" + options
        size = 20 + len(options)
        idents[side] = (idents[side] + 1) & 0xFFFF
        ack = seqs[1 - side] if flags & _ACK else 0
        head = struct.pack("!IIBBHHH", seqs[side], ack, size << 2, flags, 64_000, 0, 0) + options
        body = source_port + target_port + head + payload
        body = body[:16] + _sum(source + target + struct.pack("!HH", 6, len(body)) + body) + body[18:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), idents[side], 0x4000, 64, 6, 0) + source + target
        ip = ip[:10] + _sum(ip) + ip[12:]
        seqs[side] = (seqs[side] + len(payload) + bool(flags & (_SYN | _FIN))) & 0xFFFF_FFFF
        made = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + ip + body
        return made + bytes(max(0, _SMALLEST - len(made)))

    yield frame(_CLIENT, _SYN)
    yield frame(_SERVER, _SYN | _ACK)
    yield frame(_CLIENT)
    most = _LARGEST - _HEADERS - (_STAMPS if stamps else 0)
    for side, data in flights:
        for place, at in enumerate(range(0, len(data), most)):
            yield frame(side, _ACK | _PSH if at + most >= len(data) else _ACK, data[at : at + most])
            if place % 2 or at + most >= len(data):
                yield frame(1 - side)
    yield frame(_CLIENT, _FIN | _ACK)
    yield frame(_SERVER, _FIN | _ACK)
    yield frame(_CLIENT)


def _sum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071) of bytes that are not all zero: the sum of 16-bit words modulo 65535.

    It is 0 where that sum is a multiple of 65535: tshark finds 65535 wrong.
    """
    whole = data + bytes(len(data) % 2)
    return (-int.from_bytes(whole, "big") % 0xFFFF).to_bytes(2, "big")
