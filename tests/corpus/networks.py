"""One good session of TLS 1.3 over networks that carry it in any way: link types, fragments, loss, order, cuts."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from meshtls.capture.files.writing import PcapngWriter, PcapWriter
from meshtls.capture.session import NO_CLIENT_HELLO
from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from tests.corpus.case import CLIENT_ID, Case, Made, Told
from tests.corpus.sessions import SAID, carried, made, whole
from tests.support.packets import ACK, CLIENT, EPOCH, FIN, MS, SERVER, SYN, Talk, captured, ethernet, ip, pcap, tcp
from tests.support.tls_wire import Flight

__all__ = ["NETWORKS"]

C, S = Side.CLIENT, Side.SERVER
_ETHERNET = 14
Frames = list[bytes]
File = Callable[[Sequence[bytes]], bytes]
_TOLD = Told()
SIX = (("2001:db8::1", 40000), ("2001:db8::2", 443))


def over(
    network: Callable[[Frames], Frames],
    *,
    file: File | None = None,
    talk: Callable[[], Talk] = Talk,
    told: Told = _TOLD,
) -> Case:
    """The frames of the session, changed."""

    def make(directory: Path) -> Made:
        frames = network(carried(whole(directory), talk=talk()))
        return made(directory, frames, file=file or (lambda frames: pcap(captured(frames))))

    return Case(make, told)


def linked(link_type: int, four: bytes, six: bytes = b"", *, ipv6: bool = False) -> Case:
    """With this before each IP packet instead of Ethernet's header."""
    return over(
        lambda frames: [(six if ipv6 else four) + frame[_ETHERNET:] for frame in frames],
        file=lambda frames: pcap(captured(frames, link_type=link_type), link_type=link_type),
        talk=(lambda: Talk(*SIX)) if ipv6 else Talk,
    )


def _same(frames: Frames) -> Frames:
    return frames


def filed(file: File, told: Told = _TOLD) -> Case:
    """In a file of this format."""
    return over(_same, file=file, told=told)


def _cooked(kind: int) -> bytes:
    return struct.pack("!HHHQH", 0, 1, 6, 0, kind)


def _cooked_2(kind: int) -> bytes:
    return struct.pack("!HHIHBBQ", kind, 0, 1, 1, 0, 6, 0)


def _tagged(frames: Frames) -> Frames:
    return [ethernet(frame[_ETHERNET:], 100, 200) for frame in frames]


def _fragments(frames: Frames) -> Frames:
    """Each packet of more than 600 bytes in pieces, the last one first."""
    found: Frames = []
    for number, frame in enumerate(frames, 1):
        packet = frame[_ETHERNET:]
        if len(packet) <= 600:
            found.append(frame)
            continue
        body = packet[20:]
        source, destination = str(ip_address(packet[12:16])), str(ip_address(packet[16:20]))
        pieces = [
            ip(
                source,
                destination,
                body[at : at + 400],
                ident=number,
                fragment=at // 8 | (0x2000 if at + 400 < len(body) else 0),
            )
            for at in range(0, len(body), 400)
        ]
        found += [ethernet(piece) for piece in reversed(pieces)]
    return found


def _pcapng(frames: Sequence[bytes]) -> bytes:
    stream = io.BytesIO()
    writer = PcapngWriter(stream, comment="a corpus")
    for name in ("eth0", "eth1"):
        writer.interface(1, name)
    for number, frame in enumerate(frames):
        writer.packet(number % 2, EPOCH + number * MS, frame)
    writer.statistics(0, EPOCH + len(frames) * MS, received=len(frames), dropped=0)
    return stream.getvalue()


def _secrets_inside(directory: Path) -> Made:
    frames = carried(whole(directory))
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.interface(1)
    writer.secrets((directory / "keys").read_bytes())
    for number, frame in enumerate(frames):
        writer.packet(0, EPOCH + number * MS, frame)
    return Made(stream.getvalue())


def _snapped(frames: Sequence[bytes]) -> bytes:
    """At most 400 bytes of each packet."""
    stream = io.BytesIO()
    writer = PcapWriter(stream, 1, 400)
    for number, frame in enumerate(frames):
        writer.packet(EPOCH + number * MS, frame[:400], len(frame))
    return stream.getvalue()


def _truncated(frames: Sequence[bytes]) -> bytes:
    """The last packet is cut in the middle."""
    return pcap(captured(frames))[:-20]


def pieces(flights: Sequence[Flight], size: int = 500) -> list[Flight]:
    """The flights in smaller segments."""
    return [(side, data[at : at + size]) for side, data in flights for at in range(0, len(data), size)]


