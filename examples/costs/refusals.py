"""Connections that are refused, each for one reason: what each side sees is printed, and the packets are captured."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

import meshtls
from examples.costs.network import Network
from examples.costs.talk import HOUR, KEYLOG, NOW, Authority, Contexts, Talk, contexts
from meshtls.pytest import Mesh

_OURS, _FOREIGN = Authority(), Authority(name="foreign")


def _no_certificate(version: str) -> Contexts:
    client, server = contexts(_OURS, version, mutual=False)
    server.verify_mode = ssl.CERT_REQUIRED
    return client, server


def _foreign_client() -> Contexts:
    client, server = contexts(_OURS)
    _FOREIGN.load(client, "client")
    return client, server


def _foreign_server() -> Contexts:
    client, server = contexts(_OURS)
    _FOREIGN.load(server, "web")
    return client, server


def _expired() -> Contexts:
    client, server = contexts(_OURS)
    _OURS.load(client, "client", end=NOW - HOUR)
    return client, server


def _not_allowed() -> Contexts:
    """The certificate is fine, but the server allows another identity: meshtls asks for both."""
    mesh, options = Mesh("a.test"), meshtls.TlsOptions(group="X25519", insecure_keylog_file=KEYLOG)
    server = meshtls.server_context(mesh.source("web"), meshtls.authorize_id(mesh.id("batch")))
    return meshtls.client_context(mesh.source("client"), meshtls.authorize_any(), options=options), server


_REFUSALS: Mapping[str, Callable[[], tuple[ssl.SSLContext | None, ssl.SSLContext | None]]] = {
    "no-certificate": lambda: _no_certificate("1.3"),
    "no-certificate.1.2": lambda: _no_certificate("1.2"),
    "foreign-client": _foreign_client,
    "expired-client": _expired,
    "foreign-server": _foreign_server,
    "not-allowed": _not_allowed,
    "no-common-version": lambda: (contexts(_OURS, "1.2")[0], contexts(_OURS)[1]),
    "no-common-group": lambda: contexts(_OURS, groups=("X25519", "secp384r1")),
    "plaintext-server": lambda: (contexts(_OURS)[0], None),
    "plaintext-client": lambda: (None, contexts(_OURS)[1]),
}


def main() -> None:
    """Make the captures, and print what the sides see."""
    with Network("refusals", rtt=0.02):
        for name, make in _REFUSALS.items():
            saw = Talk(name, make(), size=12).saw
            print(f"{name:20} client: {saw['client']}\n{'':20} server: {saw['server']}")


if __name__ == "__main__":
    main()
