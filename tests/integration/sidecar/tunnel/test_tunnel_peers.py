"""Peers that know nothing of us, over real mutual TLS: h2 in both roles, libcurl, curl and nghttp (libnghttp2)."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import shutil
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pycurl  # type: ignore[import-untyped]
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, ResponseReceived, StreamEnded

from meshtls.address import Address
from meshtls.policy.authorizer import authorize_id
from meshtls.svid.context import ConstantSource
from meshtls.tls.context import GenerationContext, TlsContexts, TlsOptions
from tests.integration.sidecar.mesh import (
    OURS,
    A,
    B,
    Streams,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    rest,
    side_a,
    side_b,
)
from tests.support.authority import svid_for
from tests.support.require import require
from tests.support.waiting import SECONDS

PROXY_HTTPS2 = 3  # CURLPROXY_HTTPS2, which pycurl has no name for


def context(*, server_side: bool, alpn: str = "h2") -> GenerationContext:
    """TLS as A or B has it, for a peer that is no sidecar."""
    snapshot, other = (as_b(), A) if server_side else (as_a(), B)
    options = TlsOptions(alpn=(alpn,))
    source = ConstantSource(snapshot)
    return TlsContexts(source, authorize_id(other), server_side=server_side, options=options).current()


class H2Peer:
    """An h2 connection on asyncio streams."""

    def __init__(self, streams: Streams, *, client: bool) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=client, header_encoding=None))
        self._reader, self._writer = streams
        self.h2.initiate_connection()

    async def flush(self) -> None:
        self._writer.write(self.h2.data_to_send())
        await self._writer.drain()

    async def events(self) -> AsyncIterator[object]:
        await self.flush()
        while data := await self._reader.read(1 << 16):
            for event in self.h2.receive_data(data):
                yield event
            await self.flush()


async def test_an_h2_client_reaches_the_app_through_a_stream() -> None:
    async with an_app() as app, side_b(app.address, tunnel=True) as b:
        async with connected(b.inbound, context(server_side=False)) as streams, asyncio.timeout(SECONDS):
            peer, got = H2Peer(streams, client=True), b""
            peer.h2.send_headers(1, [(":method", "CONNECT"), (":authority", str(app.address))])
            peer.h2.send_data(1, b"hello", end_stream=True)
            async for event in peer.events():
                if isinstance(event, ResponseReceived):
                    assert dict(event.headers or ())[b":status"] == b"200"
                elif isinstance(event, DataReceived):
                    got += event.data or b""
                elif isinstance(event, StreamEnded):
                    break
            assert got == b"hello"
        assert await b.lines.outcome() == "OK"


async def test_an_app_is_carried_through_a_tunnel_to_an_h2_server() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = H2Peer((reader, writer), client=False)
        async for event in peer.events():
            if isinstance(event, RequestReceived):
                asked.append(dict(event.headers or ()))
                peer.h2.send_headers(event.stream_id or 0, [(":status", "200"), ("x-proxy", "h2")])
            elif isinstance(event, DataReceived):
                peer.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                peer.h2.send_data(event.stream_id or 0, event.data or b"")
            elif isinstance(event, StreamEnded):
                peer.h2.end_stream(event.stream_id or 0)
        writer.close()

    asked: list[dict[bytes, bytes]] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context(server_side=True))
    to = Address(*server.sockets[0].getsockname()[:2])
    async with server, side_a(to, tunnel=True, destination=Address("db.example", 5432)) as a:
        for _ in range(3):
            async with connected(a.outbound) as streams:
                assert await echoed(streams, b"x" * 50_000) == b"x" * 50_000
                streams[1].write_eof()
                assert await rest(streams) == b""
            assert await a.lines.outcome() == "OK"
    assert [(one[b":method"], one[b":authority"]) for one in asked] == [(b"CONNECT", b"db.example:5432")] * 3
    assert {one[b"baggage"] for one in asked} == {b"k8s.namespace.name=default,service.name=a"}
    assert {one[b"forwarded"] for one in asked} == {b"for=127.0.0.1"}
    assert len({one[b"traceparent"] for one in asked}) == 3, "each is a trace of its own"


@pytest.mark.parametrize(
    "junk", [b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(999)]
)
async def test_junk_from_a_peer_that_offered_http2_ends_its_connection_and_no_other(junk: bytes) -> None:
    async with an_app() as app, side_b(app.address, tunnel=True) as b, side_a(b.inbound, tunnel=True) as a:
        async with connected(a.outbound) as good:
            assert await echoed(good) == b"ping"
            async with connected(b.inbound, context(server_side=False)) as bad:
                bad[1].write(junk)
                assert b"wanted " in await rest(bad), "GOAWAY says what was wrong"
            assert await echoed(good) == b"ping"
        assert app.connections == 1


async def test_a_peer_that_offers_another_protocol_is_relayed_as_it_was_without_tunnels() -> None:
    async with (
        an_app() as app,
        side_b(app.address, tunnel=True) as b,
        connected(b.inbound, context(server_side=False, alpn="http/1.1")) as streams,
    ):
        assert await echoed(streams, b"PRI * HTTP/2.0") == b"PRI * HTTP/2.0"


@contextlib.asynccontextmanager
async def an_http_app() -> AsyncIterator[Address]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n" + b"x" * 100_000)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Address(*server.sockets[0].getsockname()[:2])


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """A's certificate and key as files."""
    svid = svid_for(OURS, A)
    for name, content in (("cert.pem", svid.chain_pem()), ("key.pem", svid.key_pem())):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_bytes(content)
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")


