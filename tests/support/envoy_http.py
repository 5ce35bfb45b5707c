"""A bootstrap document for a real Envoy that judges plaintext HTTP by a filter and answers what that lets through."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

__all__ = ["EXTENSIONS", "grpc_cluster", "http_bootstrap", "response_of"]

Json = dict[str, Any]
EXTENSIONS = "type.googleapis.com/envoy.extensions"
_HTTP = f"{EXTENSIONS}.filters.http"
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def http_bootstrap(filters: Mapping[str, Json], clusters: list[Json]) -> Json:
    """A listener for each filter, by the filter's name, that answers what the filter lets through with 200."""
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": _address(0)},
        "static_resources": {
            "listeners": [_listener(name, one) for name, one in filters.items()],
            "clusters": clusters,
        },
    }


def grpc_cluster(name: str, port: int) -> Json:
    """A service of HTTP/2 on loopback."""
    http2 = {
        "@type": f"type.googleapis.com/{_OPTIONS}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        "typed_extension_protocol_options": {_OPTIONS: http2},
    }


def response_of(port: int, path: str, headers: list[tuple[str, str]]) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to a GET."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest("GET", path)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def _listener(name: str, judging: Json) -> Json:
    router = {"name": "router", "typed_config": {"@type": f"{_HTTP}.router.v3.Router"}}
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [{"name": name, "typed_config": judging}, router],
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
    }
    filters = [{"name": "http", "typed_config": manager}]
    return {"name": name, "address": _address(0), "filter_chains": [{"filters": filters}]}


def _address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