Sent = tuple[int, bytes]


class Line:
    """Frames with times of their own: a segment sent again comes later than a round trip."""

    def __init__(self, talk: Talk) -> None:
        self.talk, self.now, self.sent = talk, EPOCH, list[Sent]()

    def put(self, frame: bytes, after: int = MS) -> None:
        """Captured so much later than the one before."""
        self.now += after
        self.sent.append((self.now, frame))

    def file(self) -> bytes:
        """As pcap."""
        packets = captured(frame for _, frame in self.sent)
        return pcap(one._replace(time_ns=time) for one, (time, _) in zip(packets, self.sent, strict=True))


#: Which frame of the session, in segments of 500 bytes, something happens to: one of the server's first flight.
_VICTIM = 2
Happens = Callable[[Line, int, bytes, bytes], None]


def happening(what: Happens, told: Told = _TOLD, isns: tuple[int, int] = (1000, 5000)) -> Case:
    """Something happens to a segment of the server's first flight: ``what`` is given the line, the segment's sequence
    number, its payload and the frame.
    """

    def make(directory: Path) -> Made:
        line = Line(Talk(isns=isns))
        for frame in line.talk.handshake():
            line.put(frame, 5 * MS)
        seen = 0
        for side, data in pieces(whole(directory)):
            at = line.talk.next[side]
            frame = line.talk.send(side, data)
            seen += side is S
            if side is S and seen == _VICTIM:
                what(line, at, data, frame)
            else:
                line.put(frame)
        for frame in line.talk.close():
            line.put(frame)
        return made(directory, [], file=lambda _: line.file())

    return Case(make, told)


def _lost(line: Line, at: int, data: bytes, frame: bytes) -> None:
    """Not captured, but acknowledged."""


def _again(line: Line, at: int, data: bytes, frame: bytes) -> None:
    line.put(frame)
    line.put(line.talk.server(data, seq=at), 300 * MS)


def _overlapping(line: Line, at: int, data: bytes, frame: bytes) -> None:
    """Sent again with the half of the segment before it that is already there, and then on."""
    line.put(line.talk.server(data[:300], seq=at))
    line.put(line.talk.server(data[200:], seq=at + 200), 300 * MS)


def _twice(line: Line, at: int, data: bytes, frame: bytes) -> None:
    """The same packet is captured twice, as on two interfaces."""
    line.put(frame)
    line.put(frame, 1000)


def reordered(directory: Path) -> Made:
    """The second and the third segment of the server are swapped."""
    frames = carried(pieces(whole(directory)))
    places = [at for at, frame in enumerate(frames) if frame[26:30] == bytes((10, 0, 0, 2)) and len(frame) == 554]
    first, second = places[0], places[1]
    frames[first], frames[second] = frames[second], frames[first]
    return made(directory, frames)


def _middle(frames: Frames) -> Frames:
    """The capture begins after TCP's handshake and the ClientHello."""
    return frames[4:]


def _unfinished_capture(frames: Frames) -> Frames:
    """The capture ends before the connection does."""
    return frames[:-3]


def _half_close(directory: Path) -> Made:
    """The client closes its half after its request; the server answers after that."""
    flights = whole(directory, SAID)
    last = max(at for at, (side, _) in enumerate(flights) if side is C)
    talk = Talk()
    # The client's close_notify comes before the answer: both directions of TLS 1.3 are on their own.
    ask, answer = flights[: last - 1], [one for one in flights[last - 1 :] if one[0] is S]
    frames = talk.handshake() + [talk.send(side, data) for side, data in [*ask, flights[last]]]
    frames += [talk.client(flags=FIN | ACK), *(talk.send(side, data) for side, data in answer)]
    return made(directory, [*frames, talk.server(flags=FIN | ACK), talk.client()])


def _no_answer(directory: Path) -> Made:
    """A SYN, sent three times."""
    talk = Talk()
    line = Line(talk)
    for _ in range(3):
        line.put(ethernet(ip("10.0.0.1", "10.0.0.2", tcp(CLIENT, SERVER, 1000, 0, SYN))), 1000 * MS)
    return made(directory, [], file=lambda _: line.file())


