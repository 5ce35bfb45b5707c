"""The response to a probe."""

from __future__ import annotations

import pytest

from meshtls.observe.health import answer_probe
from meshtls.observe.readiness import Readiness

READY = Readiness(True)
WAITING = Readiness(False, "an SVID")


@pytest.mark.parametrize(
    ("request_", "state", "status", "body"),
    [
        (b"GET /live HTTP/1.1\r\n\r\n", WAITING, "200 OK", "live\n"),
        (b"GET /ready HTTP/1.1\r\n\r\n", READY, "200 OK", "ready\n"),
        (b"GET /ready?verbose HTTP/1.1\r\n\r\n", READY, "200 OK", "ready\n"),
        (b"GET /ready HTTP/1.1\r\n\r\n", WAITING, "503 Service Unavailable", "waiting for an SVID\n"),
        (
            b"GET /ready HTTP/1.1\r\n\r\n",
            Readiness(True, "it expires in 40 s"),
            "200 OK",
            "ready; it expires in 40 s\n",
        ),
        (b"HEAD /ready HTTP/1.1\r\n\r\n", READY, "200 OK", ""),
        (b"GET / HTTP/1.1\r\n\r\n", READY, "404 Not Found", "wanted /live or /ready\n"),
        (b"POST /ready HTTP/1.1\r\n\r\n", READY, "405 Method Not Allowed", "wanted GET\n"),
        (b"", READY, "405 Method Not Allowed", "wanted GET\n"),
    ],
)
def test_a_probe_is_answered_by_method_path_and_readiness(
    request_: bytes, state: Readiness, status: str, body: str
) -> None:
    head, _, content = answer_probe(request_, lambda: state).decode().partition("\r\n\r\n")
    assert head.splitlines()[0] == f"HTTP/1.1 {status}"
    assert "Connection: close" in head
    assert content == body
