"""HAProxy in TCP mode."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.peers.base import CAPACITY, Program, Setup, Side, Site
from bench.peers.found import find, said

__all__ = ["HAProxy"]

_MAIN = """\
global
    nbthread 1
    maxconn {capacity}
    tune.ssl.cachesize {cache}
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
listen pair
    bind 127.0.0.1:{listen}{bind}
    server next 127.0.0.1:{target}{server}
"""
_CLIENT = (
    " ssl ssl-min-ver TLSv1.3 crt {own.both} ca-file {roots} verify required verifyhost {other.dns_name}{no_reuse}"
)
_SERVER = " ssl ssl-min-ver TLSv1.3 curves X25519 crt {own.both} ca-file {roots} verify required{no_tickets}"


class HAProxy:
    """As with nginx, the client side checks the DNS name and the server side only the chain."""

    name = "haproxy"

    def missing(self) -> str | None:
        return None if find("haproxy") else "no haproxy here; install it (Debian: haproxy)"

    def version(self) -> str:
        told = said([find("haproxy") or "haproxy", "-vv"])
        number, library = (
            re.search(p, told) for p in (r"version (\d[\d.]*)", r"Running on OpenSSL version : (OpenSSL \S+)")
        )
        return f"haproxy/{number[1] if number else '?'} {library[1] if library else ''}".strip()

    def supports(self, setup: Setup) -> bool:
        return setup is not Setup.TUNNEL

    def programs(self, side: Side, setup: Setup, site: Site) -> Sequence[Program]:
        resumed, client = setup is Setup.RESUMED, side is Side.CLIENT
        tls = (_CLIENT if client else _SERVER).format(
            own=site.own(side),
            other=site.other(side),
            roots=site.certs.roots,
            no_reuse="" if resumed else " no-ssl-reuse",
            no_tickets="" if resumed else " no-tls-tickets",
        )
        text = _MAIN.format(
            capacity=CAPACITY,
            cache=20000 if resumed else 0,
            listen=site.listen(side),
            bind="" if client else tls,
            target=site.target(side),
            server=tls if client else "",
        )
        return [Program([find("haproxy") or "haproxy", "-db", "-f", str(site.write(side, ".haproxy", text))])]