_OPEN = "open when the capture ended"
_LOSSY = replace(
    _TOLD,
    legal=None,
    ids=(CLIENT_ID, ""),
    lost=(0, 500),
    troubles=("server, byte 228: 500 bytes of a record are missing",),
)
_FROM_THE_MIDDLE = replace(
    _TOLD,
    server_name="",
    mutual="unknown",
    decrypted=False,
    legal=None,
    ids=("", ""),
    alerts=("client encrypted", "server encrypted"),
    requests=(),
    from_start=False,
    troubles=(f"server, byte 133: {NO_CLIENT_HELLO}",),
)
_UNANSWERED = replace(
    _FROM_THE_MIDDLE,
    protocol="nothing",
    version="",
    suite="",
    group="",
    mutual="",
    resumed="",
    complete=False,
    alerts=(),
    outcome=Outcome.CONNECT_FAILED,
    problem="the server 10.0.0.2:443 did not answer the client's SYN: 3 packets of the client in 2.0 s",
    from_start=True,
    retransmitted=(2, 0),
    ends=(_OPEN, _OPEN),
    troubles=(),
)
_CUT = replace(
    _TOLD,
    mutual="unknown",
    complete=False,
    legal=None,
    ids=("", ""),
    outcome=None,
    problem=(
        "N bytes of this connection are not in the capture, and the rest does not show that its handshake was complete"
    ),
    troubles=tuple(f"{side}, byte N: N bytes are lost" for side in ("server", "client", "server")),
)

#: What tshark tells otherwise, and why.
_AFTER_A_HOLE = dict.fromkeys(
    ("messages 443", "alerts 443", "records 443", "outer_records 443"),
    "tshark does not find the next record after a hole, and loses the record numbers that decryption needs",
)
_AFTER_A_CUT = dict.fromkeys(
    ("alerts 40000", "records 40000", "outer_records 40000", "alerts 443", "records 443"),
    "tshark does not find the next record after bytes that the snapshot length cut off",
)
_TWICE = {
    "counts 443": "tshark takes a packet that was captured twice for one sent again, whatever its IP identification"
}

NETWORKS: Mapping[str, Case] = {
    "IPv6": over(_same, talk=lambda: Talk(*SIX)),
    "two VLAN tags": over(_tagged),
    "Linux cooked": linked(113, _cooked(0x0800)),
    "Linux cooked v2": linked(276, _cooked_2(0x0800)),
    "Linux cooked v2 with IPv6": linked(276, b"", _cooked_2(0x86DD), ipv6=True),
    "BSD loopback": linked(0, struct.pack("<I", 2)),
    "OpenBSD loopback with IPv6": linked(108, b"", struct.pack(">I", 24), ipv6=True),
    "raw IP": linked(101, b""),
    "raw IPv4": linked(228, b""),
    "raw IPv6": linked(229, b"", b"", ipv6=True),
    "IPv4 fragments, last first": over(_fragments),
    "pcap of big-endian microseconds": filed(lambda frames: pcap(captured(frames), order=">", nano=False)),
    "pcap of big-endian nanoseconds": filed(lambda frames: pcap(captured(frames), order=">")),
    "pcap of little-endian microseconds": filed(lambda frames: pcap(captured(frames), nano=False)),
    "pcapng of two interfaces": filed(_pcapng),
    "pcapng with the secrets inside": Case(_secrets_inside),
    "gzip": filed(lambda frames: gzip.compress(pcap(captured(frames)), mtime=0)),
    "gzip of pcapng": filed(lambda frames: gzip.compress(_pcapng(frames), mtime=0)),
    "packets cut by the snapshot length": filed(_snapped, _CUT)._replace(sizes_vary=True, tshark=_AFTER_A_CUT),
    "truncated file": filed(_truncated)._replace(breaks="the file ends within packet 14: wanted 70 bytes, got 50"),
    "segment not captured": happening(_lost, _LOSSY)._replace(tshark=_AFTER_A_HOLE),
    "segment sent again": happening(_again, replace(_TOLD, retransmitted=(0, 1))),
    "segment sent again, overlapping": happening(_overlapping, replace(_TOLD, retransmitted=(0, 1))),
    "packet captured twice": happening(_twice)._replace(tshark=_TWICE),
    "sequence numbers that wrap around": happening(
        lambda line, at, data, frame: line.put(frame), isns=(2**32 - 300, 2**32 - 700)
    ),
    "segments out of order": Case(reordered, replace(_TOLD, out_of_order=(0, 1))),
    "capture begun in the middle": over(_middle, told=_FROM_THE_MIDDLE),
    "capture ended early": over(
        _unfinished_capture,
        told=replace(_TOLD, outcome=None, unknown_because=f"the connection was {_OPEN}", ends=(_OPEN, _OPEN)),
    ),
    "half-close": Case(_half_close),
    "SYN without an answer": Case(_no_answer, _UNANSWERED),
}
