"""What loss, duplication and reordering do to a handshake of TLS 1.3 over a round trip of 100 ms.

With RSA certificates each side needs two packets. The client's packets with data are the SYN, ClientHello, two with
its certificate and Finished, and the request; the server's the SYN-ACK, two with its part of the handshake, and more.
"""

from __future__ import annotations

from collections.abc import Mapping

from examples.costs.network import Network
from examples.costs.talk import Authority, Talk, contexts

_HALF = 0.05
_FAULTS: Mapping[str, Mapping[tuple[str, int], list[float]]] = {
    "none": {},
    "syn-lost": {("client", 1): []},
    "client-hello-lost": {("client", 2): []},
    "server-hello-lost": {("server", 2): []},
    "server-finished-lost": {("server", 3): []},
    "client-finished-lost": {("client", 4): []},
    "client-hello-twice": {("client", 2): [_HALF, _HALF + 0.01]},
    "server-hello-late": {("server", 2): [_HALF + 0.03]},
}


def main() -> None:
    """Make the captures."""
    authority = Authority("RSA")
    with Network("faults") as network:
        for name, fault in _FAULTS.items():
            network.fate = lambda side, number, fault=fault: fault.get((side, number), [_HALF])  # type: ignore[misc]
            Talk(name, contexts(authority))


if __name__ == "__main__":
    main()
