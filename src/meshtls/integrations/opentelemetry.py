"""OpenTelemetry's spans of the handshakes of ``dial`` and ``listen``, by the API that the program has set up.

``trace_handshakes()`` once, at the start. It needs ``pip install 'meshtls[otel]'``, and a provider of the program's for
the spans to go anywhere. The span of a ``dial`` is a child of the span that is current where it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

from meshtls.observe.events import Outcome
from meshtls.printable import printable
from meshtls.tls.handshakes import Handshake, observe_handshakes

__all__ = ["trace_handshakes"]

#: Characters of a text in a span.
_LONGEST = 1024


def trace_handshakes(provider: TracerProvider | None = None) -> Callable[[], None]:
    """From now on, one span for each handshake of this process, until what is returned is called.

    ``provider``: OpenTelemetry's global one, unless given. Names and attributes are those of a sidecar's spans: the
    connection is ``dial`` or ``accept``, ``meshtls.outcome`` as in its access log. No key, token or byte of the
    connection is in a span.
    """
    tracer = get_tracer("meshtls", tracer_provider=provider)

    def tell(handshake: Handshake) -> None:
        name, kind = ("dial", SpanKind.CLIENT) if handshake.dialled else ("accept", SpanKind.SERVER)
        attributes = dict(_attributes(handshake))
        span = tracer.start_span(name, kind=kind, attributes=attributes, start_time=handshake.began)
        if handshake.outcome is not Outcome.OK:
            why = printable(f"{handshake.outcome.name}: {handshake.detail}"[:_LONGEST])
            span.set_status(Status(StatusCode.ERROR, why))
        span.end(handshake.ended)

    return observe_handshakes(tell)


def _attributes(handshake: Handshake) -> Iterator[tuple[str, str | int]]:
    side = "server" if handshake.dialled else "network.peer"
    if handshake.host:
        yield f"{side}.address", printable(handshake.host[:_LONGEST])
        yield f"{side}.port", handshake.port
    yield "meshtls.outcome", handshake.outcome.name
    yield "meshtls.verdict", handshake.outcome.verdict.value
    if handshake.peer is not None:
        yield f"meshtls.{'destination' if handshake.dialled else 'source'}.id", str(handshake.peer)
    if handshake.outcome is not Outcome.OK:
        yield "error.type", handshake.outcome.name
