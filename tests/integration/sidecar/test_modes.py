"""STRICT, PERMISSIVE and DISABLE: what each does with plaintext, with TLS and with silence."""

from __future__ import annotations

import asyncio

import pytest

from meshtls.errors import RequestError
from meshtls.sidecar.settings import Limits, Mode
from tests.integration.sidecar.mesh import A, B, an_app, connected, echoed, rest, side_a, side_b
from tests.support.waiting import SECONDS


async def test_plaintext_to_strict_is_closed_cleanly_and_never_reaches_the_app() -> None:
    async with an_app() as app, side_b(app.address) as b:
        async with connected(b.inbound) as streams:
            streams[1].write(b"GET / HTTP/1.1\r\n\r\n")
            assert await rest(streams) == b""
        line = await b.lines.next()
    assert (line["outcome"], line["verdict"], line["source_id"]) == ("PLAINTEXT_REFUSED", "denied", None)
    assert line["detail"] == (
        "wanted a TLS ClientHello, got plaintext that starts with b'GET / HTTP/1.1\\r\\n';"
        " send it through a sidecar, or set mode PERMISSIVE"
    )
    assert app.connections == 0


async def test_the_same_plaintext_to_permissive_reaches_the_app_without_an_identity() -> None:
    async with an_app() as app, side_b(app.address, mode=Mode.PERMISSIVE) as b:
        async with connected(b.inbound) as streams:
            assert await echoed(streams, b"GET / HTTP/1.1\r\n\r\n") == b"GET / HTTP/1.1\r\n\r\n"
        line = await b.lines.next()
    assert (line["outcome"], line["source_id"], line["destination_id"]) == ("OK", None, str(B))
    assert (line["tls_version"], line["local_serial"], line["handshake_ms"]) == (None, None, None)
    assert app.connections == 1


async def test_tls_to_permissive_is_mutual_tls() -> None:
    async with an_app() as app, side_b(app.address, mode=Mode.PERMISSIVE) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert (await b.lines.next())["source_id"] == str(A)


async def test_tls_to_permissive_from_a_peer_that_is_not_listed_is_denied() -> None:
    async with an_app() as app, side_b(app.address, mode=Mode.PERMISSIVE, allow=()) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
        assert await b.lines.outcome() == "POLICY_DENIED"
    assert app.connections == 0


async def test_an_app_that_speaks_first_is_heard_through_permissive_after_the_detect_timeout() -> None:
    limits = Limits(detect_timeout=0.05)
    async with (
        an_app(b"220 ready\r\n") as app,
        side_b(app.address, mode=Mode.PERMISSIVE, limits=limits) as b,
        connected(b.inbound) as streams,
        asyncio.timeout(SECONDS),
    ):
        assert await streams[0].readline() == b"220 ready\r\n"
        assert await echoed(streams) == b"ping"


async def test_first_bytes_that_come_one_by_one_are_all_passed_on() -> None:
    limits = Limits(detect_timeout=0.05)
    async with (
        an_app() as app,
        side_b(app.address, mode=Mode.PERMISSIVE, limits=limits) as b,
        connected(b.inbound) as streams,
    ):
        assert await echoed(streams, b"\x16") == b"\x16"  # held back as a possible ClientHello, until the timeout
        assert await echoed(streams, b"\x03more") == b"\x03more"


async def test_disable_passes_plaintext_and_tls_bytes_as_they_come() -> None:
    async with an_app() as app, side_b(app.address, mode=Mode.DISABLE, allow=()) as b:
        async with connected(b.inbound) as streams:
            assert await echoed(streams, b"\x16\x03\x01\x00\x05hello") == b"\x16\x03\x01\x00\x05hello"
        assert await b.lines.outcome() == "OK"
        with pytest.raises(RequestError, match="mode DISABLE takes plaintext, which proves no identity"):
            b.sidecar.set_allow(0, [A])


async def test_an_empty_allow_list_is_nobody() -> None:
    async with an_app() as app, side_b(app.address, allow=()) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
        assert (await b.lines.next())["detail"] == f"peer {A} is not allowed to reach {B}; allowed: nobody"
