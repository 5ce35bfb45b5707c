"""Envoy's bootstrap documents: one side of a pair, as a TCP proxy or an HTTP/2 CONNECT tunnel like Istio's HBONE, and
an HTTP/2 listener without client authentication.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.peers.base import CAPACITY, MESSAGE_BYTES, Setup, Side, Site

__all__ = ["Json", "bootstrap", "http2_bootstrap", "http_bootstrap"]

Json = dict[str, Any]
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_TCP_PROXY = f"{_EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy"
_HTTP_MANAGER = f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"
_BUFFER = f"{_EXTENSIONS}.filters.http.buffer.v3.Buffer"
_RBAC = f"{_EXTENSIONS}.filters.http.rbac.v3.RBAC"
_ROUTER = f"{_EXTENSIONS}.filters.http.router.v3.Router"
_HTTP_OPTIONS = f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"
_UPSTREAM_TLS = f"{_EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext"
_DOWNSTREAM_TLS = f"{_EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"
_CLUSTER = "next"
_TLS_PARAMS: Json = {
    "tls_minimum_protocol_version": "TLSv1_3",
    "tls_maximum_protocol_version": "TLSv1_3",
    "ecdh_curves": ["X25519"],
}
# A TLS 1.3 ticket is used once, and connections are opened side by side.
_SESSIONS = 64


def bootstrap(side: Side, setup: Setup, site: Site) -> Json:
    """The whole document; there is no admin listener."""
    return {
        "static_resources": {"listeners": [_listener(side, setup, site)], "clusters": [_cluster(side, setup, site)]}
    }


def http2_bootstrap(site: Site, app: Path) -> Json:
    """TLS without client certificates; requests of a bounded size go to the HTTP/1.1 app at a Unix socket."""
    config: Json = {
        "@type": _HTTP_MANAGER,
        "stat_prefix": "http2",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "app",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": _CLUSTER}}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.buffer",
                "typed_config": {"@type": _BUFFER, "max_request_bytes": MESSAGE_BYTES},
            },
            {"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}},
        ],
    }
    tls: Json = {
        "@type": _DOWNSTREAM_TLS,
        "common_tls_context": {
            "tls_params": _TLS_PARAMS,
            "tls_certificates": _own_certificate(Side.SERVER, site),
            "alpn_protocols": ["h2"],
        },
    }
    chain: Json = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": config}],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    listener: Json = {"name": "http2", "address": _address(site.listen(Side.SERVER)), "filter_chains": [chain]}
    cluster = _cluster(Side.SERVER, Setup.FULL, site, {"pipe": {"path": str(app)}})
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def http_bootstrap(site: Site, method: str, path: str, *, http2: bool) -> Json:
    """The server side of a pair that reads HTTP, with one RBAC policy: the other side may call this method and path."""
    permission = {
        "and_rules": {
            "rules": [
                {"header": {"name": ":method", "string_match": {"exact": method}}},
                {"url_path": {"path": {"exact": path}}},
            ]
        }
    }
    principal = {"authenticated": {"principal_name": {"exact": site.other(Side.SERVER).spiffe_id}}}
    policies = {"bench": {"permissions": [permission], "principals": [principal]}}
    rbac: Json = {"@type": _RBAC, "rules": {"action": "ALLOW", "policies": policies}}
    config: Json = {
        "@type": _HTTP_MANAGER,
        "stat_prefix": "http",
        "normalize_path": True,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "app",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": _CLUSTER}}],
                }
            ]
        },
        "http_filters": [
            {"name": "envoy.filters.http.rbac", "typed_config": rbac},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}},
        ],
    }
    chain: Json = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": config}],
        "transport_socket": _downstream_tls(Setup.FULL, site),
    }
    listener: Json = {"name": "http", "address": _address(site.listen(Side.SERVER)), "filter_chains": [chain]}
    cluster = _cluster(Side.SERVER, Setup.FULL, site)
    if http2:
        options = {"@type": _HTTP_OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _listener(side: Side, setup: Setup, site: Site) -> Json:
    connect_server = setup is Setup.TUNNEL and side is Side.SERVER
    chain: Json = {"filters": [_http_connect() if connect_server else _tcp_proxy(side, setup)]}
    if side is Side.SERVER:
        chain["transport_socket"] = _downstream_tls(setup, site)
    return {"name": "entry", "address": _address(site.listen(side)), "filter_chains": [chain]}


def _tcp_proxy(side: Side, setup: Setup) -> Json:
    config: Json = {"@type": _TCP_PROXY, "stat_prefix": "pair", "cluster": _CLUSTER}
    if setup is Setup.TUNNEL and side is Side.CLIENT:
        config["tunneling_config"] = {"hostname": "app.bench.test:80"}
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def _http_connect() -> Json:
    route: Json = {
        "match": {"connect_matcher": {}},
        "route": {"cluster": _CLUSTER, "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]},
    }
    config: Json = {
        "@type": _HTTP_MANAGER,
        "stat_prefix": "pair",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "app", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
        "http2_protocol_options": {"allow_connect": True},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _cluster(side: Side, setup: Setup, site: Site, address: Json | None = None) -> Json:
    endpoint = {"endpoint": {"address": address or _address(site.target(side))}}
    cluster: Json = {
        "name": _CLUSTER,
        "connect_timeout": "5s",
        "type": "STATIC",
        "load_assignment": {"cluster_name": _CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [{"max_connections": CAPACITY, "max_pending_requests": CAPACITY}]},
    }
    if side is Side.CLIENT:
        cluster["transport_socket"] = _upstream_tls(setup, site)
        if setup is Setup.TUNNEL:
            options = {"@type": _HTTP_OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}
            cluster["typed_extension_protocol_options"] = {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
            }
    return cluster


def _upstream_tls(setup: Setup, site: Site) -> Json:
    context = {
        "@type": _UPSTREAM_TLS,
        "sni": site.other(Side.CLIENT).dns_name,
        "max_session_keys": _SESSIONS if setup is Setup.RESUMED else 0,
        "common_tls_context": _common_tls(Side.CLIENT, setup, site),
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _downstream_tls(setup: Setup, site: Site) -> Json:
    context = {
        "@type": _DOWNSTREAM_TLS,
        "require_client_certificate": True,
        "disable_stateless_session_resumption": setup is not Setup.RESUMED,
        "disable_stateful_session_resumption": setup is not Setup.RESUMED,
        "common_tls_context": _common_tls(Side.SERVER, setup, site),
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _common_tls(side: Side, setup: Setup, site: Site) -> Json:
    return {
        "tls_params": _TLS_PARAMS,
        "tls_certificates": _own_certificate(side, site),
        "validation_context": {
            "trusted_ca": {"filename": str(site.certs.roots)},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": site.other(side).spiffe_id}}],
        },
        **({"alpn_protocols": ["h2"]} if setup is Setup.TUNNEL else {}),
    }


def _own_certificate(side: Side, site: Site) -> list[Json]:
    own = site.own(side)
    return [{"certificate_chain": {"filename": str(own.chain)}, "private_key": {"filename": str(own.key)}}]


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
