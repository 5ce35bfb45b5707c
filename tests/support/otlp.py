"""A receiver of OTLP over HTTP, which decodes what it gets by OpenTelemetry's own messages.

async with a_receiver() as receiver:
    ...                                   # a sidecar with `receiver.keys()` as its `tracing`
    span = await receiver.span("GET")     # waits for one of this name
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from meshtls.address import Address
from meshtls.sidecar.tracing.keys import OtlpEndpoint, TracingKeys
from tests.support.waiting import SECONDS

__all__ = ["Received", "Receiver", "a_receiver"]


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A span as it came; IDs in hexadecimal. ``of`` has the resource's attributes."""

    trace: str
    span: str
    parent: str
    state: str
    name: str
    kind: str
    began: int
    ended: int
    attributes: dict[str, Any]
    error: str | None
    links: tuple[tuple[str, str], ...]
    of: dict[str, Any]


class Receiver:
    """``posts`` are the headers of each post. ``answers`` are statuses for the next posts; then it is 200."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.posts: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.text = ""
        self.rejects = 0
        self.endpoint = OtlpEndpoint(False, Address("127.0.0.1", 0))
        self._came = asyncio.Condition()

    def keys(self, *, sample: float = 1, **keys: Any) -> TracingKeys:
        return TracingKeys(otlp=self.endpoint, sample=sample, **keys)

    async def span(self, name: str, number: int = 1) -> Received:
        """The last of the first ``number`` spans of this name."""
        return (await self.all(name, number))[number - 1]

    async def all(self, name: str, number: int) -> list[Received]:
        """The first ``number`` spans of this name."""
        async with asyncio.timeout(SECONDS), self._came:
            await self._came.wait_for(lambda: len(self.named(name)) >= number)
        return self.named(name)[:number]

    async def posted(self, number: int) -> None:
        async with asyncio.timeout(SECONDS), self._came:
            await self._came.wait_for(lambda: len(self.posts) >= number)

    def named(self, name: str) -> list[Received]:
        return [one for one in self.spans if one.name == name]

    def below(self, parent: Received) -> dict[str, Received]:
        """The children of a span, by name."""
        return {one.name: one for one in self.spans if (one.trace, one.parent) == (parent.trace, parent.span)}

    async def take(self, request: web.Request) -> web.Response:
        content = await request.read()
        assert request.content_type == "application/x-protobuf"
        async with self._came:
            self.posts.append(dict(request.headers))
            status = self.answers.pop(0) if self.answers else 200
            if status == 200:
                self.spans += _spans(ExportTraceServiceRequest.FromString(content))
            self._came.notify_all()
        if status != 200:
            return web.Response(status=status, text=self.text)
        partial = ExportTracePartialSuccess(rejected_spans=self.rejects, error_message=self.text)
        answer = ExportTraceServiceResponse(partial_success=partial if self.rejects else None)
        return web.Response(body=answer.SerializeToString(), content_type="application/x-protobuf")


@contextlib.asynccontextmanager
async def a_receiver(
    *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Receiver]:
    receiver, app = Receiver(), web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/traces", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        receiver.endpoint = OtlpEndpoint(tls is not None, Address("localhost" if tls else host, port))
        yield receiver
    finally:
        await runner.cleanup()


def _spans(request: ExportTraceServiceRequest) -> list[Received]:
    return [
        Received(
            trace=one.trace_id.hex(),
            span=one.span_id.hex(),
            parent=one.parent_span_id.hex(),
            state=one.trace_state,
            name=one.name,
            kind=one.SpanKind.Name(one.kind).removeprefix("SPAN_KIND_").lower(),
            began=one.start_time_unix_nano,
            ended=one.end_time_unix_nano,
            attributes=_attributes(one.attributes),
            error=one.status.message if one.status.code == one.status.STATUS_CODE_ERROR else None,
            links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in one.links),
            of=_attributes(of.resource.attributes),
        )
        for of in request.resource_spans
        for scope in of.scope_spans
        for one in scope.spans
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        assert isinstance(pair, KeyValue)
        found[pair.key] = getattr(pair.value, str(pair.value.WhichOneof("value")))
    return found
