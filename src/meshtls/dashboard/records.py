"""The records that the dashboard takes from a process: their members, their types and their longest texts. Pure.

Whatever answers at an admin socket may send anything. ``dashboard/reading.py`` makes these records of it, once, where
it enters: a record with another type is refused, a longer text or list of texts is cut, and a member that is not named
here is left out. A member that is not ``Required`` may be missing, since a process of another version may not have it.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, Required, TypedDict

from msgspec import Meta

__all__ = ["PAGES", "Connections", "Event", "Line", "Live", "Page", "Svid"]

#: A SPIFFE ID has at most 2048 bytes (SPIFFE-ID, section 2.3), and so has a path in a record of a request.
Id = Annotated[str, Meta(max_length=2048)]
Text = Annotated[str, Meta(max_length=2048)]
Short = Annotated[str, Meta(max_length=512)]
Name = Annotated[str, Meta(max_length=256)]
Word = Annotated[str, Meta(max_length=128)]
#: The bytes of one message of a handshake (``wire/transcript.py``) in hexadecimal.
Hex = Annotated[str, Meta(max_length=16384, pattern="^(?:[0-9a-f]{2})*$")]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Number = Annotated[int, Meta(ge=-(2**53), le=2**53)]
Real = Annotated[float, Meta(ge=-1e15, le=1e15)]
_FEW, _SOME, _MANY = 32, 1000, 20_000


class _Facts(TypedDict, total=False):
    """What the records of live and ended connections and of requests have in common."""

    event: Word
    connection_id: Word
    sidecar: Name
    direction: Word
    state: Word
    time: Word
    started: Word
    verdict: Word
    outcome: Word
    reason: Text
    detail: Text
    remote: Name
    port: Count
    security: Word | None
    tls_version: Word | None
    cipher_suite: Word | None
    local_serial: Word | None
    peer_serial: Word | None
    alert_sent: Word | None
    alert_received: Word | None
    policy: Name | None
    rule: Name | None
    clause: Text | None
    shadow: Annotated[list[Short], Meta(max_length=_FEW)]
    tunnel: bool
    resumed: bool
    bytes_in: Count
    bytes_out: Count
    seconds: Real
    total_ms: Real
    detect_ms: Real | None
    handshake_ms: Real | None
    connect_ms: Real | None
    method: Word
    host: Name
    path: Text
    status: Number


class Line(_Facts, total=False):
    """A connection or a request that ended."""

    number: Count
    source_id: Id | None
    destination_id: Id | None


class Live(_Facts, total=False):
    """A connection that lives."""

    number: Required[Count]
    source_id: Required[Id | None]
    destination_id: Required[Id | None]


class Event(TypedDict, total=False):
    """A record of ``/tap`` that is no connection and no request."""

    event: Required[Word]
    count: Count


class Connections(TypedDict, total=False):
    """The page ``/connections``."""

    live: Annotated[list[Live], Meta(max_length=_MANY)]
    ended: Annotated[list[Line], Meta(max_length=_MANY)]
    requests: Annotated[list[Line], Meta(max_length=_MANY)]


class Info(TypedDict, total=False):
    """The page ``/server_info``."""

    kind: Required[Literal["sidecar", "agent", "server"]]
    name: Name
    server_id: Name
    spiffe_id: Id | None
    state: Word
    version: Word
    openssl: Word
    pid: Count
    started: Word


class Ready(TypedDict, total=False):
    """The page ``/ready``."""

    ready: Required[bool]
    text: Text


class Logging(TypedDict, total=False):
    """The page ``/logging``."""

    level: Word | None


class Certificate(TypedDict, total=False):
    """A certificate of ``/certs``."""

    subject: Required[Text]
    issuer: Text
    serial: Word
    not_after: Word
    sha256: Required[Word]


class Link(TypedDict, total=False):
    """A certificate of a chain, whose issuer is looked for."""

    subject: Required[Text]
    issuer: Required[Text]
    serial: Word
    not_after: Word
    sha256: Word


class Svid(TypedDict, total=False):
    """An SVID of ``/certs``."""

    spiffe_id: Required[Id]
    serial: Required[Word]
    not_before: Required[Word]
    not_after: Required[Word]
    hint: Name
    chain: Annotated[list[Link], Meta(max_length=_FEW)]


class Bundle(TypedDict, total=False):
    """A bundle of ``/certs``."""

    trust_domain: Required[Name]
    x509_authorities: Required[Annotated[list[Certificate], Meta(max_length=_SOME)]]


class Holder(TypedDict, total=False):
    """What an agent or a server holds for itself."""

    missing: Text
    svids: Annotated[list[Svid], Meta(max_length=_MANY)]
    bundles: Annotated[list[Bundle], Meta(max_length=_MANY)]


class Certs(Holder, total=False):
    """The page ``/certs``."""

    agent: Holder
    server: Holder
    workloads: Annotated[list[Svid], Meta(max_length=_MANY)]
    tainted: Annotated[list[Word], Meta(max_length=_SOME)]


class Edge(TypedDict):
    """An edge of ``/graph``."""

    source_id: Id
    destination_id: Id
    reporter: Literal["source", "destination"]
    connections: Count
    allowed: Count
    denied: Count
    failed: Count
    mutual_tls: Count
    tls: NotRequired[Count]
    plaintext: NotRequired[Count]
    requests: Count
    denied_requests: NotRequired[Count]
    failed_requests: Count
    request_ms: Real | None
    bytes_in: Count
    bytes_out: Count
    connections_per_second: Real
    requests_per_second: Real


class Graph(TypedDict, total=False):
    """The page ``/graph``."""

    edges: Annotated[list[Edge], Meta(max_length=_MANY)]


class Rule(TypedDict, total=False):
    """A policy row of a listener."""

    policy: Name
    rule: Name | None
    action: Word
    provider: Name | None
    dry_run: bool
    file: Text
    line: Number


class Listener(TypedDict, total=False):
    """An inbound listener of ``/policies``. ``allow`` is None where rules judge."""

    listen: Name
    app: Name
    mode: Word
    allow: Annotated[list[Id], Meta(max_length=_MANY)] | None
    rules: Annotated[list[Rule], Meta(max_length=_MANY)]


class Entry(TypedDict, total=False):
    """A registration entry, as an agent has it."""

    entry: Name
    spiffe_id: Id
    selectors: Annotated[list[Text], Meta(max_length=_SOME)]
    serial: Word | None
    renewal_due: Word | None
    last_error: Text | None


class Policies(TypedDict, total=False):
    """The page ``/policies`` of a sidecar, or of an agent."""

    generation: Number | None
    not_taken: Text | None
    listeners: Annotated[list[Listener], Meta(max_length=_SOME)]
    entries: Annotated[list[Entry], Meta(max_length=_MANY)]


class Routes(TypedDict, total=False):
    """The page ``/routes`` of a server."""

    federates_with: Annotated[list[Text], Meta(max_length=_SOME)]


class Message(TypedDict):
    """One message of a handshake, or an alert."""

    sent: bool
    alert: bool
    type: Annotated[int, Meta(ge=0, le=255)]
    length: Count
    hex: Hex


class Handshake(TypedDict):
    """One of ``/handshakes``."""

    connection_id: Word
    direction: Literal["inbound", "outbound"]
    ended: Word
    finished: bool
    messages: Annotated[list[Message], Meta(max_length=_FEW)]


class Handshakes(TypedDict, total=False):
    """``/handshakes``."""

    handshakes: Annotated[list[Handshake], Meta(max_length=_FEW)]


Page = Info | Ready | Logging | Certs | Graph | Policies | Routes | Handshakes
#: The record of each page that the dashboard asks for.
PAGES: dict[str, type] = {
    "/server_info": Info,
    "/ready": Ready,
    "/certs": Certs,
    "/graph": Graph,
    "/policies": Policies,
    "/logging": Logging,
    "/routes": Routes,
    "/handshakes": Handshakes,
    "/connections": Connections,
}
