"""Spans as an OTLP request over HTTP, in protobuf (OTLP 1.0). Needs opentelemetry-proto: the extra ``otel``.

The messages are OpenTelemetry's own. Its SDK is not used: it times spans and chooses their IDs by itself, where ours
are made from events after the fact and their IDs were told to apps and peers before; and its exporter blocks a thread,
counts nothing that it drops, and says why it failed to its own log alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from meshtls.sidecar.tracing.spans import Attributes, Kind, Span

__all__ = ["Encoder", "rejected"]

_KINDS: dict[Kind, OtlpSpan.SpanKind.ValueType] = {
    Kind.INTERNAL: OtlpSpan.SPAN_KIND_INTERNAL,
    Kind.SERVER: OtlpSpan.SPAN_KIND_SERVER,
    Kind.CLIENT: OtlpSpan.SPAN_KIND_CLIENT,
}
_INSTANCE_BYTES = 16


class Encoder:
    """``attributes`` are those of the resource, which has an ``service.instance.id`` of its own for each process."""

    def __init__(self, service_name: str, attributes: Attributes = ()) -> None:
        instance = ("service.instance.id", os.urandom(_INSTANCE_BYTES).hex())
        of_resource = (("service.name", service_name), instance, *attributes)
        self._resource = Resource(attributes=_key_values(of_resource))
        self._scope = InstrumentationScope(name="meshtls.sidecar")

    def __call__(self, spans: Iterable[Span]) -> bytes:
        """The body of a request to ``/v1/traces``."""
        scope = ScopeSpans(scope=self._scope, spans=map(_span, spans))
        found = ResourceSpans(resource=self._resource, scope_spans=[scope])
        return ExportTraceServiceRequest(resource_spans=[found]).SerializeToString()


def rejected(body: bytes) -> tuple[int, str]:
    """How many spans a collector refused that answered 200, and why, as it says (``partial_success``).

    Raises ValueError for a body that is no such answer.
    """
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError as error:
        raise ValueError("wanted an ExportTraceServiceResponse in protobuf") from error
    return max(partial.rejected_spans, 0), partial.error_message


def _span(one: Span) -> OtlpSpan:
    context = one.context
    return OtlpSpan(
        trace_id=context.trace_id,
        span_id=context.span_id,
        parent_span_id=context.parent_id,
        trace_state=context.state,
        flags=context.flags,
        name=one.name,
        kind=_KINDS[one.kind],
        start_time_unix_nano=one.began,
        end_time_unix_nano=one.ended,
        attributes=_key_values(one.attributes),
        links=[OtlpSpan.Link(trace_id=link.trace_id, span_id=link.span_id) for link in one.links],
        status=None if one.error is None else Status(code=Status.STATUS_CODE_ERROR, message=one.error),
    )


def _key_values(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in attributes]


def _value(value: str | bool | int | float) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
