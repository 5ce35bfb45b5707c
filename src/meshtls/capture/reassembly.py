"""One TCP connection's segments to the bytes of its two directions, whatever the capture has made of them (RFC 9293).
Pure.

Bytes that are missing may still come: packets are captured out of order, and segments are sent again. A hole is given
up when the receiver has acknowledged what is in it, so that only the capture lost it, and it has not come a little
later (GRACE_PACKETS, GRACE_NS); when too much waits behind it; or when the connection or the capture ends.

From when it is acknowledged until it is filled or given up the bytes of the other side wait as well: they may answer
what is behind the hole. Both are delivered in the order of the capture, each with its own time (``holding``).

``ends`` says which FIN or RST stands. A RST waits as well, for GRACE_NS, since the connection may go on after one that
its receiver has not accepted.

A connection whose SYN was not captured is followed from its first packets on. These wait a little as well, since a SYN
or earlier bytes may still come; less long where the first bytes are such as begin a stream, or the peer's SYN-ACK
acknowledges all before them. Meanwhile the bytes of the other side wait with them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from meshtls.capture.ends import MOST_ENDS, contradicted, lives_on, may_be_sent, nearest, reset_counts, resetting
from meshtls.capture.first_sender import FIRST_BYTES, begins_connection, begins_stream
from meshtls.capture.flow import End, Ending, Flow, FlowSink, Half
from meshtls.capture.holding import lacks, passed, take_held, undecided
from meshtls.capture.packets import Segment
from meshtls.capture.roles import Servers
from meshtls.capture.sequence import MASK, MAX_WINDOW, MODULUS, front, signed, window_scale
from meshtls.wire.side import CLIENT, Side

__all__ = ["GRACE_NS", "GRACE_PACKETS", "START_NS", "START_PACKETS", "Limits", "Reassembly", "Recent"]

FIN, SYN, RST, ACK = 1, 2, 4, 16
_CONTROL = FIN | SYN | RST
_RESET = Ending.RESET
_TCP_HEADER = 20
#: Bytes that are sent again are not further behind.
_MAX_BEHIND = 1 << 26
_MILLISECOND = 1_000_000

#: How long a hole is waited for whose bytes are acknowledged.
GRACE_PACKETS, GRACE_NS = 16, 1_000 * _MILLISECOND
#: How long the first packets of a connection wait for a SYN.
START_PACKETS, START_NS = 8, 200 * _MILLISECOND
#: How long a hole is waited for where one direction alone was captured, so that no acknowledgement tells of it.
_ONE_WAY_PACKETS = 64
#: A segment that is late by less than this, or by less than a round trip, is out of order; otherwise it was sent again.
#: These are Wireshark's values.
_REORDERED_NS = 3 * _MILLISECOND
#: A packet without an IPv4 identification that is the same as another is one that was captured twice if it comes this
#: soon.
_TWICE_NS = 10 * _MILLISECOND
#: Packets that are looked through for the same packet, and for the same bytes of a connection.
_RECENT = 64
#: A SYN that comes after other packets of its connection belongs to it if no more packets and bytes came before it.
_LATE_SYN_PACKETS, _LATE_SYN_BYTES = 64, 1 << 20
#: After so many segments in a row that no window allows, the capture was interrupted for long.
_RESYNCHRONIZE = 16

#: A packet that was taken: who sent it, its sequence number and identification; where the TCP header and the payload
#: are in its bytes; its time.
Recent = tuple[Half, int, int, int, int, int, bytes, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of memory.

    - ``flows``: connections at a time. When there are more, the eighth that was idle for longest is given up.
    - ``half_bytes``: of one direction that wait, behind a hole of either one. With more the hole is given up.
    - ``bytes``: that wait in all. With more the connection that has waited for longest gives up its holes.
    - ``fragment_bytes``: of IP packets that are not complete.
    """

    flows: int = 65_536
    half_bytes: int = 4 << 20
    bytes: int = 64 << 20
    fragment_bytes: int = 4 << 20


