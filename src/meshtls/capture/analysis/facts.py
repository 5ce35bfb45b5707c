"""What judging a connection needs, and what it gives. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from meshtls.capture.analysis.connection import Alert, Handshake, Peer
from meshtls.capture.analysis.progress import Progress
from meshtls.capture.analysis.server_data import ServerData
from meshtls.observe.events import Outcome

__all__ = ["Facts", "Judgement"]


class Facts(msgspec.Struct, frozen=True, gc=False):
    """Times are in milliseconds since the first packet. Pairs are of the client and the server.

    - ``client``, ``server``: who they are, in words. ``server_address``: HOST:PORT; ``server_is_local``: of the
      loopback interface.
    - ``ends``: for each side "closed", "reset", or "" (not seen to end).
    - ``first_ended``: "client", "server" or ""; ``ended_ms``: when. ``open_because``: why a side was not seen to end.
    - ``reset_by``: whose RST ended the connection, or the rest of it: "client", "server" or "".
    - ``notified``: the last record of this side was close_notify, or, encrypted, has the length of an alert.
    - ``sent``, ``useful``: bytes of TCP, and of application data. ``after_header``: the client sent a PROXY protocol
      header first, which ``sent`` does not count.
    - ``answered``: the server accepted the TCP connection. ``syns``: how many packets the client sent;
      ``duration_ms``: until the last packet of both.
    - ``hidden``: the handshake was complete, and nothing that the server encrypted was decrypted. ``done_ms``: when.
      ``server_data``: then, what lengths show of the server's application data.
    - ``without_secrets``: there is a key log, which has none of this connection.
    - ``renegotiation``: sides that sent encrypted messages of a further handshake.
    - ``progress``: how far an incomplete handshake came.
    - ``server_alert``: the server answered plaintext with a TLS alert. ``server_answer``: what it answered TLS with,
      where that is no TLS.
    - ``undelivered``: of each side, bytes in large packets that the other side never acknowledged, of a side that sent
      some again; 0 where there are none.
    - ``lost``: bytes that are not in the capture. ``left_out``: there was no memory for all that was seen.
    - ``from_start``: it was captured from its start, and so was what is spoken, if that is not known otherwise.
    - ``midway``: the records of TLS that was captured from its middle, in words, or "".
    - ``connection_id``: as sidecars log it, or "".
    """

    client: str
    server: str
    server_address: str
    server_is_local: bool
    protocol: str
    first_line: str
    handshake: Handshake | None
    alerts: tuple[Alert, ...]
    ends: tuple[str, str]
    first_ended: str
    ended_ms: float | None
    open_because: str
    reset_by: str
    notified: tuple[bool, bool]
    sent: tuple[int, int]
    after_header: bool
    answered: bool
    syns: int
    duration_ms: float
    useful: tuple[int, int]
    hidden: bool
    without_secrets: bool
    server_data: ServerData
    done_ms: float | None
    renegotiation: frozenset[str]
    progress: Progress | None
    server_alert: str
    server_answer: str
    peers: tuple[Peer | None, Peer | None]
    undelivered: tuple[int, int]
    lost: tuple[int, int]
    from_start: bool
    left_out: bool
    midway: str
    connection_id: str

    def who(self, side: str) -> str:
        """A side, in words."""
        return f"the {side} {self.client if side == 'client' else self.server}"

    def how(self, side: str) -> str:
        """How it ended."""
        return self.ends[0 if side == "client" else 1]

    def peer(self, side: str) -> Peer | None:
        """What it presented."""
        return self.peers[0 if side == "client" else 1]


class Judgement(NamedTuple):
    """How a connection ended. ``outcome`` None: the capture does not show it, and ``problem`` or ``unknown_because``
    says why.

    ``problem``: what went wrong, or likely did. ``advice``: what to do about it.
    """

    outcome: Outcome | None
    problem: str = ""
    advice: str = ""
    unknown_because: str = ""
