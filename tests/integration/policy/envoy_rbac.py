"""AuthorizationPolicy as Envoy's RBAC filters: what Istio's control plane makes of it, written from its documents.

The bootstrap document has a listener with mutual TLS and one without. Each set of policies is a route of both, chosen
by the header ``x-set``. None of this is shared with the engine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["rbac_bootstrap"]

Json = dict[str, Any]
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_HTTP = f"{_EXTENSIONS}.filters.http"
_TEMPLATE = f"{_EXTENSIONS}.path.match.uri_template.v3.UriTemplateMatchConfig"
_ACTIONS = ("DENY", "ALLOW")
_ANY: Json = {"any": True}


def rbac_bootstrap(sets: Sequence[Sequence[Json]], *, chain: Path, key: Path, roots: Path) -> Json:
    """For these sets of AuthorizationPolicy documents. What is allowed is answered with 200."""
    routes = [
        {
            "match": {"prefix": "/", "headers": [{"name": "x-set", "string_match": {"exact": str(number)}}]},
            "direct_response": {"status": 200},
            "typed_per_filter_config": {action: _per_route(policies, action) for action in _ACTIONS},
        }
        for number, policies in enumerate(sets)
    ]
    tls = {
        "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_certificates": [
                {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}
            ],
            "validation_context": {"trusted_ca": {"filename": str(roots)}},
        },
    }
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": _address()},
        "static_resources": {"listeners": [_listener("mutual", routes, tls), _listener("plaintext", routes, None)]},
    }


def _listener(name: str, routes: list[Json], tls: Json | None) -> Json:
    filters = [{"name": action, "typed_config": {"@type": f"{_HTTP}.rbac.v3.RBAC"}} for action in _ACTIONS]
    router = {"name": "router", "typed_config": {"@type": f"{_HTTP}.router.v3.Router"}}
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "normalize_path": True,  # Istio's BASE
        "http_filters": [*filters, router],
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
    }
    chain: Json = {"filters": [{"name": "http", "typed_config": manager}]}
    if tls is not None:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return {"name": name, "address": _address(), "filter_chains": [chain]}


def _address() -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": 0}}


def _per_route(policies: Sequence[Json], action: str) -> Json:
    chosen = [one for one in policies if one["spec"].get("action", "ALLOW") == action]
    named = {
        f"{one['metadata']['name']}-{number}": _policy(rule)
        for one in chosen
        for number, rule in enumerate(one["spec"].get("rules", ()))
    }
    rbac: Json = {"rules": {"action": action, "policies": named}} if chosen else {}
    return {"@type": f"{_HTTP}.rbac.v3.RBACPerRoute", "rbac": rbac}


def _policy(rule: Json) -> Json:
    operations = [_all(_operation(one["operation"]), "and_rules", "rules") for one in rule.get("to", ())]
    sources = [_all(_source(one["source"]), "and_ids", "ids") for one in rule.get("from", ())]
    conditions = [part for one in rule.get("when", ()) for part in _condition(one)]
    principals = [*([{"or_ids": {"ids": sources}}] if sources else []), *conditions]
    return {"permissions": operations or [_ANY], "principals": [_all(principals, "and_ids", "ids")]}


def _all(parts: list[Json], key: str, inner: str) -> Json:
    return {key: {inner: parts}} if parts else _ANY


# -- permissions --


def _operation(fields: Json) -> list[Json]:
    makers = {"hosts": _host, "methods": _method, "paths": _path, "ports": _port}
    found: list[Json] = []
    for name, make in makers.items():
        if values := fields.get(name):
            found.append({"or_rules": {"rules": [make(value) for value in values]}})
        if values := fields.get(f"not{name.capitalize()}"):
            found.append({"not_rule": {"or_rules": {"rules": [make(value) for value in values]}}})
    return found


def _host(value: str) -> Json:
    return {"header": {"name": ":authority", **_header_match(value, ignore_case=True)}}


def _method(value: str) -> Json:
    return {"header": {"name": ":method", **_header_match(value)}}


def _path(value: str) -> Json:
    if "{" in value:
        template = value.replace("{**}", "**").replace("{*}", "*")
        typed = {"@type": _TEMPLATE, "path_template": template}
        return {"uri_template": {"name": "envoy.path.match.uri_template.uri_template_matcher", "typed_config": typed}}
    return {"url_path": {"path": _string_match(value)}}


def _port(value: str) -> Json:
    return {"destination_port": int(value)}


def _header_match(value: str, *, ignore_case: bool = False) -> Json:
    if value == "*":
        return {"present_match": True}
    match = _string_match(value)
    return {"string_match": {**match, "ignore_case": ignore_case}}


def _string_match(value: str) -> Json:
    if value == "*":
        return {"safe_regex": {"regex": ".+"}}
    if value.startswith("*"):
        return {"suffix": value[1:]}
    if value.endswith("*"):
        return {"prefix": value[:-1]}
    return {"exact": value}


# -- principals --


def _source(fields: Json) -> list[Json]:
    makers = {"principals": _principal, "namespaces": _namespace, "ipBlocks": _block}
    found: list[Json] = []
    for name, make in makers.items():
        if values := fields.get(name):
            found.append({"or_ids": {"ids": [make(value) for value in values]}})
        if values := fields.get(f"not{name[0].upper()}{name[1:]}"):
            found.append({"not_id": {"or_ids": {"ids": [make(value) for value in values]}}})
    return found


def _principal(value: str) -> Json:
    if value == "*":
        match: Json = {"safe_regex": {"regex": ".+"}}
    elif value.startswith("*"):
        match = {"safe_regex": {"regex": f"spiffe://.*{re.escape(value[1:])}"}}
    elif value.endswith("*"):
        match = {"prefix": f"spiffe://{value[:-1]}"}
    else:
        match = {"exact": f"spiffe://{value}"}
    return {"authenticated": {"principal_name": match}}


def _namespace(value: str) -> Json:
    namespace = ".*".join(re.escape(part) for part in value.split("*"))
    return {"authenticated": {"principal_name": {"safe_regex": {"regex": f".*/ns/{namespace}/.*"}}}}


def _block(value: str) -> Json:
    prefix, _, length = value.partition("/")
    return {"direct_remote_ip": {"address_prefix": prefix, "prefix_len": int(length)}}


def _condition(condition: Json) -> list[Json]:
    key = condition["key"]
    make = {"source.principal": _principal, "source.namespace": _namespace, "source.ip": _block}.get(key)
    if make is None:
        name = key.removeprefix("request.headers[").removesuffix("]")

        def make(value: str) -> Json:
            return {"header": {"name": name, **_header_match(value)}}

    found: list[Json] = []
    if values := condition.get("values"):
        found.append({"or_ids": {"ids": [make(value) for value in values]}})
    if values := condition.get("notValues"):
        found.append({"not_id": {"or_ids": {"ids": [make(value) for value in values]}}})
    return found
