"""Handshakes of TLS 1.3 and 1.2, mutual and not, full and resumed, with EC and RSA certificates."""

from __future__ import annotations

from examples.costs.network import Network
from examples.costs.talk import Authority, Talk, contexts

if __name__ == "__main__":
    with Network("overhead"):
        for kind in ("EC", "RSA"):
            authority = Authority(kind)
            for version in ("1.3", "1.2"):
                for mutual in (True, False):
                    made = contexts(authority, version, mutual=mutual)
                    name = f"{kind}.{version}.{'mutual' if mutual else 'server'}"
                    first = Talk(name, made)
                    if mutual:
                        Talk(f"{name}.resumed", made, session=first.session)
