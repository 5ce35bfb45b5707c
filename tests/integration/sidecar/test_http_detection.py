"""How an ``auto`` listener finds out what a client speaks: for how long an app waits that would speak first."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from meshtls.address import Address
from meshtls.observe.events import ConnectionResult
from meshtls.observe.live import Ended, Event, PhaseEnded
from meshtls.sidecar.settings import InboundConfig, Mode, Protocol, SidecarConfig
from meshtls.svid.context import ConstantSource
from meshtls.wire.http1.start import MAX_START
from tests.integration.sidecar.governed import a_web_app, governed
from tests.integration.sidecar.mesh import ANYWHERE, B, an_app, as_b, connected, echoed, patient, rest, running, side_a
from tests.support.ports import free_ports
from tests.support.waiting import SECONDS, SHORT_IDLE, until

BY_PEER = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: default}
spec:
  rules:
  - from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]
"""
#: No TCP connection is allowed by it.
BY_PATH = BY_PEER + "    to: [{operation: {paths: [/ok]}}]\n"
QUICK = patient(detect_timeout=0.05)
PATIENT = patient(detect_timeout=SECONDS)
REQUEST = b"GET /ok HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_server_that_speaks_first_is_heard_after_the_bounded_wait(tunnel: bool) -> None:
    async with (
        an_app(b"220 ready\r\n") as app,
        governed(app.address, BY_PEER, protocol=Protocol.AUTO, limits=QUICK, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        asyncio.timeout(SECONDS),
    ):
        async with connected(a.outbound) as streams:
            assert await streams[0].readline() == b"220 ready\r\n"
            # Nothing of it is read as HTTP any more.
            assert await echoed(streams, REQUEST) == REQUEST
            streams[1].write_eof()
            assert await rest(streams) == b""
        line = await b.lines.next()
        assert (line["outcome"], line["tunnel"]) == ("OK", tunnel)
        assert "method" not in line
    assert app.connections == 1


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("text", [BY_PEER, BY_PATH], ids=["tcp is allowed", "tcp is denied"])
async def test_a_silent_client_may_begin_http_after_the_bounded_wait(text: str, tunnel: bool) -> None:
    async with (
        a_web_app() as app,
        governed(app.address, text, protocol=Protocol.AUTO, limits=QUICK, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        asyncio.timeout(SECONDS),
    ):
        events: list[Event] = []
        b.sidecar.runtime.reporter.observe(events.append)
        async with connected(a.outbound) as streams:
            await until(lambda: any(isinstance(one, PhaseEnded) and one.phase == "detect" for one in events))
            if text is BY_PEER:
                await until(lambda: app.connections == 1)
            streams[1].write(REQUEST)
            assert (await rest(streams)).startswith(b"HTTP/1.1 200 ")
        line = await b.lines.next()
        assert (line["outcome"], line["path"]) == ("OK", "/ok")
    assert app.seen == ["GET /ok HTTP/1.1"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /%b HTTP/1.1" % (b"a" * MAX_START), b"414"),
        (b"\r\n" * MAX_START + b"GET / HTTP/1.1", b"400"),
        (b"GET\x0b/\x0bHTTP/1.1", b"400"),
        (b"GET\r/\xa0HTTP/1.1", b"400"),
        (b"PROPFIND /", b"400"),
        (b"GET http://b/", b"400"),
    ],
    ids=["long", "after empty lines", "vertical tabs", "other spaces", "without a version", "an absolute target"],
)
@pytest.mark.parametrize("tunnel", [False, True])
async def test_bytes_that_a_lenient_app_could_read_as_a_request_are_refused(
    line: bytes, status: bytes, tunnel: bool
) -> None:
    """Else it would get a certificate's header as the client wrote it."""
    async with (
        an_app() as app,
        governed(app.address, BY_PEER, protocol=Protocol.AUTO, limits=PATIENT, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        asyncio.timeout(SECONDS),
    ):
        async with connected(a.outbound) as streams:
            streams[1].write(line + b"\r\nHost: b\r\nx-forwarded-client-cert: URI=spiffe://example.org/admin\r\n\r\n")
            assert (await streams[0].readline()).split()[1] == status
        assert (await b.lines.next())["outcome"] != "OK"
    assert app.connections == 0


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("line", [b"A" * 2 * MAX_START, b"GET /" + b"a" * 2 * MAX_START], ids=["a word", "a target"])
async def test_a_first_line_that_never_ends_is_refused_at_the_limit_of_bytes(line: bytes, tunnel: bool) -> None:
    async with (
        an_app() as app,
        governed(app.address, BY_PEER, protocol=Protocol.AUTO, limits=PATIENT, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        asyncio.timeout(SECONDS),
    ):
        async with connected(a.outbound) as streams:  # which stays open
            streams[1].write(line)
            assert (await streams[0].readline()).split()[1] == b"414"
        assert (await b.lines.next())["outcome"] == "REQUEST_REFUSED"
    assert app.connections == 0


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_first_line_that_never_ends_is_refused_at_the_limit_of_time(tunnel: bool) -> None:
    limits = patient(detect_timeout=SHORT_IDLE, idle_timeout=0.5)
    async with (
        an_app() as app,
        governed(app.address, BY_PEER, protocol=Protocol.AUTO, limits=limits, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        asyncio.timeout(SECONDS),
    ):
        async with connected(a.outbound) as streams:
            streams[1].write(b"GET /never")
            with contextlib.suppress(ConnectionResetError):
                assert await rest(streams) == b""
        line = await b.lines.next()
    assert (line["outcome"], line["detail"]) == ("IDLE_TIMEOUT", "the client's first line was not whole after 0.5 s")
    assert app.connections == 0


@pytest.mark.parametrize("tunnel", [False, True])
async def test_a_request_whose_line_ends_with_the_connection_is_refused(tunnel: bool) -> None:
    """An app of HTTP/0.9 would take it for whole, and answer unjudged."""
    async with (
        an_app() as app,
        governed(app.address, BY_PEER, protocol=Protocol.AUTO, limits=PATIENT, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        asyncio.timeout(SECONDS),
    ):
        async with connected(a.outbound) as streams:
            streams[1].write(b"GET /x")
            streams[1].write_eof()
            answer = await rest(streams)
        assert (answer[:13], (await b.lines.next())["outcome"]) == (b"HTTP/1.1 400 ", "REQUEST_REFUSED")
        assert app.connections == 0
        async with connected(a.outbound) as streams:  # another protocol's line is passed on
            streams[1].write(b"EHLO x")
            streams[1].write_eof()
            assert await rest(streams) == b"EHLO x"


@pytest.mark.parametrize("tunnel", [False, True])
async def test_an_app_is_not_dialled_for_a_silent_client_whose_tcp_is_denied(tunnel: bool) -> None:
    async with (
        an_app(b"220 ready\r\n") as app,
        governed(app.address, BY_PATH, protocol=Protocol.AUTO, limits=QUICK, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        asyncio.timeout(SECONDS),
    ):
        events: list[Event] = []
        b.sidecar.runtime.reporter.observe(events.append)
        async with connected(a.outbound) as streams:
            await until(lambda: any(isinstance(one, PhaseEnded) and one.phase == "detect" for one in events))
            with pytest.raises(ConnectionResetError):
                await echoed(streams, b"EHLO example.org\r\n")
        assert (await b.lines.next())["outcome"] == "POLICY_DENIED"
    assert app.connections == 0


async def test_a_silent_client_that_no_policy_could_allow_is_refused_after_the_bounded_wait() -> None:
    """Without policies, the list of peers decides on HTTP as on TCP."""
    async with an_app() as app:
        door = InboundConfig(listen=ANYWHERE, app=app.address, protocol=Protocol.AUTO, allow=(B,))
        config = SidecarConfig(name="b", spiffe_id=B, inbound=(door,), limits=QUICK)
        async with (
            running(config, ConstantSource(as_b())) as b,
            side_a(b.inbound) as a,
            connected(a.outbound) as streams,
        ):
            with pytest.raises(ConnectionResetError):
                await rest(streams)
            assert (await b.lines.next())["outcome"] == "POLICY_DENIED"
    assert app.connections == 0


@pytest.mark.parametrize("tunnel", [False, True])
async def test_an_app_that_is_down_ends_the_connection_of_a_silent_client(tunnel: bool) -> None:
    gone = Address("127.0.0.1", free_ports(1)[0])
    async with (
        governed(gone, BY_PEER, protocol=Protocol.AUTO, limits=QUICK, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        connected(a.outbound) as streams,
    ):
        with pytest.raises(ConnectionResetError):
            await rest(streams)
        assert (await b.lines.next())["outcome"] == "CONNECT_FAILED"


# -- how long it took --


async def ended(events: list[Event]) -> ConnectionResult:
    """The result of the one connection, or stream, with bytes."""

    def found() -> list[ConnectionResult]:
        return [one.result for one in events if isinstance(one, Ended) and one.result.bytes_in]

    await until(lambda: bool(found()))
    return found()[0]


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize(
    ("keys", "detects"),
    [
        ({"protocol": Protocol.AUTO}, True),
        ({"protocol": Protocol.AUTO, "mode": Mode.PERMISSIVE}, True),
        ({"protocol": Protocol.TCP, "mode": Mode.PERMISSIVE}, True),
        ({"protocol": Protocol.TCP}, False),
    ],
    ids=["auto", "auto and permissive", "permissive", "opaque"],
)
async def test_events_and_log_say_how_long_the_app_waited_for_detection(
    keys: dict[str, Any], detects: bool, tunnel: bool
) -> None:
    async with (
        an_app() as app,
        governed(app.address, BY_PEER, limits=PATIENT, tunnel=tunnel, **keys) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
    ):
        events: list[Event] = []
        b.sidecar.runtime.reporter.observe(events.append)
        async with connected(a.outbound) as streams:
            assert await echoed(streams, b"EHLO b\r\n") == b"EHLO b\r\n"
            streams[1].write_eof()
            assert await rest(streams) == b""
        result = await ended(events)
        line = await b.lines.next()
        if tunnel and keys["protocol"] is Protocol.TCP:
            detects = False  # it was the tunnel's own connection that showed TLS
        times = [one.ms for one in events if isinstance(one, PhaseEnded) and one.phase == "detect"]
        if detects:
            assert times
            assert result.phases.detect_ms is not None
            assert 0 <= result.phases.detect_ms <= result.phases.total_ms
            assert line["detect_ms"] == round(result.phases.detect_ms, 3)
        else:
            assert result.phases.detect_ms is None
            assert "detect_ms" not in line
