"""The pairs: a client side that is a TCP proxy with mutual TLS, and a server side that reads HTTP and has one rule.

The rule allows one method and one path, and in Envoy and meshtls also only the caller's SPIFFE ID.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.peers.base import CAPACITY, Program, Setup, Side, Site
from bench.peers.envoy import Envoy
from bench.peers.envoy_config import http_bootstrap
from bench.peers.meshtls import Meshtls
from bench.peers.nginx import Nginx
from bench.requests.kinds import Kind

__all__ = ["Contender", "all_contenders"]

Json = dict[str, Any]


class Contender(Protocol):
    """A way to judge requests, or for comparison to relay them unread."""

    @property
    def name(self) -> str: ...
    def missing(self) -> str | None: ...
    def version(self) -> str: ...
    def reads(self, kind: Kind) -> bool:
        """Whether it can be measured with this kind."""

    def programs(self, side: Side, kind: Kind, site: Site) -> Sequence[Program]:
        """Write one side's configuration, and return the programs to start."""


@dataclass(frozen=True)
class _Meshtls(Meshtls):
    """``rule``: requests are judged; ``policies``: connections are, by a policy in place of ``allow``. ``metrics`` are
    counted on both sides.
    """

    name: str = "meshtls"
    rule: bool = True
    policies: bool = True
    metrics: bool = False

    def reads(self, kind: Kind) -> bool:
        return True

    def programs(self, side: Side, kind: Kind | Setup, site: Site) -> Sequence[Program]:
        programs = super().programs(side, Setup.FULL, site)
        if side is Side.SERVER and self.policies:
            _govern(site, kind if isinstance(kind, Kind) and self.rule else None)
        return programs


def _govern(site: Site, kind: Kind | None) -> None:
    """Replace ``allow`` by a policy, for connections or for the requests of a kind."""
    path = site.workdir / f"{Side.SERVER.value}.yaml"
    config: Json = json.loads(path.read_text())
    (inbound,) = config["inbound"]
    principal = inbound.pop("allow")[0].removeprefix("spiffe://")
    rule: Json = {"from": [{"source": {"principals": [principal]}}]}
    if kind is not None:
        inbound["protocol"] = "http"
        rule["to"] = [{"operation": {"methods": [kind.method], "paths": [kind.path]}}]
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "bench", "namespace": "default"},
        "spec": {"rules": [rule]},
    }
    policies = site.workdir / "policies"
    policies.mkdir()
    (policies / "bench.yaml").write_text(json.dumps(policy))
    path.write_text(json.dumps({**config, "policies": [str(policies)], "namespace": "default"}))


class _Envoy(Envoy):
    def reads(self, kind: Kind) -> bool:
        return True

    def programs(self, side: Side, kind: Kind | Setup, site: Site) -> Sequence[Program]:
        if side is Side.CLIENT or isinstance(kind, Setup):
            return super().programs(side, Setup.FULL, site)
        document = http_bootstrap(site, kind.method, kind.path, http2=kind.http2)
        return [self.program(side, site, document)]


_NGINX = """\
user {user};
daemon off;
worker_processes 1;
pid {workdir}/http.pid;
error_log {workdir}/http.log;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {workdir}/body;
    proxy_temp_path {workdir}/proxy;
    fastcgi_temp_path {workdir}/fastcgi;
    uwsgi_temp_path {workdir}/uwsgi;
    scgi_temp_path {workdir}/scgi;
    upstream app {{ server 127.0.0.1:{app}; keepalive 256; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{listen} ssl;
        keepalive_requests 1000000;
        ssl_protocols TLSv1.3;
        ssl_ecdh_curve X25519;
        ssl_certificate {own.chain};
        ssl_certificate_key {own.key};
        ssl_client_certificate {roots};
        ssl_verify_client on;
        ssl_verify_depth 2;
        ssl_session_tickets off;
        location = {path} {{
            limit_except {method} {{ deny all; }}
            {to_app}
        }}
        location / {{ return 403; }}
    }}
}}
"""
_TO_HTTP = "proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection '';"


class _Nginx(Nginx):
    def reads(self, kind: Kind) -> bool:
        return not kind.http2  # nginx 1.22 needs ALPN for HTTP/2, and as a client of TLS sends none

    def programs(self, side: Side, kind: Kind | Setup, site: Site) -> Sequence[Program]:
        if side is Side.CLIENT or isinstance(kind, Setup):
            return super().programs(side, Setup.FULL, site)
        text = _NGINX.format(
            user=getpass.getuser(),
            workdir=site.workdir,
            connections=3 * CAPACITY,
            app=site.ports.app,
            listen=site.listen(side),
            own=site.own(side),
            roots=site.certs.roots,
            path=kind.path,
            method=kind.method,
            to_app=_TO_HTTP,
        )
        return [self.program(side, site, text)]


def all_contenders(root: Path) -> list[Contender]:
    """In the order of the table."""
    return [
        _Meshtls(),
        _Envoy(root / ".venv-envoy"),
        _Nginx(),
        _Meshtls(name="meshtls, L4 policy", rule=False),
        _Meshtls(name="meshtls, no policy", policies=False),
        _Meshtls(name="meshtls + metrics", metrics=True),
    ]
