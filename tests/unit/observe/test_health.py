"""The response to a probe, and what is read from one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.observe.health import ReadyAnswer, answer_probe, read_ready
from meshtls.observe.process_name import ProcessKind, ProcessName
from meshtls.observe.readiness import Readiness

READY = Readiness(True)
WAITING = Readiness(False, "an SVID")
A = ProcessName(ProcessKind.SIDECAR, "a", "spiffe://example.org/a")
A_LINE = "sidecar a (spiffe://example.org/a)\n"


@pytest.mark.parametrize(
    ("request_", "state", "status", "body"),
    [
        (b"GET /live HTTP/1.1\r\n\r\n", WAITING, "200 OK", "live\n"),
        (b"GET /ready HTTP/1.1\r\n\r\n", READY, "200 OK", f"ready\n{A_LINE}"),
        (b"GET /ready?verbose HTTP/1.1\r\n\r\n", READY, "200 OK", f"ready\n{A_LINE}"),
        (b"GET /ready HTTP/1.1\r\n\r\n", WAITING, "503 Service Unavailable", f"waiting for an SVID\n{A_LINE}"),
        (
            b"GET /ready HTTP/1.1\r\n\r\n",
            Readiness(False, "draining", waits=False),
            "503 Service Unavailable",
            f"not ready: draining\n{A_LINE}",
        ),
        (
            b"GET /ready HTTP/1.1\r\n\r\n",
            Readiness(True, "it expires in 40 s"),
            "200 OK",
            f"ready; it expires in 40 s\n{A_LINE}",
        ),
        (b"HEAD /ready HTTP/1.1\r\n\r\n", READY, "200 OK", ""),
        (b"GET / HTTP/1.1\r\n\r\n", READY, "404 Not Found", "wanted /live or /ready\n"),
        (b"POST /ready HTTP/1.1\r\n\r\n", READY, "405 Method Not Allowed", "wanted GET\n"),
        (b"", READY, "405 Method Not Allowed", "wanted GET\n"),
    ],
)
def test_a_probe_is_answered_by_method_path_readiness_and_process(
    request_: bytes, state: Readiness, status: str, body: str
) -> None:
    head, _, content = answer_probe(request_, lambda: state, A).decode().partition("\r\n\r\n")
    assert head.splitlines()[0] == f"HTTP/1.1 {status}"
    assert "Connection: close" in head
    assert content == body


@pytest.mark.parametrize(
    ("status", "state", "read"),
    [
        (200, READY, READY),
        (200, Readiness(True, "it expires in 40 s"), Readiness(True, "it expires in 40 s")),
        (200, Readiness(True, "two\nlines"), Readiness(True, "two\\nlines")),
        (503, WAITING, Readiness(False, "waiting for an SVID")),
        (503, Readiness(False, "draining", waits=False), Readiness(False, "not ready: draining")),
    ],
)
def test_an_answer_is_read_as_it_was_meant(status: int, state: Readiness, read: Readiness) -> None:
    head, _, body = answer_probe(b"GET /ready HTTP/1.1\r\n\r\n", lambda: state, A).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert read_ready(status, body) == ReadyAnswer(read, A)
    older = body.removesuffix(A_LINE.encode())
    assert read_ready(status, older) == ReadyAnswer(read, None)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b"ready\n" + A_LINE.encode()),
        (200, b"waiting for an SVID\n" + A_LINE.encode()),
        (200, b"<html>ready</html>\n" + A_LINE.encode()),
        (200, b"readyish\n" + A_LINE.encode()),
        (200, b"ready\nsidecar a\n"),
        (200, b"ready\n" + A_LINE.encode() * 2),
        (200, b"ready; " + bytes(65536)),
        (404, b"wanted /live or /ready\n"),
        (200, b"\xff\xfe"),
        (200, b""),
    ],
)
def test_an_answer_that_meshtls_does_not_give_is_not_read(status: int, body: bytes) -> None:
    assert read_ready(status, body) is None


@given(status=st.sampled_from([200, 503]), start=st.sampled_from(["ready", "ready; ", "waiting for "]), rest=st.text())
def test_whatever_a_stranger_answers_is_told_in_printable_characters(status: int, start: str, rest: str) -> None:
    found = read_ready(status, f"{start}{rest}".encode("utf-8", "surrogatepass"))
    if found is not None:
        assert f"{found.state.text}{found.process}".isprintable()
