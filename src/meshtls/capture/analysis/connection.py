"""The record of one connection: all that a capture says of it, as numbers and printable words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from meshtls.observe.events import Outcome

__all__ = ["Alert", "Connection", "End", "Handshake", "Peer", "Request", "as_json"]


class Peer(msgspec.Struct, frozen=True):
    """The certificates that one side presented.

    - ``spiffe_id``: as the leaf claims it; "" where it has none.
    - ``certificates``: how many.
    - ``verified``: None where no bundle was given, or none of its trust domain, which ``unverified_because`` then says.
      ``why_refused``: why the chain is refused.
    """

    spiffe_id: str
    certificates: int
    verified: bool | None = None
    why_refused: str = ""
    refused_as: Outcome | None = None
    unverified_because: str = ""


class Handshake(msgspec.Struct, frozen=True):
    """A TLS handshake. Text is "" and a number is None where the capture does not show it.

    - ``group``: of the key exchange. ``post_quantum``: whether it has ML-KEM or Kyber in it.
    - ``alpn``: the protocol that was chosen; ``offered_alpn`` those of the ClientHello.
    - ``mutual``, ``mutual_reason``: whether the client presented a certificate ("yes", "no", "unknown"), and why so.
      ``mutual_likely``: what the lengths of records suggest.
    - ``resumed``: "yes", "no" or "unknown". ``retried``: there was a HelloRetryRequest.
    - ``complete``: whether both sides finished. ``inferred``: known from the types and lengths of encrypted records
      only.
    - ``ms``: from the ClientHello to the last message that has to come before application data of the client.
    - ``round_trips``: flights of the client that it had to wait for an answer to.
    - ``decrypted``: with keys. ``state``: the last state of the connection, or what was illegal in it.
    """

    version: str = ""
    suite: str = ""
    group: str = ""
    post_quantum: bool | None = None
    server_name: str = ""
    alpn: str = ""
    offered_alpn: tuple[str, ...] = ()
    mutual: str = "unknown"
    mutual_likely: str = "unknown"
    mutual_reason: str = ""
    resumed: str = "unknown"
    retried: bool = False
    complete: bool = False
    inferred: bool = False
    ms: float | None = None
    round_trips: int | None = None
    decrypted: bool = False
    state: str = ""
    legal: bool | None = None

    @property
    def mutual_shown(self) -> str:
        """Whether it was mutual, for people: "likely yes" or "likely no" where signs alone say it."""
        is_likely = self.mutual == "unknown" and self.mutual_likely != "unknown"
        return f"likely {self.mutual_likely}" if is_likely else self.mutual


class Alert(msgspec.Struct, frozen=True):
    """An alert. ``name`` is "" of one that is encrypted. ``ms``: since the first packet.

    ``fatal``: whether it ends the connection: by its level in TLS 1.2, and in TLS 1.3 all but close_notify and
    user_canceled (RFC 8446, section 6). None of one that is encrypted.
    """

    side: str
    name: str
    ms: float | None
    fatal: bool | None = None


class Request(msgspec.Struct, frozen=True):
    """An HTTP request that was seen in clear or decrypted. ``grpc``: its service and method, if it is one of gRPC."""

    method: str
    target: str
    status: int
    grpc: str = ""
    grpc_status: int | None = None


class End(msgspec.Struct, frozen=True):
    """One end of a connection: its address, and what it sent.

    - ``wire_bytes``: packets with all headers. ``tcp_bytes``: the stream. ``tls_bytes``: records with their headers.
    - ``application_bytes``: of the app; where records are not in the capture, at most. ``lost_bytes``: not captured.
    - ``retransmitted``, ``out_of_order``: packets. ``duplicated``: packets that are in the capture twice, and were sent
      once; they count once.
    - ``ending``: how its direction ended. ``cut_bytes``: cut off by the snapshot length. ``conflicts``, ``strange``: as
      ``Half`` counts them.
    """

    address: str
    packets: int
    wire_bytes: int
    tcp_bytes: int
    tls_bytes: int
    application_bytes: int
    retransmitted: int
    out_of_order: int
    lost_bytes: int
    ending: str
    cut_bytes: int = 0
    conflicts: int = 0
    strange: int = 0
    duplicated: int = 0
    peer: Peer | None = None


class Connection(msgspec.Struct, frozen=True):
    """One TCP connection.

    - ``number``: counts from 1 in the order of first packets. ``start_ns``: since the epoch.
    - ``roles_guessed``: which end is the client is guessed by the ports, since neither its SYN, nor bytes that only one
      of the two sends, nor another connection to the same server were captured.
    - ``protocol``: "TLS", "HTTP/1.1", "HTTP/2", "other" or "nothing". ``first_line``: of plaintext.
    - ``preamble``: what came before the protocol, such as a PROXY protocol header, or SMTP with STARTTLS.
    - ``synthetic``: the headers of TCP and IP are invented: ``tcp_rtt_ms`` and ``overhead`` are None, and packets and
      ``wire_bytes`` count those headers.
    - ``tcp_rtt_ms``: from SYN to the ACK that completes TCP's handshake.
    - ``first_data_ms``: from the first packet to the first application data.
    - ``estimated``: application bytes are computed from the lengths of encrypted records. ``at_most``: these look
      padded, and the padding is counted, too, or one of them may be a session ticket: there are no more application
      bytes than that.
    - ``overhead``: bytes on the wire that are not application data, for each byte that is; at least that many where
      ``at_most`` is true.
    - ``connection_id``: by which sidecars log it; "" without a ClientHello.
    - ``outcome``: None where the capture does not prove it: ``problem`` or ``unknown_because`` says why.
    - ``problem``: the first thing that went wrong, or likely did; ``advice``: what to do.
    """

    number: int
    start_ns: int
    duration_ms: float
    client: End
    server: End
    protocol: str
    first_line: str = ""
    preamble: str = ""
    from_start: bool = True
    roles_guessed: bool = False
    connection_id: str = ""
    handshake: Handshake | None = None
    tcp_rtt_ms: float | None = None
    first_data_ms: float | None = None
    estimated: bool = False
    at_most: bool = False
    overhead: float | None = None
    alerts: tuple[Alert, ...] = ()
    requests: tuple[Request, ...] = ()
    requests_left_out: int = 0
    troubles: tuple[str, ...] = ()
    outcome: Outcome | None = None
    problem: str = ""
    advice: str = ""
    unknown_because: str = ""
    synthetic: bool = False

    @property
    def application_bytes(self) -> int:
        """The sum of both sides."""
        return self.client.application_bytes + self.server.application_bytes

    @property
    def wire_bytes(self) -> int:
        """The sum of both sides."""
        return self.client.wire_bytes + self.server.wire_bytes


def as_json(connection: Connection) -> dict[str, Any]:
    """The record for programs: an Outcome as its name, and beside it ``verdict`` and ``outcome_words``."""
    record: dict[str, Any] = msgspec.to_builtins(connection)
    for side, end in (("client", connection.client), ("server", connection.server)):
        if end.peer is not None:
            record[side]["peer"]["refused_as"] = end.peer.refused_as.name if end.peer.refused_as else None
    record |= _TOLD[connection.outcome]
    return record


#: What a record says of an outcome. The name and the value of a member of an Enum are looked up in Python.
_TOLD: Mapping[Outcome | None, Mapping[str, str | None]] = {
    None: {"verdict": None, "outcome": None, "outcome_words": ""},
    **{one: {"verdict": one.verdict.value, "outcome": one.name, "outcome_words": one.value} for one in Outcome},
}
