"""What a connection cost, as rows of a table: overhead, latency, state, and what went wrong on the way. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from meshtls.capture.analysis.connection import Connection
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.events import MessageSeen, RecordSeen
from meshtls.wire.side import Side
from meshtls.wire.tls import HandshakeType

__all__ = ["State", "failures", "latency", "overhead", "state", "state_of"]

Row = tuple[str, str]
_FAILURES = (
    ("bytes lost", "lost_bytes"),
    ("bytes cut off by the snapshot length", "cut_bytes"),
    ("segments retransmitted", "retransmitted"),
    ("segments out of order", "out_of_order"),
    ("packets captured twice", "duplicated"),
    ("retransmitted with other content", "conflicts"),
    ("duplicate ACKs", "duplicate_acks"),
    ("zero windows", "zero_windows"),
    ("segments outside of the window", "strange"),
)


class State(NamedTuple):
    """What a capture shows of the state that the ends keep, and of the failures of the network; client's first.

    - ``messages``, ``message_bytes``: of the handshake. ``tickets``, ``ticket_bytes``: of session tickets.
    - ``largest``: payload of the largest record, which its receiver buffers until it can authenticate it.
    - ``failures``: title, and the number for each side.
    """

    messages: tuple[int, int]
    message_bytes: tuple[int, int]
    tickets: int
    ticket_bytes: int
    largest: tuple[int, int]
    failures: tuple[tuple[str, int, int], ...]
    dropped: int


def state_of(watched: Watched) -> State:
    """Count it, once the connection is over."""
    session, flow = watched.carried.tls, watched.flow
    sizes: dict[Side, list[int]] = {side: [] for side in Side}
    largest = dict.fromkeys(Side, 0)
    tickets: list[int] = []
    for one in session.events if session is not None else ():
        if isinstance(one, RecordSeen):
            largest[one.side] = max(largest[one.side], one.length)
        elif isinstance(one, MessageSeen):
            fits = tickets if one.kind == HandshakeType.NEW_SESSION_TICKET else sizes[one.side]
            fits.append(len(one.data))
    client, server = sizes[Side.CLIENT], sizes[Side.SERVER]
    return State(
        (len(client), len(server)),
        (sum(client), sum(server)),
        len(tickets),
        sum(tickets),
        (largest[Side.CLIENT], largest[Side.SERVER]),
        tuple((title, getattr(flow.client, name), getattr(flow.server, name)) for title, name in _FAILURES),
        session.events_dropped if session is not None else 0,
    )


def overhead(one: Connection) -> Iterator[Row]:
    """Bytes on the wire, by what they are for."""
    guess, of_rest = ("at most ", "at least ") if one.at_most else ("~", "~") if one.estimated else ("", "")
    # Of synthetic headers no part says anything.
    whole = one.wire_bytes if not one.synthetic else 0
    tcp = one.client.tcp_bytes + one.server.tcp_bytes
    tls = one.client.tls_bytes + one.server.tls_bytes
    yield "bytes on the wire", _bytes(one.wire_bytes) + (", with synthetic headers" if one.synthetic else "")
    if one.synthetic:
        yield "headers of packets, and retransmissions", "unknown: the headers in the file are synthetic"
    else:
        yield "headers of packets, and retransmissions", _part(max(one.wire_bytes - tcp, 0), whole)
    if tls:
        yield (
            "TLS: handshake, headers, tags, alerts",
            of_rest + _part(max(tls - one.application_bytes, 0), whole),
        )
    yield "application data", guess + _part(one.application_bytes, whole)
    none = "unknown" if one.synthetic else "no application data"
    ratio = f"{of_rest}{one.overhead:.2f}" if one.overhead is not None else none
    yield "overhead ratio (other bytes for each byte of application data)", ratio


def latency(one: Connection) -> Iterator[Row]:
    """How long things took."""
    shake = one.handshake
    yield "TCP handshake", _ms(one.tcp_rtt_ms) if not one.synthetic else "unknown: it is synthetic"
    if shake is not None:
        yield "TLS handshake", _ms(shake.ms)
        yield "round trips of the TLS handshake", _known(shake.round_trips)
    yield "first application data after", _ms(one.first_data_ms)
    yield "duration", _ms(one.duration_ms)
    spent = [ms for ms in (one.tcp_rtt_ms, shake.ms if shake is not None else None) if ms is not None]
    if spent and one.duration_ms:
        yield "share of both handshakes in the duration", f"{min(100.0, 100 * sum(spent) / one.duration_ms):.0f} %"


def state(one: Connection, kept: State) -> Iterator[Row]:
    """What the ends keep for it, as far as the capture shows it."""
    shake = one.handshake
    if shake is None:
        yield "TLS state", "none: no TLS"
        return
    hidden = "" if shake.decrypted or shake.version != "TLS 1.3" else " in clear; the others are encrypted"
    for at, side in enumerate(("client", "server")):
        words = f"{kept.messages[at]}, {_bytes(kept.message_bytes[at])}{hidden}"
        yield f"handshake messages of the {side}", words
    tickets = f"{kept.tickets}, {_bytes(kept.ticket_bytes)}" if not hidden else "unknown without keys"
    yield "session tickets for the client to keep", tickets
    yield "session", {"yes": "resumed from an earlier one", "no": "new"}.get(shake.resumed, "unknown")
    yield "largest record that the server buffers", _bytes(kept.largest[0])
    yield "largest record that the client buffers", _bytes(kept.largest[1])
    if shake.state:
        yield "state", shake.state
    if kept.dropped:
        yield "events that were not kept, and are in none of these numbers", str(kept.dropped)


def failures(kept: State) -> Iterator[tuple[str, str, str]]:
    """What the network or the capture did to it: title, the client's, the server's. Zeros are left out."""
    for title, client, server in kept.failures:
        if client or server:
            yield title, str(client), str(server)


def _bytes(number: int) -> str:
    return f"{number} byte{'s' * (number != 1)}"


def _part(number: int, whole: int) -> str:
    return f"{_bytes(number)} ({100 * number / whole:.0f} %)" if whole else _bytes(number)


def _ms(value: float | None) -> str:
    return f"{value:.3f} ms" if value is not None else "not seen"


def _known(value: int | None) -> str:
    return str(value) if value is not None else "not seen"
