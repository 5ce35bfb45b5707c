"""What becomes of spans when a collector is away, refuses them, or is somebody else; and at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import trustme

from meshtls.address import Address
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import InboundConfig, SidecarConfig
from meshtls.sidecar.tracing.contexts import Sampler
from meshtls.sidecar.tracing.exporter import Drop, SpanExporter
from meshtls.sidecar.tracing.keys import OtlpEndpoint, TracingKeys
from meshtls.sidecar.tracing.otlp import Encoder, rejected
from meshtls.sidecar.tracing.spans import Kind, Span
from meshtls.svid.context import ConstantSource
from tests.integration.sidecar.mesh import ANYWHERE, DEFAULTS, A, B, an_app, as_b, connected, side_b
from tests.integration.sidecar.test_metrics import found_in
from tests.support.otlp import a_receiver
from tests.support.ports import free_ports
from tests.support.scraping import value
from tests.support.waiting import SECONDS, until

LOG = "meshtls.tracing"


def exporter(keys: TracingKeys) -> SpanExporter:
    return SpanExporter(keys, Encoder("test"), rejected, SystemClock())


def spans(number: int) -> list[Span]:
    root = Sampler(1)
    return [Span(root.root(), f"span {at}", Kind.INTERNAL, 1, 2, (("a", True), ("b", 1.5))) for at in range(number)]


@contextlib.asynccontextmanager
async def exporting(keys: TracingKeys) -> AsyncIterator[SpanExporter]:
    one = exporter(keys)
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.wait([task])
        await one.finish()


async def test_a_collector_that_is_away_for_a_while_gets_all_spans_and_the_outage_is_two_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_ports(1)[0]
    async with a_receiver(port=port) as receiver:
        keys = receiver.keys()
    with caplog.at_level(logging.WARNING, LOG):
        async with exporting(keys) as one:
            for span in spans(200):
                one.put(span)
            await until(lambda: bool(caplog.records))
            async with a_receiver(port=port) as receiver:
                await receiver.span("span 199")
                await until(lambda: one.sent == 200)
    assert sorted(span.name for span in receiver.spans) == sorted(f"span {at}" for at in range(200))
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert lines[0].startswith(
        f"spans could not be sent to http://127.0.0.1:{port}: 127.0.0.1:{port} can't be reached: "
    )
    assert lines[1].startswith(f"spans are sent to http://127.0.0.1:{port} again after ")
    assert one.dropped == dict.fromkeys(Drop.ALL, 0)


async def test_a_span_that_finds_the_queue_full_is_dropped_and_counted() -> None:
    async with a_receiver() as receiver:
        one = exporter(receiver.keys(queue=64))
        for span in spans(70):
            one.put(span)
        assert (one.dropped[Drop.QUEUE_FULL], one.sent) == (6, 0)
        await one.finish()
    assert [span.name for span in receiver.spans] == [f"span {at}" for at in range(64)]
    assert (one.dropped[Drop.QUEUE_FULL], one.sent) == (6, 64)


@pytest.mark.parametrize(
    ("status", "again", "line"),
    [
        (503, True, "spans could not be sent to {}: it answered 503"),
        (429, True, "spans could not be sent to {}: it answered 429"),
        (400, False, "spans for {} are dropped: it answered 400: no such tenant"),
        (401, False, "spans for {} are dropped: it answered 401: no such tenant"),
    ],
)
async def test_a_batch_is_sent_again_where_the_collector_could_not_take_it_and_dropped_where_it_would_not(
    status: int, again: bool, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, LOG):
        async with a_receiver() as receiver, exporting(receiver.keys()) as one:
            receiver.answers, receiver.text = [status], "no such tenant"
            one.put(spans(1)[0])
            await receiver.posted(1)
            one.put(spans(2)[1])
            await receiver.span("span 1")
            await until(lambda: one.sent == (2 if again else 1))
    assert len(receiver.named("span 0")) == again
    assert one.dropped[Drop.REJECTED] == (not again)
    assert caplog.records[0].getMessage() == line.format(receiver.endpoint)
    assert len(caplog.records) == 2


async def test_a_span_that_can_not_be_encoded_is_dropped_and_the_next_one_is_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, LOG):
        async with a_receiver() as receiver, exporting(receiver.keys()) as one:
            good, bad = spans(1)[0], msgspec.structs.replace(spans(1)[0], name="\ud800")
            one.put(bad)
            await until(lambda: one.dropped[Drop.REJECTED] == 1)
            one.put(good)
            await until(lambda: one.sent == 1)
    assert [span.name for span in receiver.spans] == ["span 0"]
    assert (
        caplog.records[0].getMessage().startswith(f"spans for {receiver.endpoint} are dropped: they can't be encoded")
    )


async def test_spans_that_the_collector_rejects_in_part_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, LOG):
        async with a_receiver() as receiver:
            receiver.rejects, receiver.text = 2, "too old"
            one = exporter(receiver.keys())
            for span in spans(5):
                one.put(span)
            await one.finish()
    assert (one.sent, one.dropped[Drop.REJECTED]) == (3, 2)
    assert [record.getMessage() for record in caplog.records] == [f"{receiver.endpoint} rejected 2 spans: too old"]


async def test_spans_that_can_not_be_sent_at_the_end_are_counted_and_hold_nothing_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_receiver() as receiver:
        keys = receiver.keys()
    one = exporter(keys)
    one.put(spans(1)[0])
    with caplog.at_level(logging.WARNING, LOG):
        async with asyncio.timeout(SECONDS):
            await one.finish()
    assert (one.sent, one.dropped[Drop.STOPPED]) == (0, 1)
    assert caplog.records[-1].getMessage() == f"{keys.otlp}: 1 spans were not sent before the sidecar stopped"


async def test_the_collector_is_verified_and_gets_the_token_which_is_in_no_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    headers = tmp_path / "headers"
    headers.write_text("authorization: Bearer hunter2-first\n")
    headers.chmod(0o600)
    async with a_receiver(tls=server) as receiver:
        keys = receiver.keys(ca_file=tmp_path / "ca.pem", headers_file=headers)
        one = exporter(keys)
        one.put(spans(1)[0])
        with caplog.at_level(logging.DEBUG):
            await one.finish()
            assert receiver.posts[0]["Authorization"] == "Bearer hunter2-first"
            assert one.sent == 1
            # A rotated token is taken without a restart, and what the collector repeats of it is not logged.
            headers.write_text("authorization: Bearer hunter2-second\n")
            receiver.answers, receiver.text = [401], "unknown token hunter2-second"
            one.put(spans(1)[0])
            await one.finish()
            assert receiver.posts[1]["Authorization"] == "Bearer hunter2-second"
            deceived = exporter(msgspec.structs.replace(keys, ca_file=tmp_path / "other.pem"))
            deceived.put(spans(1)[0])
            await deceived.finish()
    assert len(receiver.posts) == 2
    assert (deceived.sent, deceived.dropped[Drop.STOPPED]) == (0, 1)
    assert "its certificate is refused" in caplog.text
    assert "are dropped: it answered 401: unknown token (not shown)" in caplog.text
    assert "hunter2" not in caplog.text


async def test_files_that_can_not_be_used_stop_the_sidecar_before_it_serves(tmp_path: Path) -> None:
    headers = tmp_path / "headers"
    headers.write_text("authorization: hunter2")
    headers.chmod(0o644)
    async with a_receiver() as receiver:
        with pytest.raises(ConfigError, match="mode 0644 gives other users access to tokens; run chmod 600"):
            exporter(receiver.keys(headers_file=headers))
        headers.chmod(0o600)
        assert exporter(receiver.keys(headers_file=headers)).sent == 0


async def test_a_stopping_sidecar_sends_its_last_spans_and_its_metrics_count_them() -> None:
    async with a_receiver() as receiver, an_app() as app:
        inbound = InboundConfig(listen=ANYWHERE, app=app.address, allow=(A,))
        config = SidecarConfig(
            name="b", spiffe_id=B, inbound=(inbound,), limits=DEFAULTS, metrics=ANYWHERE, tracing=receiver.keys()
        )
        async with Sidecar(config, ConstantSource(as_b()), on_result=lambda _: None) as b:
            async with connected(b.inbound[0].address) as (_, writer):
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                refused = await receiver.span("inbound connection")
            sent = await receiver.all("handshake", 1)
            assert b.tracing is not None
            exporter = b.tracing.exporter
            await until(lambda: exporter.sent >= len(sent) + 1)
            found = await found_in(b)
            assert value(found, "meshtls_trace_spans_sent_total") == exporter.sent
            assert value(found, "meshtls_trace_spans_dropped_total", reason="queue_full") == 0
            async with connected(b.inbound[0].address) as (reader, writer):
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                await reader.read()
        assert len(receiver.named("inbound connection")) == 2
    assert refused.attributes["meshtls.outcome"] == "PLAINTEXT_REFUSED"
    assert refused.parent == ""


async def test_a_collector_that_never_answers_delays_no_connection() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        silent = OtlpEndpoint(False, Address("127.0.0.1", server.getsockname()[1]))
        async with (
            an_app() as app,
            side_b(app.address, tracing=TracingKeys(otlp=silent, sample=1)) as b,
            asyncio.timeout(SECONDS),
        ):
            async with connected(b.inbound) as (reader, writer):
                writer.write(b"no TLS")
                await reader.read()
            asked, _ = await loop.sock_accept(server)  # it is being asked, and has no answer
            for _ in range(3):
                async with connected(b.inbound) as (reader, writer):
                    writer.write(b"no TLS")
                    await reader.read()
            assert b.sidecar.tracing is not None
            assert b.sidecar.tracing.exporter.sent == 0
            asked.close()


def test_without_the_extra_the_error_says_what_to_install() -> None:
    script = """
import sys
sys.modules["opentelemetry.proto.collector.trace.v1.trace_service_pb2"] = None
from meshtls.errors import ConfigError
from meshtls.sidecar.config import parse_config
from meshtls.sidecar.tracing.service import check_tracing
text = '''
name: web
spiffe_id: spiffe://example.org/web
outbound: [{listen: 127.0.0.1:7000, to: 127.0.0.1:8443, peer: spiffe://example.org/db}]
'''
check_tracing(parse_config(text))
try:
    check_tracing(parse_config(text + "tracing: {otlp: http://127.0.0.1}"))
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=SECONDS)
    wanted = "tracing: spans need opentelemetry-proto; install it with: pip install 'meshtls[otel]'\n"
    assert (done.stdout, done.stderr) == (wanted, "")
