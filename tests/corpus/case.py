"""What a case of the corpus is: how its capture is made, and what has to be told of its connection."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.bundles import CaptureBundle
from meshtls.capture.analysis.connection import Connection, End
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.keylog import KeyLog
from meshtls.observe.events import Outcome

__all__ = ["CLIENT_ID", "OK", "SERVER_ID", "Case", "Made", "Read", "Told", "read", "told"]

CLIENT_ID, SERVER_ID = "spiffe://a.test/client", "spiffe://a.test/web"
OK = Outcome.OK


#: A size or an offset: not a port or a byte of an address.
_SIZE = re.compile(r"\d{1,20}(?= bytes)|(?<=byte )\d{1,20}")


class Made(NamedTuple):
    """A capture file, and what its reader is given beside it: a key log and a bundle, empty for none."""

    data: bytes
    keys: bytes = b""
    bundle: bytes = b""


@dataclass(frozen=True, slots=True)
class Told:
    """The record of a connection, but for times and sizes. Pairs are of the client and the server.

    The defaults are those of a decrypted session of TLS 1.3 in which both present a certificate, with one request: a
    case of the table names only what is different in it.
    """

    protocol: str = "TLS"
    version: str = "TLS 1.3"
    suite: str = "TLS_AES_256_GCM_SHA384"
    group: str = "x25519"
    server_name: str = "web.test"
    alpn: str = ""
    offered_alpn: tuple[str, ...] = ()
    mutual: str = "yes"
    resumed: str = "no"
    retried: bool = False
    complete: bool = True
    decrypted: bool = True
    legal: bool | None = True
    ids: tuple[str, str] = (CLIENT_ID, SERVER_ID)
    verified: tuple[bool | None, bool | None] = (None, None)
    alerts: tuple[str, ...] = ("client close_notify", "server close_notify")
    requests: tuple[str, ...] = ("GET /pay 200",)
    outcome: Outcome | None = OK
    problem: str = ""
    unknown_because: str = ""
    from_start: bool = True
    lost: tuple[int, int] = (0, 0)
    retransmitted: tuple[int, int] = (0, 0)
    out_of_order: tuple[int, int] = (0, 0)
    ends: tuple[str, str] = ("closed", "closed")
    troubles: tuple[str, ...] = ()


class Case(NamedTuple):
    """One capture.

    - ``make`` writes what it needs, such as keys, into the directory that it is given.
    - ``breaks``: why the file breaks, "" for a whole file.
    - ``tshark``: the fields of which tshark tells something else, and why it does.
    - ``sizes_vary``: the sizes in problem and troubles depend on the lengths of ECDSA signatures: N stands for them.
    """

    make: Callable[[Path], Made]
    told: Told = Told()
    breaks: str = ""
    tshark: Mapping[str, str] = {}
    sizes_vary: bool = False


@dataclass(slots=True)
class Read:
    """What our analysis makes of a capture."""

    records: list[Connection] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)
    breaks: str = ""


def read(made: Made) -> Read:
    """Analyze the capture, as ``meshtls capture analyze`` does."""
    keys = KeyLog(made.keys) if made.keys else None
    bundle = CaptureBundle(made.bundle) if made.bundle else None
    found = Read()
    analysis = Analysis(io.BytesIO(made.data), keys, bundle, keep=found.watched.append)
    found.records = list(analysis)
    found.breaks = analysis.error.words if analysis.error is not None else ""
    return found


def told(record: Connection, *, sizes_vary: bool = False) -> Told:
    """The record, in a row of the table. ``sizes_vary``: as the case has it."""

    def words(text: str) -> str:
        return _SIZE.sub("N", text) if sizes_vary else text

    ends: tuple[End, End] = (record.client, record.server)
    shake = record.handshake
    ids = [end.peer.spiffe_id if end.peer is not None else "" for end in ends]
    verified = [end.peer.verified if end.peer is not None else None for end in ends]
    return Told(
        protocol=record.protocol,
        version=shake.version if shake else "",
        suite=shake.suite if shake else "",
        group=shake.group if shake else "",
        server_name=shake.server_name if shake else "",
        alpn=shake.alpn if shake else "",
        offered_alpn=shake.offered_alpn if shake else (),
        mutual=shake.mutual if shake else "",
        resumed=shake.resumed if shake else "",
        retried=bool(shake and shake.retried),
        complete=bool(shake and shake.complete),
        decrypted=bool(shake and shake.decrypted),
        legal=shake.legal if shake else None,
        ids=(ids[0], ids[1]),
        verified=(verified[0], verified[1]),
        alerts=tuple(f"{alert.side} {alert.name or 'encrypted'}" for alert in record.alerts),
        requests=tuple(
            " ".join(filter(None, (one.method, one.target, str(one.status), one.grpc))) for one in record.requests
        ),
        outcome=record.outcome,
        problem=words(record.problem),
        unknown_because=record.unknown_because,
        from_start=record.from_start,
        lost=(ends[0].lost_bytes, ends[1].lost_bytes),
        retransmitted=(ends[0].retransmitted, ends[1].retransmitted),
        out_of_order=(ends[0].out_of_order, ends[1].out_of_order),
        ends=(ends[0].ending, ends[1].ending),
        troubles=tuple(map(words, record.troubles)),
    )
