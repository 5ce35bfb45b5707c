"""nginx with its stream module, and as an HTTP/2 server."""

from __future__ import annotations

import getpass
import re
from collections.abc import Sequence
from pathlib import Path

from bench.peers.base import CAPACITY, MESSAGE_BYTES, Program, Setup, Side, Site
from bench.peers.found import find, said

__all__ = ["Nginx"]

_MODULE = "ngx_stream_module.so"
_MAIN = """\
{load}daemon off;
worker_processes 1;
pid {workdir}/{side}.pid;
error_log {workdir}/{side}.log;
events {{ worker_connections {connections}; }}
stream {{
    server {{
        listen 127.0.0.1:{listen}{ssl};
        proxy_pass 127.0.0.1:{target};
{tls}
    }}
}}
"""
_HTTP = """\
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
    server {{
        listen 127.0.0.1:{listen} ssl http2;
        ssl_protocols TLSv1.3;
        ssl_ecdh_curve X25519;
        ssl_certificate {own.chain};
        ssl_certificate_key {own.key};
        ssl_session_tickets off;
        client_max_body_size {message_bytes};
        location / {{ proxy_pass http://unix:{app}; }}
    }}
}}
"""
_CLIENT = """\
        proxy_ssl on;
        proxy_ssl_protocols TLSv1.3;
        proxy_ssl_conf_command Groups X25519;
        proxy_ssl_certificate {own.chain};
        proxy_ssl_certificate_key {own.key};
        proxy_ssl_trusted_certificate {roots};
        proxy_ssl_verify on;
        proxy_ssl_verify_depth 2;
        proxy_ssl_name {other.dns_name};
        proxy_ssl_session_reuse {resume};"""
_SERVER = """\
        ssl_protocols TLSv1.3;
        ssl_ecdh_curve X25519;
        ssl_certificate {own.chain};
        ssl_certificate_key {own.key};
        ssl_client_certificate {roots};
        ssl_verify_client on;
        ssl_verify_depth 2;
        ssl_session_cache {cache};
        ssl_session_tickets {resume};"""


class Nginx:
    """nginx can't check a URI SAN: the client side checks the DNS name, the server side only the chain."""

    name = "nginx"

    def missing(self) -> str | None:
        if find("nginx") is None:
            return "no nginx here; install it with its stream module (Debian: nginx, libnginx-mod-stream)"
        if _load_line() is None:
            return "nginx has no stream module; install it (Debian: libnginx-mod-stream)"
        return None

    def version(self) -> str:
        told = said(_argv("-V"))
        number, *libraries = re.findall(r"nginx/\d\S*|OpenSSL \d[\w.]*", told)
        # If nginx runs with another OpenSSL than it was built with, the running one is named last.
        return " ".join((number, *libraries[-1:]))

    def supports(self, setup: Setup) -> bool:
        return setup is not Setup.TUNNEL

    def programs(self, side: Side, setup: Setup, site: Site) -> Sequence[Program]:
        resumed = setup is Setup.RESUMED
        tls = (_CLIENT if side is Side.CLIENT else _SERVER).format(
            own=site.own(side),
            other=site.other(side),
            roots=site.certs.roots,
            resume="on" if resumed else "off",
            cache="shared:tls:1m" if resumed else "off",
        )
        text = _MAIN.format(
            load=_load_line(),
            workdir=site.workdir,
            side=side.value,
            connections=3 * CAPACITY,
            listen=site.listen(side),
            ssl="" if side is Side.CLIENT else " ssl",
            target=site.target(side),
            tls=tls,
        )
        return [self.program(side, site, text)]

    def mtls_programs(self, site: Site) -> Sequence[Program]:
        return self.programs(Side.SERVER, Setup.FULL, site)

    def http2_programs(self, site: Site) -> Sequence[Program]:
        text = _HTTP.format(
            user=getpass.getuser(),  # otherwise the worker of root's nginx can't reach the app's socket
            workdir=site.workdir,
            connections=3 * CAPACITY,
            listen=site.listen(Side.SERVER),
            own=site.own(Side.SERVER),
            message_bytes=MESSAGE_BYTES,
            app=site.app_socket,
        )
        return [site.http_app(), self.program(Side.SERVER, site, text)]

    def program(self, side: Side, site: Site, text: str) -> Program:
        """One side, with this configuration."""
        config = site.write(side, ".nginx", text)
        return Program(_argv("-p", str(site.workdir), "-e", f"{side.value}.log", "-c", str(config)))


def _argv(*arguments: str) -> Sequence[str]:
    return [find("nginx") or "nginx", *arguments]


def _load_line() -> str | None:
    build = said(_argv("-V"))
    if re.search(r"--with-stream(?!\S)", build):
        return ""
    modules = re.search(r"--modules-path=(\S+)", build)
    path = Path(modules[1]) / _MODULE if modules else None
    return f"load_module {path};\n" if path and path.exists() else None
