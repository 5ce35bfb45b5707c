"""From packets to TCP connections: who sent which bytes, in order, and what is missing. Pure.

``Flows.packet`` is the path of every packet. A segment that is in order, of a connection that is known and has no hole,
is delivered from there. Everything else goes to ``Reassembly``. ``Half.expect`` is the sequence number of such a
segment; it is -1, which no segment has, while anything else must be thought of: before the handshake is complete, while
bytes are missing, after a FIN.
"""

from __future__ import annotations

import heapq
import struct
from collections import deque
from collections.abc import Callable

from meshtls.capture.files.packet import Packet
from meshtls.capture.flow import Ending, Flow, FlowSink, Half
from meshtls.capture.fragments import Fragments
from meshtls.capture.ip import TCP
from meshtls.capture.links import ETHERNET, IPV4
from meshtls.capture.packets import Segment, Segments, Totals
from meshtls.capture.reassembly import Limits, Reassembly
from meshtls.capture.reopening import NewSyns, replaces
from meshtls.capture.roles import Servers

__all__ = ["Flows", "Limits"]

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
#: FIN, SYN, RST and ACK.
_FLAGS = 0x17
_MASK, _HALF = 0xFFFF_FFFF, 0x8000_0000
#: EtherType; version and header length; total length, identification, fragment; protocol; sequence and acknowledgement
#: number, data offset, flags, window: what is needed of Ethernet, IPv4 without options and TCP, which most packets are.
_HEADERS = struct.Struct("!12xHBxHHHxB14xIIBBH")
_HEADERS_SIZE, _TCP_AT = 54, 34
_V4_WITHOUT_OPTIONS, _NO_FRAGMENT = 0x45, 0x3FFF
#: Connections that ended, and are remembered for what comes late of them.
_REMEMBERED = 1024
#: Packets between two looks at connections in which something waits.
_SWEEP = 4096


