"""Apps that do not answer with the HTTP that they were sent: the client and the access log say what to change."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import grpc
import httpx
import pytest

from meshtls.address import Address
from meshtls.policy.authorizer import authorize_any
from meshtls.sidecar.settings import HttpKeys, Mode, Protocol
from meshtls.svid.context import ConstantSource
from meshtls.tls.rotating import client_context
from meshtls.wire.http2.frames import PREFACE
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import ANYWHERE, as_a, connected, patient, side_a
from tests.support.waiting import SECONDS

ANYBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: default}
spec: {rules: [{}]}
"""
LIMITS = patient(detect_timeout=SECONDS)
NO_HTTP2 = (
    "the app did not answer with HTTP/2, which requests over HTTP/2 need: let it accept HTTP/2 without TLS"
    " (prior knowledge, h2c), or send the requests over HTTP/1.1"
)
NO_HTTP1 = (
    "the app did not answer with HTTP/1.1: let the listener's `app` be a port where it serves HTTP without TLS, or set"
    " `protocol: tcp`"
)
NO_ANSWER = "the app ended the connection without an answer"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(answer: bytes) -> Serve:
    """An app that answers whatever it gets with these bytes, and leaves the connection open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(1)
            writer.write(answer)
            while await reader.read(1 << 16):
                pass
        writer.close()

    return serve


async def ending(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that ends the connection without a byte."""
    await reader.read(1 << 16)
    writer.close()


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An app that resets the connection when the first byte has arrived."""
    await reader.read(1)
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


@contextlib.asynccontextmanager
async def app_of(serve: Serve) -> AsyncIterator[Address]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Address(*server.sockets[0].getsockname()[:2])


@contextlib.asynccontextmanager
async def http1_only() -> AsyncIterator[Address]:
    """Python's own server, which speaks HTTP/1 alone."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((ANYWHERE.host, 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Address("127.0.0.1", server.server_address[1])
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    "app_",
    [http1_only, lambda: app_of(saying(b"+OK\r\n")), lambda: app_of(ending), lambda: app_of(resetting)],
    ids=["HTTP/1.1", "another protocol", "ends", "resets"],
)
async def test_a_grpc_call_to_an_app_without_http2_is_unavailable_and_says_what_to_change(
    app_: Callable[[], contextlib.AbstractAsyncContextManager[Address]],
) -> None:
    async with (
        app_() as app,
        governed(app, ANYBODY, protocol=Protocol.HTTP, limits=LIMITS) as b,
        side_a(b.inbound) as a,
        grpc.aio.insecure_channel(str(a.outbound)) as channel,
        asyncio.timeout(SECONDS),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/echo.Echo/Unary", bytes, bytes)(b"x")
        line = await b.lines.next()
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.UNAVAILABLE, NO_HTTP2)
    assert (line["status"], line["outcome"], line["verdict"], line["detail"]) == (502, "APP_FAILED", "failed", NO_HTTP2)


@pytest.mark.parametrize(
    ("serve", "text"),
    [
        (saying(b"SSH-2.0-OpenSSH_9.9\r\n"), NO_HTTP1),
        (saying(b"+OK\r\n"), NO_HTTP1),
        (saying(b"\x15\x03\x01\x00\x02\x02\x0a"), NO_HTTP1),  # an alert of TLS
        (saying(b"HTTP/1.1 two hundred\r\n\r\n"), "the app's answer is malformed"),
        (ending, NO_ANSWER),
        (resetting, NO_ANSWER),
    ],
    ids=["SSH", "a line", "TLS", "malformed", "ends", "resets"],
)
async def test_a_request_to_an_app_that_does_not_answer_with_http_is_502_and_says_so(serve: Serve, text: str) -> None:
    async with (
        app_of(serve) as app,
        governed(app, ANYBODY, mode=Mode.DISABLE, protocol=Protocol.HTTP, limits=LIMITS) as b,
        httpx.AsyncClient() as client,
        asyncio.timeout(SECONDS),
    ):
        answer = await client.get(f"http://{b.inbound}/ok", timeout=SECONDS)
        line = await b.lines.next()
    assert (answer.status_code, answer.text) == (502, f"{text}\n")
    assert (line["status"], line["outcome"], line["verdict"], line["detail"]) == (502, "APP_FAILED", "failed", text)


async def test_an_app_of_http1_answers_requests_over_http1() -> None:
    async with (
        http1_only() as app,
        governed(app, ANYBODY, mode=Mode.DISABLE, protocol=Protocol.HTTP, limits=LIMITS) as b,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(f"http://{b.inbound}/ok", timeout=SECONDS)
        line = await b.lines.next()
    assert (answer.status_code, line["status"], line["outcome"]) == (204, 204, "OK")


@pytest.mark.parametrize(("http2", "chosen"), [(True, "h2"), (False, "http/1.1")])
async def test_alpn_offers_http2_unless_the_app_has_none(http2: bool, chosen: str) -> None:
    context = client_context(ConstantSource(as_a()), authorize_any())
    context.set_alpn_protocols(["h2", "http/1.1"])
    keys = HttpKeys(http2=http2)
    async with (
        http1_only() as app,
        governed(app, ANYBODY, protocol=Protocol.HTTP, limits=LIMITS, http=keys) as b,
        connected(b.inbound, context) as (reader, writer),
        asyncio.timeout(SECONDS),
    ):
        found = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        if not http2:
            writer.write(b"GET /ok HTTP/1.1\r\nHost: b\r\n\r\n")
            found += (await reader.readline()).decode()
    assert found == (chosen if http2 else f"{chosen}HTTP/1.1 204 No Content\r\n")


async def test_http2_with_prior_knowledge_is_refused_where_the_app_has_none() -> None:
    async with (
        http1_only() as app,
        governed(
            app, ANYBODY, mode=Mode.DISABLE, protocol=Protocol.HTTP, limits=LIMITS, http=HttpKeys(http2=False)
        ) as b,
        connected(b.inbound) as (reader, writer),
        asyncio.timeout(SECONDS),
    ):
        writer.write(PREFACE)
        answer = await reader.readline()
        line = await b.lines.next()
    detail = "wanted HTTP/1.1 or HTTP/1.0, got another version"
    assert answer == b"HTTP/1.1 400 Bad Request\r\n"
    assert (line["status"], line["outcome"], line["detail"]) == (400, "REQUEST_REFUSED", detail)
