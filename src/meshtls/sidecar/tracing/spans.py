"""What a span says: its name, times and attributes, of a connection, of its phases and of an HTTP request. Pure.

Names without ``meshtls.`` are those of OpenTelemetry's semantic conventions. A request's query is left out, since
tokens are found there, and so is every header. Texts that come from outside are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import msgspec

from meshtls.observe.events import ConnectionResult, Direction, Outcome, RequestResult, Ruled, Security, Verdict
from meshtls.printable import printable
from meshtls.wire.trace_context import SpanContext

__all__ = [
    "Attributes",
    "Kind",
    "Link",
    "Span",
    "attributes_of_connection",
    "attributes_of_request",
    "attributes_of_ruling",
    "error_of",
    "kind_of",
    "name_of_connection",
    "name_of_request",
]

#: Characters of one attribute's text.
_LONGEST = 1024
_SERVER_ERROR = 500
#: Those of RFC 9110 and PATCH; others are not in a span's name (HTTP semantic conventions).
_METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"))
_OTHER = "_OTHER"


class Kind(IntEnum):
    """On which side of a call it is."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


class Link(NamedTuple):
    """A link to a span that is no parent."""

    trace_id: bytes
    span_id: bytes


Value = str | bool | int | float
Attributes = tuple[tuple[str, Value], ...]


class Span(msgspec.Struct, frozen=True):
    """``began`` and ``ended`` are nanoseconds since 1970. ``error`` is why it failed; None where it did not."""

    context: SpanContext
    name: str
    kind: Kind
    began: int
    ended: int
    attributes: Attributes = ()
    error: str | None = None
    links: tuple[Link, ...] = ()


def attributes_of_connection(result: ConnectionResult) -> Iterator[tuple[str, Value]]:
    """What is said of a connection, or of a stream of a tunnel."""
    yield "meshtls.sidecar", result.sidecar
    yield "meshtls.direction", result.direction.value
    yield "meshtls.connection.id", result.connection_id
    yield "meshtls.tunnel", result.tunnel
    yield "meshtls.outcome", result.outcome.name
    yield "meshtls.verdict", result.verdict.value
    yield "meshtls.bytes_in", result.bytes_in
    yield "meshtls.bytes_out", result.bytes_out
    yield from _identities(result.source_id, result.destination_id)
    yield from _address("network.peer", result.remote)
    if result.security is not None:
        yield "meshtls.security", result.security.value
    if result.tls_version is not None:
        name, _, version = result.tls_version.partition("v")
        yield "tls.protocol.name", name.lower()
        yield "tls.protocol.version", version
        yield "tls.resumed", result.resumed
    if result.cipher_suite is not None:
        yield "tls.cipher", result.cipher_suite
    for name, alert in (("sent", result.alert_sent), ("received", result.alert_received)):
        if alert is not None:
            yield f"meshtls.alert.{name}", alert
    if result.outcome is not Outcome.OK:
        yield "error.type", result.outcome.name


def attributes_of_request(result: RequestResult, *, grpc: bool) -> Iterator[tuple[str, Value]]:
    """What is said of an HTTP request. ``grpc``: it is a call of gRPC."""
    context, path = result.context, result.path.partition("?")[0]
    yield "meshtls.sidecar", context.sidecar
    yield "meshtls.connection.id", context.connection_id
    yield "meshtls.outcome", context.outcome.name
    yield "meshtls.verdict", context.outcome.verdict.value
    yield "meshtls.security", context.security.value
    yield from _identities(context.source_id, context.destination_id)
    yield from _address("network.peer", context.remote)
    known = result.method in _METHODS
    yield "http.request.method", result.method if known else _OTHER
    if not known:
        yield "http.request.method_original", _cut(result.method)
    yield "url.path", _cut(path)
    yield "url.scheme", "http" if context.security is Security.PLAINTEXT else "https"
    yield from _address("server", result.host)
    if result.status:
        yield "http.response.status_code", result.status
    if grpc:
        yield "rpc.system.name", "grpc"
        yield "rpc.method", _cut(path.removeprefix("/"))
    if context.outcome is not Outcome.OK:
        yield "error.type", context.outcome.name
    elif not _SERVER_ERROR > result.status > 0:
        yield "error.type", str(result.status or "no answer")


def name_of_request(result: RequestResult) -> str:
    """A span's name, by the method alone: no route is known here, and a path would make names without number."""
    return "HTTP" if result.method not in _METHODS else result.method


def error_of(outcome: Outcome, detail: str, status: int | None = None) -> str | None:
    """Why it failed; None where it did not. ``status`` is that of a request's answer: the server is at fault from 500
    on, and where there is none.
    """
    if outcome is not Outcome.OK:
        return _cut(f"{outcome.name}: {printable(detail)}")
    return None if status is None or _SERVER_ERROR > status > 0 else f"status {status}" if status else "no answer"


def attributes_of_ruling(by: Ruled, verdict: Verdict) -> Iterator[tuple[str, Value]]:
    """What policies said. The clause is named for a denial only: it takes long to find."""
    if by.policy is not None:
        yield "meshtls.policy", by.policy
    if by.rule is not None:
        yield "meshtls.rule", by.rule
    if verdict is Verdict.DENIED and by.clause is not None:
        yield "meshtls.clause", _cut(by.clause)


def name_of_connection(result: ConnectionResult, *, carries: bool) -> str:
    """``carries``: it is a tunnel."""
    return f"{result.direction.value} {'tunnel' if carries else 'stream' if result.tunnel else 'connection'}"


def kind_of(direction: Direction) -> Kind:
    return Kind.SERVER if direction is Direction.INBOUND else Kind.CLIENT


def _identities(source: object, destination: object) -> Iterator[tuple[str, Value]]:
    if source is not None:
        yield "meshtls.source.id", str(source)
    if destination is not None:
        yield "meshtls.destination.id", str(destination)


def _address(name: str, text: str) -> Iterator[tuple[str, Value]]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not port.isascii():
        host, port = text, ""
    if host:
        yield f"{name}.address", _cut(host.strip("[]"))
    if port:
        yield f"{name}.port", int(port[:5])


def _cut(text: str) -> str:
    return printable(text[:_LONGEST])
