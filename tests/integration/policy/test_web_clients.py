"""The clients that people use, through a pair of sidecars with a policy on paths: each is allowed, and denied."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiohttp import ClientSession, WSServerHandshakeError

from meshtls.sidecar.settings import Protocol
from tests.integration.policy.web_app import POLICY, WebApp, web_app
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import Node, connected, rest, side_a
from tests.support.require import require, succeeds
from tests.support.waiting import SECONDS

DENIED = b"access denied by policy\n"
TUNNEL = pytest.mark.parametrize("tunnel", [False, True], ids=["mTLS", "tunnel"])


@contextlib.asynccontextmanager
async def mesh(tunnel: bool, policy: str = POLICY, **keys: Any) -> AsyncIterator[tuple[WebApp, Node, Node]]:
    """The app, its sidecar, and a caller's."""
    async with (
        asyncio.timeout(3 * SECONDS),
        web_app() as app,
        governed(app.address, policy, protocol=Protocol.HTTP, tunnel=tunnel, **keys) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        yield app, b, a


async def output(*command: str, stdin: bytes = b"") -> bytes:
    """What a command prints; it has to succeed."""
    require(command[0], succeeds([command[0], "--version"]), f"install {command[0]}")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    told, _ = await asyncio.wait_for(process.communicate(stdin), 2 * SECONDS)
    assert process.returncode == 0
    return told


@TUNNEL
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_curl_is_allowed_and_denied(tunnel: bool, version: str) -> None:
    version_option = "--http1.1" if version == "1.1" else "--http2-prior-knowledge"
    async with mesh(tunnel) as (app, _, a):
        for path, wanted in (("/ok/1", b"hello 200"), ("/admin", DENIED + b" 403"), ("/ok/2", b"hello 200")):
            told = await output(
                *("curl", "-sS", version_option, "-w", " %{http_code} %{http_version}", "-d", "hello"),
                f"http://{a.outbound}{path}",
            )
            assert told == wanted + f" {version}".encode()
    assert app.seen == [("POST", "/ok/1", version), ("POST", "/ok/2", version)]


@TUNNEL
async def test_curl_waits_for_100_continue_and_gets_a_denial_in_its_place(tunnel: bool) -> None:
    body = b"x" * 2_000_000
    async with mesh(tunnel) as (app, _, a):
        for path, status, sent in (("/ok", b"200", len(body)), ("/admin", b"403", 0)):
            told = await output(
                *("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_upload}", "--data-binary", "@-"),
                *("-H", "Expect: 100-continue", "--expect100-timeout", str(SECONDS), f"http://{a.outbound}{path}"),
                stdin=body,
            )
            assert told == b"%b %d" % (status, sent)
    assert app.seen == [("POST", "/ok", "1.1")]


@TUNNEL
@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_httpx_is_allowed_and_denied_in_parallel(tunnel: bool, version: str) -> None:
    async with (
        mesh(tunnel) as (app, _, a),
        httpx.AsyncClient(
            http1=version == "1.1", http2=version == "2", base_url=f"http://{a.outbound}", timeout=SECONDS
        ) as client,
    ):
        body = b"0123456789" * 20_000  # beyond a window of HTTP/2
        answers = await asyncio.gather(
            *(client.post(f"/{'admin' if at % 2 else 'ok'}/{at}", content=body) for at in range(10))
        )
        for at, answer in enumerate(answers):
            assert (answer.status_code, answer.content) == ((403, DENIED) if at % 2 else (200, body))
            assert answer.http_version == ("HTTP/2" if version == "2" else "HTTP/1.1")
    assert sorted(app.seen) == [("POST", f"/ok/{at}", version) for at in range(0, 10, 2)]


@TUNNEL
async def test_nghttp_is_allowed_and_denied_on_one_connection(tunnel: bool) -> None:
    async with mesh(tunnel) as (app, _, a):
        urls = [f"http://{a.outbound}{path}" for path in ("/ok/1", "/admin", "/ok/2", "/ok/../admin")]
        told = await output("nghttp", "-v", *urls)
    assert (told.count(b":status: 200"), told.count(b":status: 403")) == (2, 2)
    assert sorted(app.seen) == [("GET", "/ok/1", "2"), ("GET", "/ok/2", "2")]


@TUNNEL
async def test_a_websocket_is_allowed_and_denied(tunnel: bool) -> None:
    async with mesh(tunnel) as (app, _, a), ClientSession() as session:
        with pytest.raises(WSServerHandshakeError) as denied:
            await session.ws_connect(f"http://{a.outbound}/admin")
        assert denied.value.status == 403
        async with session.ws_connect(f"http://{a.outbound}/ws") as websocket:
            for text in ("hello", "x" * 200_000):
                await websocket.send_str(text)
                assert (await websocket.receive()).data == text
    assert app.seen == [("WEBSOCKET", "/ws", "1.1")]


@TUNNEL
async def test_pipelined_requests_are_answered_in_order_with_the_denied_among_them(tunnel: bool) -> None:
    paths = [f"/{'admin' if at % 3 == 1 else 'ok'}/{at}" for at in range(30)]
    requests = [
        b"POST %b HTTP/1.1\r\nHost: b\r\nContent-Length: 4\r\n\r\n%04d" % (paths[at].encode(), at) for at in range(30)
    ]
    last = b"GET /ok/last HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
    async with mesh(tunnel) as (app, _, a), connected(a.outbound) as streams:
        streams[1].write(b"".join(requests) + last)
        told = await rest(streams)
    statuses = re.findall(rb"HTTP/1\.1 (\d+) ", told)
    assert statuses == [b"403" if at % 3 == 1 else b"200" for at in range(30)] + [b"200"]
    bodies = [told.find(b"%04d" % at) for at in range(30) if at % 3 != 1]
    assert -1 not in bodies
    assert bodies == sorted(bodies)
    assert [path for _, path, _ in app.seen] == [path for path in paths if path.startswith("/ok")] + ["/ok/last"]
