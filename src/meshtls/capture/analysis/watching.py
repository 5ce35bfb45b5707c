"""Watches one connection as its bytes come, and makes its record when it is over. Bounded. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from meshtls.capture.analysis.amounts import Amounts, application_bytes
from meshtls.capture.analysis.bundles import CaptureBundle, peers_of
from meshtls.capture.analysis.completion import Completion, completion_of
from meshtls.capture.analysis.connection import Alert, Connection, End, Peer, Request
from meshtls.capture.analysis.facts import Facts
from meshtls.capture.analysis.first_line import first_line, start_of_answer
from meshtls.capture.analysis.handshake import Ended, chain_of, handshake_of
from meshtls.capture.analysis.hidden import NO_SECRETS
from meshtls.capture.analysis.judging import judge
from meshtls.capture.analysis.missing_bytes import most_of_missing
from meshtls.capture.analysis.progress import progress_of
from meshtls.capture.analysis.server_data import NO_TICKETS, ServerData, Tickets, server_data, tickets_of
from meshtls.capture.application import Conversation, Spoken
from meshtls.capture.exchange import HttpExchange, InsideBudget
from meshtls.capture.flow import Ending, Flow, Half
from meshtls.capture.keylog import KeyLog
from meshtls.capture.memory import MemoryPool
from meshtls.capture.midway import LEAST_RECORDS, MidwayRecords
from meshtls.capture.outside import OutsideView, outside_view
from meshtls.capture.roles import Servers
from meshtls.capture.sequence import signed
from meshtls.capture.session import NO_CLIENT_HELLO, TlsSession
from meshtls.printable import printable
from meshtls.wire.side import CLIENT, SERVER, SIDES, Side
from meshtls.wire.tls import TLS_1_3, ContentType, FirstBytes, alert_name, first_bytes_of
from meshtls.wire.tls_states import Event
from meshtls.wire.tls_steps import TlsSteps

__all__ = ["Watched"]

_MS = 1e6
_FIRST = 256
#: Bytes of the client's random that are the ID of the connection in the logs of sidecars.
_ID_BYTES = 8
_MOST_ALERTS, _MOST_REQUESTS, _MOST_TROUBLES = 16, 100, 16
#: The first digit of the status of a CONNECT that opened a tunnel.
_SUCCESSFUL = 2
_DATA, _ALERT = int(ContentType.APPLICATION_DATA), int(ContentType.ALERT)
#: Bytes of the smallest packets that an MTU keeps from arriving, about (RFC 791, section 3.1).
_LARGE = 500
#: Bytes of an alert in clear, with the header of its record.
_ALERT_RECORD = 7
_CLOSED: Mapping[Ending | None, str] = {Ending.FIN: "closed", Ending.RESET: "reset"}
#: Endings that the capture shows.
_SEEN = (Ending.FIN, Ending.RESET, Ending.PEER_RESET)
_CONTENT_TYPES = tuple(bytes((one,)) for one in ContentType)
_SYNTHETIC = (
    "the TCP and IP headers are synthetic, since the writer of the file saw only the bytes in TCP: the duration of"
    " TCP's handshake and the overhead are unknown, and packets and wire_bytes count invented headers"
)
_OTHER_STREAMS = (
    "the record is about HTTP/2, and not the TLS in a tunnel, since that is not the only stream, or not all of its"
    " frames are known"
)
_MIDDLE = (b"\x14\x03", b"\x15\x03", b"\x16\x03", b"\x17\x03")


class Watched:
    """A FlowSink for one connection.

    ``synthetic``: the headers of its packets were invented by who wrote the file (``meshtls.capture.synthetic``).
    """

    __slots__ = (
        *("_bundle", "_ended", "_feed", "_first", "_first_ns", "_keys", "_lacks_beginning", "_server_first_ns"),
        *("conversation", "flow", "open_sides", "synthetic"),
    )

    def __init__(
        self, flow: Flow, keys: KeyLog | None, bundle: CaptureBundle | None, memory: MemoryPool | None = None
    ) -> None:
        """``memory`` is shared by all connections of a run."""
        self.flow = flow
        self._keys, self._bundle = keys, bundle
        self.conversation = Conversation(keys, budget=InsideBudget(memory=(memory or MemoryPool()).share()))
        self.conversation.from_middle = not flow.from_start
        self._feed = self.conversation.feed
        self._first: dict[Side, bytes] = {}
        self._first_ns = self._server_first_ns = 0
        #: The first bytes of a side are not in the capture.
        self._lacks_beginning = False
        self._ended: list[tuple[Side, Ending, int]] = []
        self.open_sides = 2
        self.synthetic = False

    def data(self, side: Side, data: bytes, time_ns: int, packet: int) -> None:
        """Part of ``FlowSink``."""
        if side not in self._first and data:
            self._first[side] = data[:_FIRST]
            self._first_ns = self._first_ns or time_ns
            if side is SERVER:
                self._server_first_ns = time_ns
        self._feed(side, data, time_ns)

    def gap(self, side: Side, missing: int, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        self._lacks_beginning = self._lacks_beginning or side not in self._first
        self.conversation.gap(side, missing)

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        self._ended.append((side, how, time_ns))
        self.conversation.end(side)
        self.open_sides -= 1

    def settle_roles(self, servers: Servers) -> None:
        """If the roles were guessed: by the servers that are known by now."""
        flow = self.flow
        caller = servers.caller(flow) if flow.roles_guessed else None
        if caller is flow.client:
            flow.roles_guessed = False
        elif caller is not None and self.conversation.turn():
            flow.turn()
            self._first = {side.other: data for side, data in self._first.items()}
            self._ended = [(side.other, how, time_ns) for side, how, time_ns in self._ended]

    def release(self) -> None:
        """Give back its part of the shared memory: its record is made, and nothing else is wanted of it."""
        self.conversation.memory.close()

    @property
    def carried(self) -> Conversation:
        """What the record is about: the conversation, or the TLS in the tunnel that a CONNECT opened."""
        asked = self._connect()
        return asked.tunnel if asked is not None and isinstance(asked.tunnel, Conversation) else self.conversation

    def _connect(self) -> HttpExchange | None:
        """The CONNECT that opened a tunnel with TLS in it. In HTTP/1.1 nothing but the tunnel comes after it (RFC 9110,
        section 9.3.6). In HTTP/2 it has to be the only request, all of whose frames are known; a client may speak
        there before it is answered.
        """
        talk = self.conversation
        if talk.http is None:
            return None
        asked = talk.exchanges[-1:]
        if talk.http2 is not None and (talk.http2.exchanges.count != 1 or talk.http2.troubles):
            return None
        return asked[0] if asked and _carries_tls(asked[0]) else None

    def _stream_ends(self) -> list[tuple[Side, Ending, int]]:
        """How and when the sides ended the stream of HTTP/2 that the record is about."""
        asked = self._connect()
        found: list[tuple[Side, Ending, int]] = []
        for side, reset, time_ns in asked.tunnel_ends if asked is not None else ():
            ended = {one for one, _, _ in found}
            if side not in ended:
                found.append((side, Ending.RESET if reset else Ending.FIN, time_ns))
            if reset and side.other not in ended:
                found.append((side.other, Ending.PEER_RESET, time_ns))
        return found

    @property
    def endings(self) -> tuple[Ended, ...]:
        """How the sides ended, in this order."""
        tls = self.carried.tls
        at, last = (tls.ended_at, len(tls.events)) if tls is not None else ({}, 0)
        ends = self._stream_ends()
        ended = {side for side, _, _ in ends}
        ends += [one for one in self._ended if one[0] not in ended]
        return tuple([Ended(at.get(side, last), side, how, time_ns) for side, how, time_ns in ends])

    def record(self) -> Connection:
        """What was seen of it so far. It waits no longer for secrets."""
        self.conversation.settle()
        flow, tls = self.flow, self.carried.tls
        view = outside_view(tls) if tls is not None else None
        done = completion_of(tls) if tls is not None else None
        endings, without_secrets = self.endings, self._without_secrets(tls)
        left_out = tls is not None and tls.left_out
        first, sender, receiver = flow.first_ns, flow.client, flow.server
        lost = _missing(sender), _missing(receiver)
        whole = flow.from_start and not left_out and not any(lost)
        handshake = None
        if tls is not None and view is not None:
            handshake = handshake_of(tls, view, done, endings, whole=whole)
        chains = {side: chain_of(tls, side) for side in SIDES} if tls is not None else {}
        peers: dict[Side, Peer | None] = dict.fromkeys(SIDES) | peers_of(chains, self._bundle)
        tickets = NO_TICKETS
        if tls is not None and done is not None and tls.version == TLS_1_3:
            tickets = tickets_of(tls, done)
        useful = self._useful(tls, view, done, tickets)
        if tls is not None and any(lost):
            useful = self._with_missing(useful, tls, done)
        client, server = self._end(sender, tls, useful.of, peers), self._end(receiver, tls, useful.of, peers)
        troubles = tuple(islice(self._troubles(without_secrets=without_secrets), _MOST_TROUBLES))
        alerts = self._alerts(tls, view)
        protocol = self._protocol()
        line = self._first_line(protocol)
        progress = None
        if tls is not None and view is not None and done is None:
            progress = progress_of(tls, view, self._begun_ns(), flow.first_ns, cut=whole and self._is_cut(tls))
        data_shown = ServerData.UNTOLD
        if tls is not None and view is not None and done is not None:
            data_shown = server_data(tls, view, done, tickets)
        closed = next((one for one in endings if one.how in _CLOSED), None)
        how = {half.side: half.ending for half in flow.halves} | {side: one for side, one, _ in self._stream_ends()}
        facts = Facts(
            client=_who(client, guessed=flow.roles_guessed),
            server=_who(server, guessed=flow.roles_guessed, asked=self._connect()),
            server_address=server.address,
            server_is_local=receiver.is_loopback,
            protocol=protocol,
            first_line=line,
            handshake=handshake,
            alerts=alerts,
            ends=(_CLOSED.get(how[CLIENT], ""), _CLOSED.get(how[SERVER], "")),
            first_ended=closed.side.value if closed is not None else "",
            ended_ms=_between(first, closed.time_ns) if closed is not None else None,
            open_because=next((one.value for one in how.values() if one is not None and one not in _SEEN), ""),
            reset_by=next((side.value for side in SIDES if _reset(side, how)), ""),
            notified=(_notified(tls, view, CLIENT), _notified(tls, view, SERVER)),
            sent=(sender.bytes - self._header_bytes, receiver.bytes),
            after_header=self._header_bytes > 0,
            answered=flow.syn_ack_ns is not None or flow.established_ns is not None,
            syns=sender.packets,
            duration_ms=(flow.last_ns - first) / _MS,
            useful=(client.application_bytes, server.application_bytes),
            server_data=data_shown,
            hidden=done is not None and tls is not None and not tls.direction(SERVER).decrypted,
            without_secrets=without_secrets,
            done_ms=_between(first, done.time_ns) if done is not None else None,
            renegotiation=frozenset(side.value for side in view.renegotiation) if view is not None else frozenset(),
            progress=progress,
            server_alert=self._server_alert(),
            server_answer=self._server_answer(tls),
            peers=(peers[CLIENT], peers[SERVER]),
            undelivered=(_undelivered(sender), _undelivered(receiver)),
            lost=lost,
            from_start=self._known_from_start,
            left_out=left_out,
            midway=self._midway.words() if self._midway is not None else "",
            connection_id=tls.client_random[:_ID_BYTES].hex() if tls is not None else "",
        )
        outcome, problem, advice, unknown_because = judge(facts)
        requests, requests_left_out = self._requests()
        wire, total = client.wire_bytes + server.wire_bytes, client.application_bytes + server.application_bytes
        return Connection(
            number=flow.number + 1,
            start_ns=first,
            duration_ms=facts.duration_ms,
            client=client,
            server=server,
            protocol=facts.protocol,
            first_line=line,
            preamble=self._preamble(),
            from_start=flow.from_start,
            roles_guessed=flow.roles_guessed,
            connection_id=facts.connection_id,
            handshake=handshake,
            synthetic=self.synthetic,
            tcp_rtt_ms=_between(flow.syn_ns, flow.established_ns) if not self.synthetic else None,
            first_data_ms=_between(first, self._first_data(tls, done)),
            estimated=useful.estimated,
            at_most=useful.at_most,
            overhead=(wire - total) / total if total > 0 and not self.synthetic else None,
            alerts=alerts,
            requests=requests,
            requests_left_out=requests_left_out,
            troubles=troubles,
            outcome=outcome,
            problem=problem,
            advice=advice,
            unknown_because=unknown_because,
        )

    # -- parts --

    @property
    def _known_from_start(self) -> bool:
        """Whether what is spoken was captured from its beginning, as far as that is needed to know what it is."""
        return self.flow.from_start and not (self._lacks_beginning and self.conversation.spoken is Spoken.OTHER)

    @property
    def _midway(self) -> MidwayRecords | None:
        """The records of TLS that was captured from its middle, if they show that it is that."""
        midway = self.conversation.midway
        return midway if midway is not None and midway.count >= LEAST_RECORDS else None

    def _protocol(self) -> str:
        spoken = self.carried.spoken
        if spoken not in (Spoken.OTHER, Spoken.UNDECIDED):
            return str(spoken.value)
        if not self._first:
            return "nothing"
        if self._only_alerted():
            return "TLS"
        if not self._known_from_start and (
            self._midway is not None or any(one[:2] in _MIDDLE for one in self._first.values())
        ):
            return "TLS"
        return "other"

    @property
    def _header_bytes(self) -> int:
        """The length of a PROXY protocol header that came before TLS, or before nothing."""
        talk = self.conversation
        return 0 if talk.skipped.get(SERVER) else talk.skipped.get(CLIENT, 0)

    def _begun_ns(self) -> int:
        """When the first byte was sent, or, through a proxy, could be."""
        asked = self._connect()
        return asked.answered_ns if asked is not None else self._first_ns

    def _preamble(self) -> str:
        parts = [self.conversation.preamble]
        if (asked := self._connect()) is not None:
            parts += [
                f"CONNECT to {asked.authority} through the proxy {self.flow.server.address}",
                self.carried.preamble,
            ]
        return ", then ".join(filter(None, parts))

    def _troubles(self, *, without_secrets: bool) -> Iterator[str]:
        if self.synthetic:
            yield _SYNTHETIC
        keys = self._keys is not None and len(self._keys)
        if keys and self.carried.tls is None and self._protocol() == "TLS":
            yield f"captured from its middle: {NO_CLIENT_HELLO}"
        if without_secrets:
            yield NO_SECRETS
        if self.conversation.spoken is Spoken.HTTP2 and self._connect() is None:
            tunnels = sum(map(_carries_tls, self.conversation.exchanges))
            if tunnels:
                yield f"{_OTHER_STREAMS}: streams that are tunnels with TLS in them: {tunnels}"
        for _, trouble in self.conversation.all_troubles():
            yield printable(f"{trouble.side.value}, byte {trouble.offset}: {trouble.reason}")

    def _is_cut(self, tls: TlsSession) -> bool:
        """Whether the server's last record of TLS is not whole."""
        read = self._before_tls(SERVER) + tls.direction(SERVER).record_bytes
        return self.flow.server.bytes > read

    def _without_secrets(self, tls: TlsSession | None) -> bool:
        """Whether something is encrypted, and the key log, which has secrets, has none of this connection."""
        if tls is None or not tls.client_random or not self._keys:
            return False
        if not len(self._keys) or self._keys.secrets_of(tls.client_random) is not None:
            return False
        return any(not one.decrypted for sent in tls.index.data.values() for one in sent.events)

    def _useful(
        self, tls: TlsSession | None, view: OutsideView | None, done: Completion | None, tickets: Tickets
    ) -> Amounts:
        if tls is not None and view is not None:
            return application_bytes(tls, view, done, tickets)
        if self._only_alerted():
            return Amounts(dict.fromkeys(Side, 0), False)
        # Of a session of TLS whose beginning was not captured, nobody knows what the records have besides data.
        is_tls, midway = self._protocol() == "TLS", self._midway
        sent = {half.side: half.bytes + (half.lost_bytes if is_tls else 0) for half in self.flow.halves}
        if midway is not None:
            sent = {side: max(0, count - midway.overhead(side)) for side, count in sent.items()}
        return Amounts(sent, estimated=is_tls, at_most=is_tls)

    def _with_missing(self, found: Amounts, tls: TlsSession, done: Completion | None) -> Amounts:
        """Bytes of the connection are not in the capture, which may be application data."""
        before = {side: self._before_tls(side) for side in SIDES}
        most = most_of_missing(self.flow, tls, before, complete=done is not None)
        return Amounts({**found.of, **most}, estimated=True, at_most=True) if most else found

    def _before_tls(self, side: Side) -> int:
        """Bytes that a side sent before TLS began, and before the tunnel that it is in."""
        outside = self.conversation.bytes[side] - self.carried.bytes[side] if self._connect() is not None else 0
        return outside + self.carried.skipped.get(side, 0)

    def _end(
        self, half: Half, tls: TlsSession | None, useful: Mapping[Side, int], peers: dict[Side, Peer | None]
    ) -> End:
        tls_bytes = 0
        if tls is not None:
            tls_bytes = tls.direction(half.side).record_bytes
        elif (midway := self._midway) is not None:
            tls_bytes = midway.record_bytes(half.side)
        return End(
            address=str(half.address),
            packets=half.packets,
            wire_bytes=half.wire_bytes,
            tcp_bytes=half.bytes,
            tls_bytes=tls_bytes,
            application_bytes=useful[half.side],
            retransmitted=half.retransmitted,
            out_of_order=half.out_of_order,
            lost_bytes=half.lost_bytes,
            ending=half.ending.value if half.ending is not None else "",
            cut_bytes=half.cut_bytes,
            conflicts=half.conflicts,
            strange=half.strange,
            duplicated=half.duplicated,
            peer=peers[half.side],
        )

    def _alerts(self, tls: TlsSession | None, view: OutsideView | None) -> tuple[Alert, ...]:
        start = self.flow.first_ns
        if self._only_alerted():
            return (Alert(SERVER.value, self._server_alert(), _between(start, self._server_first_ns)),)
        if tls is None or view is None:
            return ()
        steps = TlsSteps()
        steps.is_1_3 = tls.version == TLS_1_3 or tls.retried
        found: list[Alert] = []
        for one in tls.index.alerts:
            known = one.description >= 0
            name = alert_name(one.description) if known else ""
            fatal = steps.of_alert(one.level, one.description) is Event.FATAL if known else None
            found.append(Alert(one.side.value, name, _between(start, one.time_ns), fatal))
        if view.alerts and all(one.name for one in found):
            offsets = {offset for _, offset in view.alerts}
            records = [record for record in tls.index.records.events if record.offset in offsets]
            times = {(record.side, record.offset): record.time_ns for record in records}
            found += [Alert(side.value, "", _between(start, times.get((side, offset)))) for side, offset in view.alerts]
        found.sort(key=lambda one: one.ms or 0.0)
        return tuple(found[:_MOST_ALERTS])

    def _only_alerted(self) -> bool:
        """Whether a TLS alert of the server is all that was sent, as OpenSSL answers a client that closes at once; but
        for a PROXY protocol header.
        """
        client, server = self.flow.client, self.flow.server
        if client.bytes > self._header_bytes or _missing(client) or not self.flow.from_start:
            return False
        return server.bytes == _ALERT_RECORD and bool(self._server_alert())

    def _server_alert(self) -> str:
        first = self._first.get(SERVER, b"")
        return alert_name(first[6]) if first[:2] == b"\x15\x03" and len(first) >= 7 else ""

    def _server_answer(self, tls: TlsSession | None) -> str:
        """What the server answered a ClientHello with, where it is no TLS and the client began with TLS."""
        skipped = self.carried.skipped
        if skipped.get(SERVER):
            return ""  # it spoke in clear before TLS began
        start = self._first.get(SERVER, b"")
        asked = self._first.get(CLIENT, b"")[skipped.get(CLIENT, 0) :]
        if tls is None or not tls.client_random or not start or first_bytes_of(asked) is not FirstBytes.TLS:
            return ""
        is_tls = start[:1] in _CONTENT_TYPES and start[1:2] in (b"\x03", b"")
        return start_of_answer(start) if not is_tls else ""

    def _first_line(self, protocol: str) -> str:
        """The first line of plaintext."""
        if protocol in ("TLS", "nothing") or self._preamble():
            return ""
        start = self._first.get(CLIENT) or self._first.get(SERVER, b"")
        return first_line(start, is_http1=self.carried.spoken is Spoken.HTTP1)

    def _first_data(self, tls: TlsSession | None, done: Completion | None) -> int | None:
        if tls is None:
            return self._first_ns or None
        index = tls.index
        # What is rejected of early data is not delivered.
        application = zip(index.application.numbers, index.application.events, strict=True)
        number, first = next(
            ((number, one.time_ns) for number, one in application if tls.early_accepted or not one.early), (None, None)
        )
        if done is None:
            return first
        # What comes after the first decrypted data is later.
        for one in index.records.between(done.until, number):
            client_or_known = one.side is CLIENT or one.inner_type == _DATA
            if one.content_type == _DATA and not one.decrypted and client_or_known:
                return one.time_ns
        return first

    def _requests(self) -> tuple[tuple[Request, ...], int]:
        found: list[Request] = []
        count = 0
        for conversation in self.conversation.walk():
            if conversation.http is not None:
                count += conversation.http.exchanges.count
                kept = conversation.http.exchanges.kept
                found += [_request(one) for one in islice(kept, _MOST_REQUESTS - len(found))]
        return tuple(found), count - len(found)