class Flows:
    """The TCP connections of a capture.

    - ``totals``, ``fragments``, ``servers``: what is counted besides the counters of each connection.
    """

    def __init__(self, opened: Callable[[Flow], FlowSink], limits: Limits | None = None) -> None:
        """``opened`` is called once for each connection, when its client is known and before its first bytes."""
        self._limits = limits or Limits()
        self._segments = Segments(self._limits.fragment_bytes)
        self._reassembly = Reassembly(opened, self._limits)
        self._remember = self._reassembly.recent.append
        self._halves: dict[bytes, Half] = {}
        self._flows: dict[int, Flow] = {}
        self._closed: deque[Flow] = deque()
        self._new_syns = NewSyns()
        self._count = self._interface = 0
        self._next_sweep = _SWEEP

    def __repr__(self) -> str:
        return f"<Flows [{len(self._flows)} connections, {self._reassembly.buffered} bytes wait]>"

    @property
    def totals(self) -> Totals:
        """Packets of no connection."""
        return self._segments.totals

    @property
    def fragments(self) -> Fragments:
        """Fragments of IP packets."""
        return self._segments.fragments

    @property
    def servers(self) -> Servers:
        """The servers that answered a SYN so far."""
        return self._reassembly.servers

    def packet(self, packet: Packet) -> None:
        """Take the next packet of the capture."""
        number, time_ns, interface, link_type, data, wire = packet
        found: Segment | None = None
        begin, end, at, size = 0, -1, _TCP_AT, len(data)
        if link_type == ETHERNET and size >= _HEADERS_SIZE:
            kind, first, total, ip_id, fragment, protocol, seq, ack, offset, flags, window = _unpack(data)
            if kind == IPV4 and first == _V4_WITHOUT_OPTIONS and protocol == TCP and not fragment & _NO_FRAGMENT:
                begin, end = _TCP_AT + (offset >> 2 & 0x3C), 14 + total
        if _HEADERS_SIZE <= begin <= end <= size:
            key, span = data[26:38], end - begin
        else:
            found = self._segments.of(packet)
            if found is None:
                return
            key, data, at, begin, span = found.key, found.data, found.at, found.begin, found.span
            seq, ack, flags, window, ip_id = found.seq, found.ack, found.flags, found.window, found.identification
            wire += found.earlier_wire
            end, size = begin + span, len(data)
        half = self._halves.get(key)
        if half is not None and seq == half.expect and flags & _FLAGS == _ACK and window and end <= size:
            if span:
                half.next = half.expect = (seq + span) & _MASK
                half.packets += 1
                half.wire_bytes += wire
                half.bytes += span
                half.ack = ack
                half.window = window
                half.last_ns = time_ns
                self._remember((half, seq, ip_id, at, begin, end, data, time_ns))
                half.deliver(half.side, data[begin:end], time_ns, number)
                return
            if 0 < (ack - half.ack) & _MASK < _HALF:
                half.packets += 1
                half.wire_bytes += wire
                half.ack = ack
                half.window = window
                half.last_ns = time_ns
                self._remember((half, seq, ip_id, at, begin, end, data, time_ns))
                return
        if found is None:
            found = Segment(key, data, at, begin, span, seq, ack, flags, window, ip_id, time_ns, number)
        self._interface = interface
        self._take(half, found, wire)

    def finish(self) -> None:
        """The capture has ended: deliver what waits, and end each connection that is open."""
        for flow in list(self._flows.values()):
            self._reassembly.abandon(flow, Ending.CAPTURE_END)
        self._flows.clear()
        self._halves.clear()
        self._closed.clear()
        self._new_syns.clear()
        self._reassembly.recent.clear()
        self._reassembly.over.clear()

    def tick(self, now_ns: int) -> None:
        """In a live capture: time passes, with or without packets. Holes that were waited for long enough are given
        up."""
        self._reassembly.sweep(now_ns)
        self._remember_over()

    def _take(self, half: Half | None, segment: Segment, wire: int) -> None:
        flags, reassembly = segment.flags, self._reassembly
        if segment.number >= self._next_sweep:
            self._next_sweep = segment.number + _SWEEP
            reassembly.sweep(segment.time_ns)
        if half is None:
            if flags & _RST or not (flags & (_SYN | _FIN) or segment.span):
                self.totals.without_flow += 1
                return
            half = self._new_flow(segment)
        elif reassembly.is_twice(half, segment):
            half.duplicated += 1
            return
        elif self._new_syns and (syn := self._new_syns.answered(half, segment)) is not None:
            first = self._replaced(half.flow, syn.segment)
            first.wire_bytes += syn.wire
            reassembly.take(first, syn.segment)
            half = self._halves[segment.key]
        elif flags & (_SYN | _RST) == _SYN and not reassembly.is_own_syn(half, segment):
            if not replaces(half, segment):
                self._new_syns.hold(half, segment, wire)
                return
            half = self._replaced(half.flow, segment)
        half.wire_bytes += wire
        reassembly.take(half, segment)
        if reassembly.over:
            self._remember_over()

    def _remember_over(self) -> None:
        self._closed += self._reassembly.over
        self._reassembly.over.clear()
        while len(self._closed) > _REMEMBERED:
            self._forget(self._closed.popleft())

    def _replaced(self, flow: Flow, syn: Segment) -> Half:
        """The sender of this SYN, of a new connection in the place of another."""
        self._reassembly.abandon(flow, Ending.REPLACED)
        self._forget(flow)
        return self._new_flow(syn)

    def _new_flow(self, segment: Segment) -> Half:
        if len(self._flows) >= self._limits.flows:
            self._give_up_idle()
        flow = Flow(self._count, segment.key, segment.time_ns, self._interface)
        self._count += 1
        self._flows[flow.number] = flow
        half, peer = flow.halves
        self._halves[peer.key] = peer
        self._halves[half.key] = half
        return half

    def _give_up_idle(self) -> None:
        while self._closed:
            self._forget(self._closed.popleft())
        if len(self._flows) < self._limits.flows:
            return
        for flow in heapq.nsmallest(max(1, self._limits.flows // 8), self._flows.values(), key=_last_ns):
            self.totals.given_up += 1
            self._reassembly.abandon(flow, Ending.GIVEN_UP)
            self._forget(flow)

    def _forget(self, flow: Flow) -> None:
        self._flows.pop(flow.number, None)
        for half in flow.halves:
            self._new_syns.forget(half)
            if self._halves.get(half.key) is half:
                del self._halves[half.key]


def _last_ns(flow: Flow) -> int:
    return flow.last_ns


_unpack = _HEADERS.unpack_from
