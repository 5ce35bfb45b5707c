"""Spans of the handshakes of ``dial`` and ``listen``, by OpenTelemetry's SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from meshtls.bundle import BundleSet
from meshtls.errors import NotAuthorizedError
from meshtls.integrations.opentelemetry import trace_handshakes
from meshtls.policy.authorizer import authorize_any, authorize_id
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.tls.handshakes import Handshake, observe_handshakes
from meshtls.tls.streams import dial, listen
from tests.support.authority import make_authority, svid_for
from tests.support.ports import free_ports
from tests.support.waiting import until

AUTHORITY = make_authority("a.test")
WEB, DB, OTHER = (SpiffeId.parse(f"spiffe://a.test/{name}") for name in ("web", "db", "other"))


def source(spiffe_id: SpiffeId) -> ConstantSource:
    return ConstantSource(X509Context(1, (svid_for(AUTHORITY, spiffe_id),), BundleSet([AUTHORITY.bundle])))


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def exported(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    stop = trace_handshakes(provider)
    yield exporter
    stop()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    [found] = [one for one in exporter.get_finished_spans() if one.name == name]
    return found


async def test_both_sides_have_a_span_and_that_of_dial_is_a_child_of_the_current_one(
    provider: TracerProvider, exported: InMemorySpanExporter
) -> None:
    async with await listen("127.0.0.1", 0, source(DB), authorize_id(WEB), serve) as listener:
        host, port = listener.address
        with provider.get_tracer("app").start_as_current_span("work") as work:
            _, writer = await dial(host, port, source(WEB), authorize_id(DB))
        ours = writer.get_extra_info("sockname")
        await until(lambda: len(exported.get_finished_spans()) == 3)
        writer.close()
    dialled, accepted = named(exported, "dial"), named(exported, "accept")
    assert (dialled.kind, accepted.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert dialled.parent is not None
    assert dialled.parent.span_id == work.get_span_context().span_id
    assert dict(dialled.attributes or {}) == {
        "server.address": host,
        "server.port": port,
        "meshtls.outcome": "OK",
        "meshtls.verdict": "allowed",
        "meshtls.destination.id": str(DB),
    }
    assert dict(accepted.attributes or {}) == {
        "network.peer.address": ours[0],
        "network.peer.port": ours[1],
        "meshtls.outcome": "OK",
        "meshtls.verdict": "allowed",
        "meshtls.source.id": str(WEB),
    }
    for span in (dialled, accepted):
        assert span.status.status_code is StatusCode.UNSET
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


async def test_a_failed_handshake_has_its_outcome_and_the_reason(exported: InMemorySpanExporter) -> None:
    async with await listen("127.0.0.1", 0, source(DB), authorize_any(), serve) as listener:
        with pytest.raises(NotAuthorizedError):
            await dial(*listener.address, source(WEB), authorize_id(OTHER))
        await until(lambda: len(exported.get_finished_spans()) == 2)
    dialled = named(exported, "dial")
    assert dialled.status.status_code is StatusCode.ERROR
    assert str(dialled.status.description).startswith(f"POLICY_DENIED: the server is {DB}; expected: {OTHER}")
    assert (dialled.attributes or {})["error.type"] == "POLICY_DENIED"
    assert "meshtls.destination.id" not in (dialled.attributes or {})


async def test_a_server_that_is_down_has_a_span(exported: InMemorySpanExporter) -> None:
    (down,) = free_ports(1)
    with pytest.raises(ConnectionRefusedError):
        await dial("127.0.0.1", down, source(WEB), authorize_any())
    assert (named(exported, "dial").attributes or {})["meshtls.outcome"] == "CONNECT_FAILED"


async def test_without_tracing_there_is_no_span(provider: TracerProvider) -> None:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_handshakes(provider)()
    async with await listen("127.0.0.1", 0, source(DB), authorize_any(), serve) as listener:
        _, writer = await dial(*listener.address, source(WEB), authorize_any())
        writer.close()
    assert exporter.get_finished_spans() == ()


async def test_an_observer_that_fails_breaks_no_handshake(caplog: pytest.LogCaptureFixture) -> None:
    def fails(handshake: Handshake) -> None:
        raise ValueError("a bug")

    stop = observe_handshakes(fails)
    try:
        async with await listen("127.0.0.1", 0, source(DB), authorize_any(), serve) as listener:
            _, writer = await dial(*listener.address, source(WEB), authorize_any())
            writer.close()
    finally:
        stop()
    assert "an observer of handshakes failed" in caplog.text
