"""One TCP connection as it was captured: its two halves, what was counted, and who is told of its bytes. Pure."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from ipaddress import ip_address
from typing import NamedTuple, Protocol

from meshtls.address import Address
from meshtls.capture.segments import Runs
from meshtls.wire.side import CLIENT, SERVER, Side

__all__ = ["End", "Ending", "Flow", "FlowSink", "Half"]


#: Bytes of an IPv4 address, and the first of those that mean the machine itself (RFC 1122, section 3.2.1.3).
_V4_BYTES, _V4_LOOPBACK = 4, 127


class Ending(Enum):
    """How one direction of a connection ended."""

    FIN = "closed"
    RESET = "reset"
    PEER_RESET = "reset by the peer"
    REPLACED = "replaced by a new connection with the same addresses and ports"
    GIVEN_UP = "given up to bound memory: no packet for longer than other connections"
    CAPTURE_END = "open when the capture ended"

    #: As ``Side`` has it.
    __hash__ = object.__hash__


class End(NamedTuple):
    """An end of one direction that a FIN or a RST announces.

    - ``at``: the sequence number after the last byte.
    - ``how``: FIN or RESET.
    - ``time_ns``, ``number``: of the packet.
    - ``heard``: of a RST, the sequence number after all that its sender can have received by then; None if not known.
    """

    at: int
    how: Ending
    time_ns: int
    number: int
    heard: int | None = None


class FlowSink(Protocol):
    """Takes the bytes of one connection. The bytes of each direction come in order, each once."""

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        """Take bytes that ``side`` sent. Time and number are those of the packet that they came in, or that
        closed the hole before them. Bytes of both sides that waited together, since it was not known where a side
        begins or since bytes were missing that their receiver had acknowledged, have those that they came with, and
        come in the order of the capture."""

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        """Note ``missing`` bytes of ``side`` that were not captured: what follows comes after them."""

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        """Nothing more comes of ``side``. This is called once for each side."""


class Half:
    """What one end sent. The counters are of packets, but where they say bytes.

    - ``side``, ``address``: who sent it.
    - ``packets``: all but ``duplicated``; an IP packet in fragments is one.
    - ``bytes``: of the stream, each counted once, captured or cut by the snapshot length.
    - ``wire_bytes``: of these packets as the link carried them, headers included; of an IP packet in fragments, those
      of all of them.
    - ``retransmitted``, ``retransmitted_bytes``: sent again: SYN, FIN and data.
    - ``out_of_order``: came later than what follows them, too soon for a retransmission.
    - ``duplicated``: the same packet, captured twice, as on the loopback interface.
    - ``lost_bytes``: not captured at all; ``cut_bytes``: cut off by the snapshot length.
    - ``conflicts``: sent again with other content. The first content is the one that counts.
    - ``keep_alives``, ``zero_windows``, ``duplicate_acks``.
    - ``strange``: that the receiver can't have accepted: data, FIN or RST outside of its window, a FIN or RST that the
      connection contradicts by going on, a SYN that is not answered, or anything after the end. Nothing of it is
      delivered.
    - ``isn``: the initial sequence number; None where the SYN was not captured.
    - ``first_ns``, ``last_ns``: the times of the first and the last packet.
    - ``ending``: how it ended; None as long as it has not.
    """

    __slots__ = (
        "ack",
        "after",
        "bytes",
        "conflicts",
        "cut_bytes",
        "deliver",
        "duplicate_acks",
        "duplicated",
        "early",
        "ending",
        "ends",
        "expect",
        "first_ack",
        "first_ns",
        "flow",
        "hole_ns",
        "isn",
        "keep_alives",
        "key",
        "last_ns",
        "lost_bytes",
        "next",
        "out_of_order",
        "packets",
        "passed_ns",
        "peer",
        "retransmitted",
        "retransmitted_bytes",
        "scale",
        "side",
        "strange",
        "strange_run",
        "unseen",
        "waited",
        "window",
        "wire_bytes",
        "zero_windows",
    )

    peer: Half

    def __init__(self, flow: Flow, key: bytes, side: Side, time_ns: int) -> None:
        """``key``: source and destination address, then source and destination port, as packets have them."""
        self.flow, self.key, self.side = flow, key, side
        self.wire_bytes = 0
        self.packets = self.bytes = self.retransmitted = self.retransmitted_bytes = self.out_of_order = 0
        self.duplicated = self.lost_bytes = self.cut_bytes = self.conflicts = self.keep_alives = 0
        self.zero_windows = self.duplicate_acks = self.strange = self.strange_run = 0
        self.first_ns = self.last_ns = time_ns
        self.isn: int | None = None
        self.ending: Ending | None = None
        # What follows is of the reassembly. ``next`` is -1 until it is known. ``expect`` is ``next`` when a segment
        # with that number needs nothing but delivery, and otherwise -1. ``scale`` is that of its SYN: None if it was
        # not captured, -1 if it has none. ``ends`` are those that are announced. ``unseen``: bytes before the first
        # that were captured, which are not told yet. ``after``: number and time of what was last delivered of the peer
        # while something waited here.
        self.next = -1
        self.expect = -1
        self.ack = 0
        self.first_ack: int | None = None
        self.window = 0
        self.scale: int | None = None
        self.early = Runs()
        self.hole_ns = self.passed_ns = self.waited = self.unseen = 0
        self.after = (0, 0)
        self.ends: list[End] = []
        self.deliver: Callable[[Side, bytes, int, int], None] = _ignore

    @property
    def address(self) -> Address:
        """The address and port of the sender."""
        host = self._host
        # For IPv4 ``ip_address`` gives the same text, and takes longer.
        text = ".".join(map(str, host)) if len(host) == _V4_BYTES else str(ip_address(host))
        return Address(text, int.from_bytes(self.key[-4:-2], "big"))

    @property
    def is_loopback(self) -> bool:
        """Whether the sender's address is of the loopback interface."""
        host = self._host
        return host[0] == _V4_LOOPBACK if len(host) == _V4_BYTES else ip_address(host).is_loopback

    @property
    def _host(self) -> bytes:
        return self.key[: (len(self.key) - 4) // 2]

    def __repr__(self) -> str:
        return f"<Half {self.side.value} {self.address} [{self.packets} packets, {self.bytes} bytes]>"


class Flow:
    """A TCP connection.

    - ``number``: counts from 0 in the order of first packets.
    - ``interface``: that of its first packet, as ``Packet`` has it.
    - ``from_start``: whether it was captured from its start: a SYN, or first bytes that a client sends only first, such
      as a ClientHello. ``roles_guessed``: which end is the client is a guess (``meshtls.capture.roles``).
    - ``holding``: the bytes of both sides wait (``meshtls.capture.holding``).
    - ``syn_ns``, ``syn_ack_ns``, ``established_ns``: the first SYN, the first SYN with ACK, and the ACK of it; None if
      not captured.
    """

    __slots__ = (
        *("closed", "established_ns", "from_start", "halves", "holding", "interface", "number", "opened"),
        *("roles_guessed", "sink", "syn_ack_ns", "syn_ns"),
    )

    def __init__(self, number: int, key: bytes, time_ns: int, interface: int = 0) -> None:
        """``key``: of the first packet. Its sender is the client until more is known."""
        self.number, self.interface = number, interface
        size = (len(key) - 4) // 2
        back = key[size : 2 * size] + key[:size] + key[-2:] + key[-4:-2]
        sender, receiver = Half(self, key, CLIENT, time_ns), Half(self, back, SERVER, time_ns)
        sender.peer, receiver.peer = receiver, sender
        self.halves = (sender, receiver)
        self.from_start = self.opened = self.closed = self.holding = self.roles_guessed = False
        self.syn_ns: int | None = None
        self.syn_ack_ns: int | None = None
        self.established_ns: int | None = None
        self.sink: FlowSink | None = None

    @property
    def client(self) -> Half:
        """What the client sent."""
        first, second = self.halves
        return first if first.side is CLIENT else second

    @property
    def server(self) -> Half:
        """What the server sent."""
        return self.client.peer

    @property
    def first_ns(self) -> int:
        """The time of the first packet."""
        one, other = self.halves
        return min(one.first_ns, other.first_ns)

    @property
    def last_ns(self) -> int:
        """The time of the last packet."""
        one, other = self.halves
        return max(one.last_ns, other.last_ns)

    @property
    def packets(self) -> int:
        """Packets of both ends."""
        first, second = self.halves
        return first.packets + second.packets

    def turn(self) -> None:
        """Client and server were taken for each other."""
        self.roles_guessed = False
        for half in self.halves:
            half.side = half.side.other

    def close(self) -> None:
        """Both directions have ended: let go of the sink."""
        self.closed, self.sink = True, None
        for half in self.halves:
            half.deliver = _ignore

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open" if self.opened else "pending"
        return f"<Flow {self.number} {self.client.address} -> {self.server.address} [{state}, {self.packets} packets]>"


def _ignore(_side: Side, _data: bytes, _time_ns: int, _packet: int) -> None:
    """Takes what comes after the end."""