def _carries_tls(asked: HttpExchange) -> bool:
    """Whether it opened a tunnel, and TLS is spoken there."""
    is_open = asked.status // 100 == _SUCCESSFUL
    return is_open and isinstance(asked.tunnel, Conversation) and asked.tunnel.tls is not None


def _request(one: HttpExchange) -> Request:
    grpc = f"{one.grpc.service}/{one.grpc.method}" if one.grpc is not None else ""
    status = one.grpc.status if one.grpc is not None and one.grpc.status >= 0 else None
    return Request(one.method, one.path or one.authority, one.status, grpc, status)


def _reset(side: Side, how: Mapping[Side, Ending | None]) -> bool:
    """Whether its RST ended a direction: its own, or, after its FIN, that of the other side."""
    return how[side] is Ending.RESET or how[side.other] is Ending.PEER_RESET


def _notified(tls: TlsSession | None, view: OutsideView | None, side: Side) -> bool:
    if tls is None or view is None:
        return False
    last = tls.index.last_record(side)
    if last is None:
        return False
    if (side, last.offset) in view.alerts:
        return True
    alert = next((one for one in reversed(tls.index.alerts) if one.side is side), None)
    return last.inner_type == _ALERT and alert is not None and alert_name(alert.description) == "close_notify"


def _who(end: End, *, guessed: bool, asked: HttpExchange | None = None) -> str:
    """``asked``: the CONNECT by which a proxy carries what is said to it."""
    if guessed:
        return f"{end.address} (guessed by the ports)"
    who = end.address if asked is None else asked.authority
    if end.peer is not None and end.peer.spiffe_id:
        who = f"{who} ({end.peer.spiffe_id})"
    return who if asked is None else f"{who} through the proxy {end.address}"


def _between(start: int | None, end: int | None) -> float | None:
    return (end - start) / _MS if start is not None and end is not None else None


def _undelivered(half: Half) -> int:
    """Bytes of large packets that its peer never acknowledged, if it sent some again."""
    if not half.retransmitted_bytes or half.next < 0 or half.peer.first_ack is None:
        return 0
    count = min(signed(half.next - half.peer.ack), half.bytes)
    return count if count >= _LARGE else 0


def _missing(half: Half) -> int:
    """Bytes of its stream that the capture does not have."""
    return half.lost_bytes + half.cut_bytes