class Reassembly:
    """Takes the segments of connections.

    - ``recent``: the last packets, of all connections. Whoever takes a packet by itself appends it.
    - ``waiting``: connections in which something waits, by number.
    - ``over``: those that have ended; whoever reads it empties it.
    - ``servers``: that answered a SYN.
    - ``buffered``: bytes of memory of all that waits.
    """

    def __init__(self, opened: Callable[[Flow], FlowSink], limits: Limits) -> None:
        self._opened, self._limits = opened, limits
        self.recent: deque[Recent] = deque(maxlen=_RECENT)
        self.waiting: dict[int, Flow] = {}
        self.over: list[Flow] = []
        self.buffered = 0
        self.servers = Servers()

    def take(self, half: Half, segment: Segment) -> None:
        """A segment that ``half`` sent, and that is neither captured twice nor the SYN of another connection."""
        flow, peer, flags, time_ns = half.flow, half.peer, segment.flags, segment.time_ns
        if not half.packets:
            half.first_ns = time_ns
        half.packets += 1
        half.last_ns = time_ns
        data, begin = segment.data, segment.begin
        end = min(begin + segment.span, len(data))
        self.recent.append((half, segment.seq, segment.identification, segment.at, begin, end, data, time_ns))
        if half.ends or peer.ends:
            for one in flow.halves:
                if resetting(one):
                    self._drain(one, segment.number, time_ns, force=False)
        if flow.closed:
            self._after_the_end(half, segment)
            return
        if flags & RST:
            self._rst(half, segment)
        else:
            self._take_bytes(half, segment)
        if not flow.closed:
            self._proceed(flow, segment.number, time_ns)
        _rearm(flow)

    def _take_bytes(self, half: Half, segment: Segment) -> None:
        flags = segment.flags
        if flags & SYN:
            self._syn(half, segment)
        if flags & ACK:
            self._acknowledged(half, segment)
        if not segment.window and not flags & SYN:
            half.zero_windows += 1
        if segment.span:
            self._payload(half, segment)
        elif not flags & _CONTROL and half.next >= 0 and segment.seq == (front(half) - 1) & MASK:
            half.keep_alives += 1
        if flags & FIN and not half.flow.closed:
            self._fin(half, segment)

    def is_twice(self, half: Half, segment: Segment) -> bool:
        """Whether this very packet was captured before, at another place on its way: it was sent once."""
        if not half.packets:
            return False
        seq, identification, time_ns = segment.seq, segment.identification, segment.time_ns
        for one in reversed(self.recent):
            if one[0] is half and one[1] == seq and one[2] == identification:
                _, _, _, at, _, _, data, other_ns = one
                near = identification or abs(time_ns - other_ns) <= _TWICE_NS
                if near and data[at:] == segment.data[segment.at :]:
                    return True
        return False

    def is_own_syn(self, half: Half, segment: Segment) -> bool:
        """Whether a SYN belongs to the connection that ``half`` is of, and not to a new one with the same addresses."""
        if half.isn is not None:
            return segment.seq == half.isn
        if half.next < 0:
            return not half.flow.closed
        before = signed(half.next - segment.seq - 1)
        return 0 <= before <= _LATE_SYN_BYTES and half.flow.packets <= _LATE_SYN_PACKETS

    def abandon(self, flow: Flow, how: Ending) -> None:
        """Deliver what waits, and end each direction that has not ended."""
        if flow.closed:
            return
        time_ns = flow.last_ns
        self._settle(flow, time_ns, force=True)
        for half in sorted(flow.halves, key=resetting, reverse=True):
            self._drain(half, 0, time_ns, force=True)
        for half in flow.halves:
            self._lose_tail(half, time_ns)
            self._ended(half, how, time_ns)
        self._close(flow)

    def sweep(self, now_ns: int) -> None:
        """Give up what was waited for long enough, of connections without a packet since."""
        for flow in list(self.waiting.values()):
            if now_ns - flow.last_ns > GRACE_NS:
                self._settle(flow, now_ns, force=True)
                for half in flow.halves:
                    self._drain(half, 0, now_ns, force=not half.peer.packets or passed(half))
                _rearm(flow)
                if not _waits(flow):
                    self.waiting.pop(flow.number, None)

    # -- the handshake --

    def _syn(self, half: Half, segment: Segment) -> None:
        flow = half.flow
        if half.isn is not None:
            half.retransmitted += not segment.span
            return
        half.isn = segment.seq
        header = segment.data[segment.at + _TCP_HEADER : segment.begin]
        if len(segment.data) >= segment.begin:
            half.scale = window_scale(header)
        if half.next < 0:
            half.next = (segment.seq + 1) & MASK
            if half.early:
                cost = half.early.cost
                half.early.cut(signed(half.next - half.early.base))
                self.buffered += half.early.cost - cost
        if segment.flags & ACK:
            flow.syn_ack_ns = segment.time_ns
            self.servers.answered(half)
        elif flow.syn_ns is None:
            flow.syn_ns = segment.time_ns
        flow.from_start = True
        if not flow.opened:
            self._open(flow, half.peer if segment.flags & ACK else half)

    def _acknowledged(self, half: Half, segment: Segment) -> None:
        ack, flow, peer = segment.ack, half.flow, half.peer
        if half.first_ack is None:
            half.first_ack = half.ack = ack
        elif 0 < (advance := signed(ack - half.ack)) < MAX_WINDOW:
            half.ack = ack
        elif advance == 0:
            bare = not segment.span and not segment.flags & _CONTROL and segment.seq == front(half)
            half.duplicate_acks += bare and segment.window == half.window
        elif signed(ack - half.first_ack) < 0:
            half.first_ack = ack
        half.window = segment.window
        if peer.strange_run and signed(ack - peer.next) <= 0:
            peer.strange_run = 0
        if half.ends:
            reordered_ns = _reordered_ns(flow)
            self._drop_ends(half, lambda end: lives_on(end, ack, segment.time_ns, reordered_ns))
        if (peer.early.runs or peer.ends) and lacks(peer):
            flow.holding = True
        if flow.established_ns is None and half.side is CLIENT and peer.isn is not None and signed(ack - peer.isn) > 0:
            flow.established_ns = segment.time_ns

    def _open(self, flow: Flow, client: Half) -> None:
        client.side, client.peer.side = Side.CLIENT, Side.SERVER
        flow.opened = True
        flow.sink = sink = self._opened(flow)
        for half in flow.halves:
            half.deliver = sink.data

    def _settle(self, flow: Flow, time_ns: int, *, force: bool) -> None:
        """Decide whether the bytes of both sides wait for each other, and deliver them once they need not any more."""
        wait = False
        for half in flow.halves:
            if not half.early.runs and not half.ends:
                continue
            if undecided(half):
                flow.holding = True
                if not self._begins(half, time_ns, force=force):
                    wait = True
                    continue
            if lacks(half):
                flow.holding = True
                if not force and not self._waited_enough(half, time_ns):
                    wait = True
        if flow.holding and not wait:
            flow.holding = False
            self._deliver_held(flow, time_ns)

    def _begins(self, half: Half, time_ns: int, *, force: bool) -> bool:
        """Decide where the bytes begin whose SYN was not captured, if nothing earlier is waited for any more. Returns
        whether it is known."""
        flow, early, peer = half.flow, half.early, half.peer
        start = (early.base + early.runs[0].start) & MASK if early else half.ends[0].at
        half.waited += 1
        long_enough = force or half.waited > START_PACKETS or time_ns - half.hole_ns > START_NS
        if not (long_enough or _begins_at(half, start)):
            return False
        if not flow.opened:
            client, flow.roles_guessed = self.servers.client_of(flow)
            self._open(flow, client)
        if half.side is Side.CLIENT and begins_connection(early.beginning(FIRST_BYTES)):
            flow.from_start = True
        half.waited = 0
        half.next = start
        missing = signed(start - peer.first_ack) if peer.first_ack is not None and flow.from_start else 0
        half.unseen = missing if 0 < missing <= _LATE_SYN_BYTES else 0
        return True

    def _deliver_held(self, flow: Flow, time_ns: int) -> None:
        """Deliver what waited in both directions, in the order of the capture. Holes that are acknowledged are given
        up."""
        for half in flow.halves:
            self._drop_ends(half, partial(contradicted, half))
        cost = sum(half.early.cost for half in flow.halves)
        held = take_held(flow)
        self.buffered += sum(half.early.cost for half in flow.halves) - cost
        for half in flow.halves:
            half.waited = half.passed_ns = 0
        for number, came_ns, half, missing, what in held:
            self._tell_unseen(half, came_ns)
            if missing > 0:
                self._lose_before(half, missing, what, came_ns)
            if not isinstance(what, End):
                self._deliver(half, what.length, what.data, number, came_ns)
            elif what.how is Ending.FIN:
                self._reached(half, what, what.time_ns, force=False)
        for half in flow.halves:
            self._tell_unseen(half, time_ns)

    def _tell_unseen(self, half: Half, time_ns: int) -> None:
        """The bytes before the first that were captured are lost."""
        missing, half.unseen = half.unseen, 0
        if missing:
            half.next = (half.next - missing) & MASK
            self._lose(half, missing, time_ns)

    # -- bytes --

    def _payload(self, half: Half, segment: Segment) -> None:
        flags, span = segment.flags, segment.span
        seq = (segment.seq + 1) & MASK if flags & SYN else segment.seq
        data = segment.data[segment.begin : segment.begin + span]
        if half.next < 0:
            self._insert(half, seq, span, data, segment)
            return
        late = signed(seq - half.next)
        if not -_MAX_BEHIND < late < MAX_WINDOW or (late > 0 and not may_be_sent(half, late)):
            self._strange(half, seq, segment)
            if half.strange_run < _RESYNCHRONIZE or half.ending is not None:
                return
            late = 0
        half.strange_run = 0
        if half.ending is not None and late + span > 0:
            half.strange += 1
            return
        if span == 1 and not flags & _CONTROL and seq == (front(half) - 1) & MASK:
            half.keep_alives += 1
            return
        if late < 0:
            half.retransmitted += 1
            half.retransmitted_bytes += min(span, -late)
            if self._differs(half, seq, data[:-late]):
                half.conflicts += 1
            if late + span <= 0:
                return
            seq, span, data = half.next, span + late, data[-late:]
        if late <= 0 and not half.early.runs and not half.ends and not half.flow.holding:
            self._deliver(half, span, data, segment.number, segment.time_ns)
            return
        self._insert(half, seq, span, data, segment, again=late < 0)

    def _insert(self, half: Half, seq: int, span: int, data: bytes, segment: Segment, *, again: bool = False) -> None:
        """Keep bytes that others belong in front of. ``again``: they are counted as sent again already."""
        early, time_ns = half.early, segment.time_ns
        if not early:
            early.base = seq if half.next < 0 else half.next
            half.hole_ns = time_ns
        offset = signed(seq - early.base)
        if not -MAX_WINDOW < offset < MAX_WINDOW:
            half.strange += 1
            return
        below = bool(early) and offset < early.end
        cost = early.cost
        new, differs = early.insert(offset, span, data, segment.number, time_ns)
        self.buffered += early.cost - cost
        half.conflicts += differs
        half.retransmitted_bytes += span - new
        if below and not again:
            if not new or time_ns - half.hole_ns > _reordered_ns(half.flow):
                half.retransmitted += 1
            else:
                half.out_of_order += 1
        self.waiting[half.flow.number] = half.flow
        if early.cost > self._limits.half_bytes:
            self._settle(half.flow, time_ns, force=True)
            self._drain(half, segment.number, time_ns, force=True)
        while self.buffered > self._limits.bytes:
            self._give_up_holes(next(iter(self.waiting.values())), segment.number, time_ns)

    def _give_up_holes(self, flow: Flow, number: int, time_ns: int) -> None:
        """Deliver what waits in this connection, the one that has waited for longest."""
        self._settle(flow, time_ns, force=True)
        for half in flow.halves:
            self._drain(half, number, time_ns, force=bool(half.early))
        _rearm(flow)
        self.waiting.pop(flow.number, None)
        if _waits(flow):
            self.waiting[flow.number] = flow

    def _strange(self, half: Half, seq: int, segment: Segment) -> None:
        """No window allows this. If it goes on so, the capture was interrupted: continue there."""
        half.strange += 1
        half.strange_run += 1
        if half.strange_run >= _RESYNCHRONIZE and half.next >= 0:
            self._settle(half.flow, segment.time_ns, force=True)
            self._drain(half, segment.number, segment.time_ns, force=True)
            if half.ending is None:
                self._lose(half, (seq - half.next) & MASK, segment.time_ns)
                half.peer.ack = seq

    def _differs(self, half: Half, seq: int, data: bytes) -> bool:
        """Whether these bytes are other than those that were delivered, as far as these are still remembered."""
        size = len(data)
        for other, other_seq, _, _, begin, end, packet, _ in list(self.recent)[:-1]:
            if other is half:
                at = signed(other_seq - seq)
                low, high = max(0, at), min(size, at + end - begin)
                if low < high:
                    if packet[begin + low - at : begin + high - at] != data[low:high]:
                        return True
                    if high - low == size:
                        return False
        return False

    def _deliver(self, half: Half, span: int, data: bytes, number: int, time_ns: int) -> None:
        half.bytes += span
        half.next = (half.next + span) & MASK
        if half.peer.early.runs:
            half.peer.after = (number, time_ns)
        if data:
            half.deliver(half.side, data, time_ns, number)
        if (cut := span - len(data)) and half.flow.sink is not None:
            half.cut_bytes += cut
            half.flow.sink.gap(half.side, cut, time_ns)

    def _lose(self, half: Half, missing: int, time_ns: int) -> None:
        half.next = (half.next + missing) & MASK
        half.lost_bytes += missing
        if half.flow.sink is not None:
            half.flow.sink.gap(half.side, missing, time_ns)

    def _lose_before(self, half: Half, missing: int, what: object, time_ns: int) -> None:
        if isinstance(what, End) and what.how is Ending.RESET and missing == 1:
            half.next = what.at  # a single number before a RST is taken for that of a FIN
        else:
            self._lose(half, missing, time_ns)

    def _lose_tail(self, half: Half, time_ns: int) -> None:
        """What the peer has acknowledged, and was not captured. A single number is taken for that of a FIN."""
        peer = half.peer
        if half.ending is not None or peer.first_ack is None:
            return
        if half.next < 0:
            half.next = peer.first_ack
        missing = signed(peer.ack - half.next)
        if 1 < missing < MAX_WINDOW:
            self._lose(half, missing, time_ns)

    def _proceed(self, flow: Flow, number: int, time_ns: int) -> None:
        """Deliver what waited and no longer has to."""
        if flow.holding or _waits(flow):
            self._settle(flow, time_ns, force=False)
            for half in flow.halves:
                if (half.early.runs or half.ends) and not flow.closed:
                    self._drain(half, number, time_ns, force=False)
            if _waits(flow):
                self.waiting[flow.number] = flow
                return
        self.waiting.pop(flow.number, None)

    def _drain(self, half: Half, number: int, time_ns: int, *, force: bool) -> None:
        """Deliver what is contiguous. A hole is waited for, unless ``force``, or it was for long enough."""
        early = half.early
        if half.flow.holding and not force:
            return
        while half.next >= 0 and not half.flow.closed:
            if half.ends:
                self._drop_ends(half, partial(contradicted, half))
            end = nearest(half)
            to_end = MODULUS if end is None else signed(end.at - half.next)
            to_data = early.runs[0].start - signed(half.next - early.base) if early.runs else MODULUS
            if end is not None and (to_end <= 0 or half.ending is not None):
                if not self._reached(half, end, time_ns, force=force):
                    return
                continue
            hole = min(to_end, to_data)
            if hole == MODULUS:
                half.waited = half.passed_ns = 0
                return
            if hole > 0:
                if not force and not self._waited_enough(half, time_ns):
                    return
                self._lose_before(half, hole, end if hole == to_end else None, time_ns)
                continue
            cost = early.cost
            run = early.pop(to_end)
            self.buffered += early.cost - cost
            for chunk in run.chunks:
                self._deliver(half, chunk.length, chunk.data, number, time_ns)

    def _waited_enough(self, half: Half, time_ns: int) -> bool:
        if not passed(half):
            half.waited += not half.peer.packets
            return half.waited > _ONE_WAY_PACKETS
        if not half.passed_ns:
            half.passed_ns, half.waited = time_ns, 0
        half.waited += 1
        return half.waited > GRACE_PACKETS or time_ns - half.passed_ns > GRACE_NS

    # -- the end --

    def _fin(self, half: Half, segment: Segment) -> None:
        """A FIN counts when the bytes before it have come."""
        at = (segment.seq + segment.span + bool(segment.flags & SYN)) & MASK
        if half.ending is not None:
            if not segment.span:  # otherwise its bytes are counted
                again = at == (half.next - 1) & MASK
                half.retransmitted += again
                half.strange += not again
        elif half.ends and any(end.at == at and end.how is Ending.FIN for end in half.ends):
            half.retransmitted += not segment.span
        elif half.next >= 0 and not (signed(at - front(half)) >= 0 and may_be_sent(half, signed(at - half.next))):
            half.strange += not segment.span
        else:
            if half.next < 0 and not half.early:
                half.hole_ns = segment.time_ns
            self._add_end(half, End(at, Ending.FIN, segment.time_ns, segment.number))

    def _rst(self, half: Half, segment: Segment) -> None:
        """A RST counts when the bytes before it have come, and nothing has contradicted it for a while."""
        time_ns = segment.time_ns
        if not reset_counts(half, segment):
            half.strange += 1
            return
        if segment.flags & ACK and half.first_ack is not None and 0 < signed(segment.ack - half.ack) < MAX_WINDOW:
            half.ack = segment.ack
        if undecided(half):
            self._begins(half, time_ns, force=True)
        elif half.next < 0:
            half.next = segment.seq
        at = segment.seq
        if signed(at - front(half)) <= 0:
            at = (half.next + (half.early.end - signed(half.next - half.early.base) if half.early else 0)) & MASK
        if not any(end.at == at and end.how is Ending.RESET for end in half.ends):
            self._add_end(half, End(at, Ending.RESET, time_ns, segment.number, _heard(half)))

    def _add_end(self, half: Half, end: End) -> None:
        if len(half.ends) < MOST_ENDS:
            half.ends.append(end)
        else:
            half.strange += 1

    def _drop_ends(self, half: Half, wrong: Callable[[End], bool]) -> None:
        """Drop the ends that are not the connection's."""
        for end in [end for end in half.ends if wrong(end)]:
            half.ends.remove(end)
            half.strange += 1

    def _reached(self, half: Half, end: End, time_ns: int, *, force: bool) -> bool:
        """All bytes before this end have come. Returns whether it stands, which it does after a while."""
        contested = end.how is _RESET or half.early.runs or resetting(half.peer)
        if contested and not force and time_ns - end.time_ns <= GRACE_NS:
            return False
        if half.early.runs:
            half.strange += len(half.early.runs)
            self.buffered -= half.early.cost
            half.early.clear()
        if end.how is _RESET:
            self._reset(half, end)
            return True
        half.ends = [one for one in half.ends if one.how is _RESET]
        half.next = (half.next + 1) & MASK
        self._ended(half, Ending.FIN, end.time_ns)
        if half.peer.ending is not None and not half.ends:
            self._close(half.flow)
        return True

    def _reset(self, half: Half, end: End) -> None:
        """Note that ``half`` has reset the connection: that ends both directions."""
        peer, half.ends = half.peer, []
        # A FIN that came before it counts: it may have waited, as in a connection that was captured from its middle.
        peer.ends = [one for one in peer.ends if one.how is Ending.RESET or one.time_ns < end.time_ns]
        self._ended(half, Ending.RESET, end.time_ns)
        self._drain(peer, 0, end.time_ns, force=True)
        if not half.flow.closed:
            self._ended(peer, Ending.PEER_RESET, end.time_ns)
            self._close(half.flow)

    def _ended(self, half: Half, how: Ending, time_ns: int) -> None:
        if half.ending is None:
            half.ending = how
            if half.flow.sink is not None:
                half.flow.sink.ended(half.side, how, time_ns)

    def _close(self, flow: Flow) -> None:
        flow.close()
        self.over.append(flow)
        for half in flow.halves:
            if half.early.runs:
                self.buffered -= half.early.cost
                half.early.clear()
            half.expect, half.ends = -1, []
        self.waiting.pop(flow.number, None)

    def _after_the_end(self, half: Half, segment: Segment) -> None:
        if segment.flags & SYN and half.isn is None:
            half.isn = segment.seq
            return
        old = half.next < 0 or signed(segment.seq + segment.span - half.next) <= 0
        if segment.flags & (FIN | SYN) or (segment.span and old):
            half.retransmitted += 1
            half.retransmitted_bytes += segment.span
        elif segment.span:
            half.strange += 1


