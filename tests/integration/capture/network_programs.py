"""The programs that talk across two networks while tcpdump looks: sidecars, nginx, Envoy, curl, OpenSSL's own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from meshtls.wire.side import Side
from tests.support.envoy import envoy_binary, started_envoy
from tests.support.require import require
from tests.support.tls_wire import Files
from tests.support.two_networks import ADDRESSES, ADDRESSES_6, TwoNetworks
from tests.support.waiting import SECONDS

__all__ = ["Curl", "Ran", "envoy", "nginx", "program", "ran", "require_programs", "sidecar"]

Json = dict[str, Any]
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
#: On a link that loses packets, a handshake or a request may take several timeouts of TCP.
_PATIENT = 4 * SECONDS
#: Debian's users other than root have no /usr/sbin in their PATH.
_NGINX_PROGRAM = next(filter(shutil.which, ("nginx", "/usr/sbin/nginx")), "nginx")


def require_programs(*, tun: bool = False) -> None:
    """Skip the test where one of the programs is not there, or the right to TUN devices, if it needs these."""
    for name, path in (("tcpdump", "tcpdump"), ("curl", "curl"), ("nginx", _NGINX_PROGRAM)):
        require(name, shutil.which(path) is not None, f"no {name}")
    if tun:
        require("tun", os.access("/dev/net/tun", os.R_OK | os.W_OK), "/dev/net/tun can't be opened")
    envoy_binary()


class Ran(NamedTuple):
    """A program that has ended."""

    code: int
    out: bytes


async def ran(*command: str, given: bytes = b"") -> Ran:
    """Run to the end; this is its standard input."""
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    try:
        async with asyncio.timeout(_PATIENT):
            out, _ = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, out)


@contextlib.asynccontextmanager
async def program(
    ready: bytes, *command: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run while the body runs. Enters once it has printed ``ready``; it ends by SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, env={**os.environ, **(environment or {})}
    )
    assert process.stdout is not None
    told = b""
    try:
        async with asyncio.timeout(_PATIENT):
            while ready not in told:
                piece = await process.stdout.read(1 << 16)
                assert piece, f"{command[0]} has ended: {told.decode(errors='replace')}"
                told += piece
        drain = asyncio.create_task(_drained(process.stdout))
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SECONDS):
                    await process.wait()
            await asyncio.gather(drain, return_exceptions=True) if process.returncode is not None else drain.cancel()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _drained(stream: asyncio.StreamReader) -> None:
    while await stream.read(1 << 16):
        pass


@contextlib.asynccontextmanager
async def sidecar(networks: TwoNetworks, side: Side, file: Path, workload_api: str) -> AsyncIterator[None]:
    """``meshtls sidecar run`` in the network of ``side``."""
    run = ("-m", "meshtls", "sidecar", "run", "--config", str(file), "--allow-insecure-keylog")
    command = networks.command(side, sys.executable, *run)
    async with program(b"serving:", *command, environment={"SPIFFE_ENDPOINT_SOCKET": workload_api}):
        yield


# -- nginx --

_NGINX = """
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off; client_max_body_size 16m;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/t1; fastcgi_temp_path {directory}/t2;
    uwsgi_temp_path {directory}/t3; scgi_temp_path {directory}/t4;
    ssl_certificate {files.chain}; ssl_certificate_key {files.key}; ssl_client_certificate {files.ca};
    ssl_session_cache shared:all:1m; ssl_session_timeout 10m;
    root {directory}/site;
{servers}}}
"""
_SERVER = """
    server {{
        listen {address}:{port}{ssl}; listen [{address_6}]:{port}{ssl};
        {options}
        location / {{ dav_methods PUT; create_full_put_path on; }}
    }}
"""


@contextlib.asynccontextmanager
async def nginx(directory: Path, files: Files, servers: Mapping[int, str | None]) -> AsyncIterator[None]:
    """A server on each of these ports with these directives; with None it is one of plaintext HTTP.

    It serves the files below ``site``, and takes others by PUT.
    """
    (directory / "site").mkdir(exist_ok=True)
    texts = [
        _SERVER.format(
            address=ADDRESSES[Side.SERVER],
            address_6=ADDRESSES_6[Side.SERVER],
            port=port,
            ssl="" if options is None else " ssl http2" if "http2" in options else " ssl",
            options=(options or "").replace("http2;", ""),
        )
        for port, options in servers.items()
    ]
    file = directory / "nginx.conf"
    file.write_text(_NGINX.format(directory=directory, files=files, servers="".join(texts)))
    async with program(b"getrlimit", _NGINX_PROGRAM, "-c", str(file), "-p", str(directory)):
        yield


# -- Envoy --


@contextlib.asynccontextmanager
async def envoy(directory: Path, files: Files, port: int, behind: int) -> AsyncIterator[None]:
    """HTTP/2 and HTTP/1.1 over mutual TLS at this port, for what is ``behind`` it in plaintext on the same host."""
    async with started_envoy(directory, _bootstrap(files, port, behind)):
        yield


def _bootstrap(files: Files, port: int, behind: int) -> Json:
    tls = {
        "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [
                {"certificate_chain": {"filename": str(files.chain)}, "private_key": {"filename": str(files.key)}}
            ],
            "validation_context": {"trusted_ca": {"filename": str(files.ca)}},
        },
    }
    hosts = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "behind"}}]}
    router = {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "http_filters": [{"name": "router", "typed_config": router}],
        "route_config": {"virtual_hosts": [hosts]},
    }
    listener = {
        "name": "in",
        "address": _address(ADDRESSES[Side.SERVER], port),
        "filter_chains": [
            {
                "filters": [{"name": "http", "typed_config": manager}],
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
            }
        ],
    }
    endpoint = {"endpoint": {"address": _address(ADDRESSES[Side.SERVER], behind)}}
    cluster = {
        "name": "behind",
        "type": "STATIC",
        "connect_timeout": "20s",
        "load_assignment": {"cluster_name": "behind", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": _address("127.0.0.1", 0)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


# -- curl --


class Curl(NamedTuple):
    """curl in the client's network. ``client``: its certificate, or None. ``keylog``: where its secrets go."""

    networks: TwoNetworks
    trusts: Path
    client: Files | None
    keylog: Path

    @property
    def always(self) -> tuple[str, ...]:
        """The options of each request; after ``--next`` they have to be given again."""
        own = () if self.client is None else ("--cert", str(self.client.chain), "--key", str(self.client.key))
        return "-sS", "--max-time", str(_PATIENT), "--cacert", str(self.trusts), *own

    async def run(self, port: int, path: str, *options: str, version: int = 4, scheme: str = "https") -> Ran:
        """A request to web.test at this port, over this version of IP."""
        address = ADDRESSES[Side.SERVER] if version == 4 else f"[{ADDRESSES_6[Side.SERVER]}]"
        command = self.networks.command(
            Side.CLIENT,
            *("env", f"SSLKEYLOGFILE={self.keylog}", "curl", *self.always),
            *("--resolve", f"web.test:{port}:{address}", f"{scheme}://web.test:{port}{path}", *options),
        )
        return await ran(*command)
