"""The PROXY protocol towards the app: a real receiver, HAProxy, reads the header; the raw bytes show the identity."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.sidecar.settings import Mode
from meshtls.wire.proxy_protocol import ProxiedTls, proxy_header
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import A, an_app, connected, patient, rest, side_a
from tests.support.ports import free_ports
from tests.support.waiting import SECONDS

ANYBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: default}
spec: {rules: [{}]}
"""
PATIENT = patient(detect_timeout=SECONDS)


@contextlib.asynccontextmanager
async def haproxy(directory: Path) -> AsyncIterator[Address]:
    """Answers each HTTP request with the addresses that the header gave it."""
    if shutil.which("haproxy") is None:
        pytest.skip("needs haproxy")
    (port,) = free_ports(1)
    config = directory / "haproxy.cfg"
    config.write_text(
        f"""
defaults
  mode http
  timeout client 60s
frontend f
  bind 127.0.0.1:{port} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[dst]:%[dst_port]"
"""
    )
    process = await asyncio.create_subprocess_exec("haproxy", "-q", "-db", "-f", str(config))
    address = Address("127.0.0.1", port)
    try:
        async with asyncio.timeout(SECONDS):
            while not await _listens(address):  # noqa: ASYNC110  # another program's
                await asyncio.sleep(0.02)
        yield address
    finally:
        process.terminate()
        await process.wait()


async def _listens(address: Address) -> bool:
    try:
        async with connected(address):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("tunnel", [False, True])
async def test_haproxy_reads_the_client_s_address(tmp_path: Path, tunnel: bool) -> None:
    async with (
        haproxy(tmp_path) as app,
        governed(app, ANYBODY, tunnel=tunnel, proxy_protocol=True) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        async with connected(a.outbound) as streams:
            streams[1].write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            told = (await rest(streams)).rpartition(b"\r\n")[2].decode()
        line = await b.lines.next()
        assert told == f"{line['remote']} {b.inbound}"


@pytest.mark.parametrize("tunnel", [False, True])
async def test_the_header_names_the_peer_and_comes_first(tunnel: bool) -> None:
    async with (
        an_app() as app,
        governed(app.address, ANYBODY, tunnel=tunnel, proxy_protocol=True) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        async with connected(a.outbound) as streams:
            streams[1].write(b"ping")
            streams[1].write_eof()
            told = await rest(streams)
        line = await b.lines.next()
    host, _, port = line["remote"].rpartition(":")
    tls = ProxiedTls(str(A), line["tls_version"], line["cipher_suite"])
    header = proxy_header((host, int(port)), (b.inbound.host, b.inbound.port), tls)
    assert told == header + b"ping"


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.DISABLE])
async def test_plaintext_has_a_header_without_an_identity(mode: Mode) -> None:
    async with (
        an_app() as app,
        governed(app.address, ANYBODY, mode=mode, limits=PATIENT, proxy_protocol=True) as b,
    ):
        async with connected(b.inbound) as streams:
            streams[1].write(b"ping")
            streams[1].write_eof()
            told = await rest(streams)
        line = await b.lines.next()
    host, _, port = line["remote"].rpartition(":")
    header = proxy_header((host, int(port)), (b.inbound.host, b.inbound.port), None)
    assert told == header + b"ping"