async def output(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(SECONDS):
        out, error = await process.communicate()
    return out or error


def curl_speaks_http2() -> bool:
    if not shutil.which("curl"):
        return False
    return "HTTP2" in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("name", "there", "arguments"),
    [
        ("curl", curl_speaks_http2, "curl -sk --http2 -D - --cert {} --key {} https://{}/"),
        ("nghttp", lambda: bool(shutil.which("nghttp")), "nghttp -v --no-dep --cert={} --key={} https://{}/"),
    ],
)
async def test_libnghttp2_gets_a_405_for_a_get(
    name: str, there: Callable[[], bool], arguments: str, files: tuple[str, str]
) -> None:
    require(name, there(), f"{name} with HTTP/2 is not installed")
    async with an_app() as app, side_b(app.address, tunnel=True) as b:
        said = await output(*arguments.format(*files, b.inbound).split())
        assert re.search(rb"HTTP/2 405|:status: 405", said), said
        line = await b.lines.next()
        assert (line["outcome"], line["detail"]) == ("POLICY_DENIED", "wanted CONNECT through a tunnel, got GET")
        assert app.connections == 0


def page_through_proxy(proxy: Address, place: Address, cert: str, key: str) -> tuple[bytes, str]:
    """The page that libcurl gets from ``place`` through an HTTP/2 proxy, and what it says of its work."""
    handle, page, said = pycurl.Curl(), io.BytesIO(), io.BytesIO()
    with contextlib.closing(handle):
        for option, value in {
            pycurl.URL: f"http://{place}/",
            pycurl.PROXY: f"https://{proxy}",
            pycurl.PROXYTYPE: PROXY_HTTPS2,
            pycurl.HTTPPROXYTUNNEL: True,
            pycurl.NOPROXY: "",
            pycurl.PROXY_SSLCERT: cert,
            pycurl.PROXY_SSLKEY: key,
            pycurl.PROXY_SSL_VERIFYPEER: False,
            pycurl.PROXY_SSL_VERIFYHOST: 0,
            pycurl.TIMEOUT: int(SECONDS),
            pycurl.WRITEDATA: page,
            pycurl.VERBOSE: True,
            pycurl.DEBUGFUNCTION: lambda kind, text: (
                kind or said.write(text)
            ),  # 0 is what it says, others what it sends and hears
        }.items():
            handle.setopt(option, value)
        with contextlib.suppress(pycurl.error):  # what the proxy said tells more
            handle.perform()
        return page.getvalue(), said.getvalue().decode()


async def test_libcurl_uses_the_tunnel_as_its_http2_proxy(files: tuple[str, str]) -> None:
    async with an_http_app() as app, side_b(app, tunnel=True) as b:
        page, said = await asyncio.to_thread(page_through_proxy, b.inbound, app, *files)
        assert f"Establishing HTTP/2 proxy tunnel to {app}" in said
        assert "CONNECT tunnel established, response 200" in said
        assert page == b"x" * 100_000
        line = await b.lines.next()
        assert (line["verdict"], line["tunnel"], line["source_id"]) == ("allowed", True, str(A))


async def test_libcurl_is_refused_any_other_authority(files: tuple[str, str]) -> None:
    async with an_http_app() as app, an_http_app() as other, side_b(app, tunnel=True) as b:
        page, said = await asyncio.to_thread(page_through_proxy, b.inbound, other, *files)
        assert f"Establishing HTTP/2 proxy tunnel to {other}" in said
        assert (page, "CONNECT tunnel established" in said) == (b"", False)
        assert await b.lines.outcome() == "POLICY_DENIED"
