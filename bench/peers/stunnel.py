"""stunnel, with a thread for each connection."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.peers.base import Program, Setup, Side, Site
from bench.peers.found import find, said

__all__ = ["Stunnel"]

_CONFIG = """\
foreground = quiet
pid =
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[pair]
client = {client}
accept = 127.0.0.1:{listen}
connect = 127.0.0.1:{target}
sslVersion = TLSv1.3
curves = X25519
cert = {own.chain}
key = {own.key}
CAfile = {roots}
verifyChain = yes
checkHost = {other.dns_name}
sessionResume = no
"""


class Stunnel:
    """Each side checks the other's DNS name. Its TLS 1.3 sessions are not resumed by its own clients."""

    name = "stunnel"

    def missing(self) -> str | None:
        return None if find("stunnel") else "no stunnel here; install it (Debian: stunnel4)"

    def version(self) -> str:
        told = said([find("stunnel") or "stunnel", "-version"])
        number, *libraries = re.findall(r"(?:stunnel|OpenSSL) \d[\w.]*", told)
        return " ".join((number.replace(" ", "/"), *libraries[-1:]))

    def supports(self, setup: Setup) -> bool:
        return setup is Setup.FULL

    def programs(self, side: Side, setup: Setup, site: Site) -> Sequence[Program]:
        text = _CONFIG.format(
            client="yes" if side is Side.CLIENT else "no",
            listen=site.listen(side),
            target=site.target(side),
            own=site.own(side),
            other=site.other(side),
            roots=site.certs.roots,
        )
        return [Program([find("stunnel") or "stunnel", str(site.write(side, ".stunnel", text))])]
