"""Requests that no policy sees, since they break a rule of HTTP: each has a line in the access log all the same."""

from __future__ import annotations

from typing import Any

import hpack
import pytest

from meshtls.sidecar.settings import HttpKeys, Mode, Protocol
from meshtls.wire.http2.frames import END_HEADERS, END_STREAM, PREFACE
from tests.integration.sidecar.governed import a_web_app, governed
from tests.integration.sidecar.mesh import A, B, Node, an_app, connected, rest, side_a
from tests.unit.wire.http2.ends import headers, settings

ANYBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: default}
spec: {rules: [{}]}
"""
TWO_FRAMINGS = b"POST /a?b HTTP/1.1\r\nHost: b\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
FIELDS = [(":method", "GET"), (":scheme", "http"), (":authority", "b"), (":path", "/ok")]


def told(line: dict[str, Any]) -> tuple[object, ...]:
    return tuple(line.get(key) for key in ("verdict", "outcome", "method", "host", "path", "status", "detail"))


@pytest.mark.parametrize("tunnel", [False, True])
async def test_an_http1_request_with_two_framings_has_a_line_with_the_caller_and_the_reason(tunnel: bool) -> None:
    async with (
        an_app() as app,
        governed(app.address, ANYBODY, protocol=Protocol.HTTP, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        connected(a.outbound) as streams,
    ):
        streams[1].write(TWO_FRAMINGS)
        assert (await rest(streams)).startswith(b"HTTP/1.1 400 ")
        line = await b.lines.next()
        why = "wanted Content-Length or Transfer-Encoding, got both"
        assert told(line) == ("failed", "REQUEST_REFUSED", "POST", "", "/a?…", 400, why)
        assert (line["source_id"], line["destination_id"], line["security"]) == (str(A), str(B), "mutual_tls")
        assert (line["tunnel"], line["port"]) == (tunnel, app.address.port)
    assert app.connections == 0


@pytest.mark.parametrize(
    ("sent", "method", "path", "status"),
    [
        (b"GET /" + b"x" * 200 + b" HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "/" + "x" * 200, 414),
        (b"GET /ok HTTP/1.1\r\nHost: b\r\nx: " + b"y" * 1100 + b"\r\n\r\n", "GET", "/ok", 431),
        (b"GET /\x1b[31m\xe2\x80\xae HTTP/1.1\r\nHost: b\r\n\r\n", "GET", "/\x1b[31m\xe2\x80\xae", 400),
        (b"{" * 5000, "{" * 32, "", 414),
    ],
    ids=["long target", "many bytes", "escapes", "no HTTP"],
)
async def test_a_refused_request_line_is_logged_cut_and_escaped(
    sent: bytes, method: str, path: str, status: int
) -> None:
    keys = HttpKeys(uri_length=100, header_bytes=1024)
    async with (
        an_app() as app,
        governed(app.address, ANYBODY, mode=Mode.DISABLE, protocol=Protocol.HTTP, http=keys) as b,
        connected(b.inbound) as streams,
    ):
        streams[1].write(sent)
        assert (await rest(streams)).startswith(b"HTTP/1.1 %d " % status)
        line = await b.lines.next()
        assert told(line)[:6] == ("failed", "REQUEST_REFUSED", method, "", path, status)
        assert b.lines.getvalue().replace("\n", "").isprintable()
    assert app.connections == 0


def request(number: int, fields: list[tuple[str, str]]) -> bytes:
    return headers(number, hpack.Encoder().encode(fields), END_HEADERS | END_STREAM)


async def test_http2_requests_that_are_refused_or_reset_have_lines_and_a_good_one_beside_them_its_own() -> None:
    path = "/" + "x" * 200
    async with (
        an_app() as app,
        governed(app.address, ANYBODY, mode=Mode.DISABLE, protocol=Protocol.HTTP, http=HttpKeys(uri_length=100)) as b,
        connected(b.inbound) as streams,
    ):
        streams[1].write(PREFACE + settings() + request(1, [*FIELDS[:3], (":path", path)]))
        assert told(await b.lines.next()) == (
            *("failed", "REQUEST_REFUSED", "GET", "b", path, 414),
            "wanted a target of at most 100 bytes, got 201",
        )
        streams[1].write(request(3, [*FIELDS, ("transfer-encoding", "chunked")]))
        assert told(await b.lines.next()) == (
            *("failed", "REQUEST_REFUSED", "GET", "b", "/ok", 0),
            "PROTOCOL_ERROR: wanted no field of HTTP/1.1 connections, got b'transfer-encoding'",
        )
        streams[1].write(headers(2, b""))
        assert told(await b.lines.next()) == (
            *("failed", "REQUEST_REFUSED", "", "", "", 0),
            "PROTOCOL_ERROR: wanted HEADERS on a stream of the client's, got another number",
        )


async def test_a_request_that_a_policy_judges_has_one_line() -> None:
    async with (
        a_web_app() as app,
        governed(app.address, ANYBODY, mode=Mode.DISABLE, protocol=Protocol.HTTP) as b,
        connected(b.inbound) as streams,
    ):
        streams[1].write(b"GET /ok HTTP/1.1\r\nHost: b\r\n\r\n" + TWO_FRAMINGS)
        answers = await rest(streams)
        assert (answers.count(b"HTTP/1.1 200 "), answers.count(b"HTTP/1.1 400 ")) == (1, 1)
        # A refusal is told as soon as it is read, though its answer waits for its turn.
        lines = sorted([told(await b.lines.next())[1:6] for _ in range(2)], key=str)
        assert lines == [("OK", "GET", "b", "/ok", 200), ("REQUEST_REFUSED", "POST", "", "/a?…", 400)]
        assert (await b.lines.next()).get("method") is None


async def requests_refused_at_once(node: Node, count: int) -> None:
    async with connected(node.inbound) as streams:
        bad = [*FIELDS, ("connection", "x")]
        streams[1].write(PREFACE + settings() + b"".join(request(2 * at + 1, bad) for at in range(count)))
        streams[1].write_eof()
        await rest(streams)


async def test_a_stranger_can_not_fill_the_log_with_refused_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshtls.observe.access_log.REFUSALS_PER_SECOND", 0.001)
    async with (
        an_app() as app,
        governed(app.address, ANYBODY, mode=Mode.DISABLE, protocol=Protocol.HTTP) as b,
    ):
        await requests_refused_at_once(b, 50)
        while "method" in (line := await b.lines.next()):
            assert line["outcome"] == "REQUEST_REFUSED"
        assert b.lines.getvalue().count("REQUEST_REFUSED") <= 1
