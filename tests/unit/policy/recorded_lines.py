"""Makes lines of an access log."""

from __future__ import annotations

import json
from typing import Any

from meshtls.policy.recorded import Recorded, read_line

__all__ = ["CLIENT", "OTHER", "WEB", "connection", "recorded", "request"]

WEB = "spiffe://a.test/ns/shop/sa/web"
CLIENT = "spiffe://a.test/ns/front/sa/client"
OTHER = "spiffe://a.test/ns/front/sa/other"


def request(method: str = "GET", path: str = "/", **more: Any) -> str:
    """The line of an HTTP request that was allowed. ``plaintext=True`` is one without TLS."""
    return connection(**{"method": method, "host": "web", "path": path, "status": 200, **more})


def connection(*, plaintext: bool = False, denied: bool = False, **more: Any) -> str:
    """The line of a connection."""
    fields: dict[str, Any] = {
        "time": "2030-01-01T00:00:00Z",
        "sidecar": "web",
        "direction": "inbound",
        "verdict": "denied" if denied else "allowed",
        "outcome": "POLICY_DENIED" if denied else "OK",
        "reason": "r",
        "detail": "d",
        "source_id": None if plaintext else CLIENT,
        "destination_id": WEB,
        "remote": "10.0.0.1:40000",
        "port": 8080,
        "security": "plaintext" if plaintext else "mutual_tls",
        **more,
    }
    return json.dumps(fields)


def recorded(line: str) -> Recorded:
    """The line as it is read; it must be one to judge."""
    found = read_line(line.encode())
    assert isinstance(found, Recorded), found
    return found
