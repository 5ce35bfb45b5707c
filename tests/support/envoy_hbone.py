"""Envoy's bootstrap as an HBONE proxy: certificates are files, and each entry is a listener and a cluster.

Windows, the number of streams and all other settings are Envoy's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Files", "HboneEntry", "hbone_bootstrap"]

Json = dict[str, Any]
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_FILTERS = f"{_EXTENSIONS}.filters"
_NETWORK = f"{_FILTERS}.network"
_TLS = f"{_EXTENSIONS}.transport_sockets.tls.v3"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@dataclass(frozen=True, slots=True)
class Files:
    """A certificate chain, its key and the roots, in PEM."""

    chain: Path
    key: Path
    roots: Path


@dataclass(frozen=True, slots=True)
class HboneEntry:
    """Accepts TCP and opens tunnels to ``to`` (``calls``), or accepts tunnels and dials ``to``.

    ``peer`` is the expected ID at the other end of a tunnel. Each tunnel ends after ``requests`` streams; 0 for no
    limit.
    """

    name: str
    to: int
    calls: bool
    files: Files
    peer: str
    requests: int = 0


def hbone_bootstrap(*entries: HboneEntry) -> Json:
    return {
        "admin": {"address": _address(0)},
        "static_resources": {
            "listeners": [_listener(one) for one in entries],
            "clusters": [_cluster(one) for one in entries],
        },
    }


def _listener(entry: HboneEntry) -> Json:
    chain: Json = {"filters": [_tcp_proxy(entry) if entry.calls else _connect_terminator(entry)]}
    if not entry.calls:
        context = {"require_client_certificate": True, "common_tls_context": _common(entry)}
        chain["transport_socket"] = _socket("DownstreamTlsContext", context)
    return {"name": entry.name, "address": _address(0), "filter_chains": [chain]}


def _tcp_proxy(entry: HboneEntry) -> Json:
    config = {
        "@type": f"{_NETWORK}.tcp_proxy.v3.TcpProxy",
        "stat_prefix": entry.name,
        "cluster": entry.name,
        "tunneling_config": {"hostname": f"127.0.0.1:{entry.to}"},
    }
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def _connect_terminator(entry: HboneEntry) -> Json:
    route = {
        "match": {"connect_matcher": {}},
        "route": {"cluster": entry.name, "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]},
    }
    router = {"@type": f"{_FILTERS}.http.router.v3.Router"}
    config: Json = {
        "@type": f"{_NETWORK}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": entry.name,
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "http2_protocol_options": {"allow_connect": True},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
    }
    if entry.requests:
        config["common_http_protocol_options"] = {"max_requests_per_connection": entry.requests}
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _cluster(entry: HboneEntry) -> Json:
    endpoint = {"endpoint": {"address": _address(entry.to)}}
    cluster: Json = {
        "name": entry.name,
        "type": "STATIC",
        "connect_timeout": "20s",
        "load_assignment": {"cluster_name": entry.name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    if entry.calls:
        cluster["transport_socket"] = _socket("UpstreamTlsContext", {"common_tls_context": _common(entry)})
        options: Json = {
            "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
        if entry.requests:
            options["common_http_protocol_options"] = {"max_requests_per_connection": entry.requests}
        cluster["typed_extension_protocol_options"] = {_HTTP_OPTIONS: options}
    return cluster


def _common(entry: HboneEntry) -> Json:
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2"],
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(entry.files.chain)},
                "private_key": {"filename": str(entry.files.key)},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(entry.files.roots)},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": entry.peer}}],
        },
    }


def _socket(kind: str, context: Json) -> Json:
    return {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": f"{_TLS}.{kind}", **context}}


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
