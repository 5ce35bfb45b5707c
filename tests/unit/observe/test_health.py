"""What a probe is answered."""

from __future__ import annotations

import pytest

from meshtls.observe.health import answer_probe


@pytest.mark.parametrize(
    ("request_", "awaited", "status", "body"),
    [
        (b"GET /live HTTP/1.1\r\n\r\n", "an SVID", "200 OK", "live\n"),
        (b"GET /ready HTTP/1.1\r\n\r\n", None, "200 OK", "ready\n"),
        (b"GET /ready?verbose HTTP/1.1\r\n\r\n", None, "200 OK", "ready\n"),
        (b"GET /ready HTTP/1.1\r\n\r\n", "an SVID", "503 Service Unavailable", "waiting for an SVID\n"),
        (b"HEAD /ready HTTP/1.1\r\n\r\n", None, "200 OK", ""),
        (b"GET / HTTP/1.1\r\n\r\n", None, "404 Not Found", "wanted /live or /ready\n"),
        (b"POST /ready HTTP/1.1\r\n\r\n", None, "405 Method Not Allowed", "wanted GET\n"),
        (b"", None, "405 Method Not Allowed", "wanted GET\n"),
    ],
)
def test_a_probe_is_answered_by_method_path_and_what_is_awaited(
    request_: bytes, awaited: str | None, status: str, body: str
) -> None:
    head, _, content = answer_probe(request_, lambda: awaited).decode().partition("\r\n\r\n")
    assert head.splitlines()[0] == f"HTTP/1.1 {status}"
    assert "Connection: close" in head
    assert content == body