def _waits(flow: Flow) -> bool:
    one, other = flow.halves
    return not flow.closed and bool(one.early.runs or one.ends or other.early.runs or other.ends)


def _begins_at(half: Half, start: int) -> bool:
    """Whether no bytes come before ``start``, where the first begin that are captured: such bytes begin a stream, or
    the peer's SYN-ACK acknowledges a SYN just before them."""
    peer = half.peer
    if peer.first_ack is not None and signed(start - peer.first_ack) > 0:
        return False
    acknowledged = peer.isn is not None and half.flow.opened and half.side is Side.CLIENT and peer.first_ack == start
    return acknowledged or begins_stream(half.early.beginning(FIRST_BYTES))


def _reordered_ns(flow: Flow) -> int:
    if flow.syn_ns is None or flow.established_ns is None:
        return _REORDERED_NS
    return max(_REORDERED_NS, flow.established_ns - flow.syn_ns)


def _heard(half: Half) -> int | None:
    """The sequence number after all that ``half`` can have received."""
    peer = half.peer
    if peer.next < 0:
        return None
    heard = peer.next if not peer.early else (peer.early.base + peer.early.end) & MASK
    return half.ack if half.first_ack is not None and signed(half.ack - heard) > 0 else heard


def _rearm(flow: Flow) -> None:
    """Decide whether the next segment of each side needs nothing but delivery. It needs more where bytes of the other
    side wait, which it may acknowledge."""
    one, other = flow.halves
    ready = (
        flow.opened
        and not one.ends
        and not other.ends
        and not one.early.runs
        and not other.early.runs
        and not flow.holding
        and (flow.established_ns is not None or not flow.from_start or flow.packets > START_PACKETS)
    )
    for half, peer in ((one, other), (other, one)):
        half.expect = half.next if ready and half.ending is None and not peer.strange_run else -1
