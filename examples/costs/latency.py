"""Handshakes over a round trip of 100 ms."""

from __future__ import annotations

from examples.costs.network import Network
from examples.costs.talk import Authority, Talk, contexts

if __name__ == "__main__":
    authority = Authority("RSA")
    with Network("latency"):
        Talk()
        for version in ("1.3", "1.2"):
            made = contexts(authority, version)
            first = Talk(version, made)
            Talk(f"{version}.resumed", made, session=first.session)
        Talk("1.3.other-group", contexts(authority, groups=("", "secp384r1")))
        made = contexts(authority)
        authority.load(made[1], "web", copies=20)
        Talk("1.3.long-chain", made)
