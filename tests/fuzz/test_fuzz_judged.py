"""A fuzz target for all that is joined: hostile bytes through a pair of sidecars with a policy, and a real app."""

from __future__ import annotations

import asyncio
import contextlib

import hpack
from hypothesis import strategies as st

from meshtls.address import Address
from meshtls.sidecar.settings import Protocol
from tests.fuzz.running import fuzzed, spliced
from tests.fuzz.test_fuzz_http1 import cut
from tests.integration.policy.web_app import POLICY, WebApp, web_app
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import connected, side_a
from tests.support.waiting import SECONDS
from tests.unit.wire.http1.smuggling import CASES

ONLY_OK = POLICY.replace(", /ws", "")
GOOD = b"GET /ok HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def _call(stream: int, method: str, path: str) -> bytes:
    """A request of HTTP/2 without a body, as one HEADERS frame."""
    fields = ((":method", method), (":path", path), (":scheme", "http"), (":authority", "b"))
    block = hpack.Encoder().encode(fields)
    return len(block).to_bytes(3, "big") + b"\x01\x05" + stream.to_bytes(4, "big") + block


HTTP2 = [
    PREFACE + _call(1, "GET", "/ok") + _call(3, "GET", "/admin"),
    PREFACE,
    _call(5, "POST", "/ok"),
    _call(1, "X", ""),
]
HTTP1 = [case.raw.replace(b" / ", path) for case in CASES for path in (b" /ok ", b" /admin ")]
streams = st.lists(spliced(HTTP1) | st.sampled_from(HTTP1), min_size=1, max_size=4).map(b"".join) | spliced(HTTP2)


def test_an_app_gets_only_allowed_requests_and_the_sidecars_go_on() -> None:
    with asyncio.Runner() as runner:
        stack = contextlib.AsyncExitStack()
        app: WebApp | None = None
        entry: Address | None = None

        async def start() -> None:
            nonlocal app, entry
            app = await stack.enter_async_context(web_app())
            b = await stack.enter_async_context(governed(app.address, ONLY_OK, protocol=Protocol.HTTP))
            a = await stack.enter_async_context(side_a(b.inbound))
            entry = a.outbound

        async def send(pieces: list[bytes]) -> bytes:
            """What comes back until the end; the connection may be reset."""
            assert entry is not None
            answer = b""
            async with asyncio.timeout(SECONDS), connected(entry) as (reader, writer):
                with contextlib.suppress(ConnectionError):
                    for piece in pieces:
                        writer.write(piece)
                        await asyncio.sleep(0)
                    writer.write_eof()
                    while data := await reader.read(1 << 16):
                        answer += data
            return answer

        def target(data: bytes, lengths: list[int]) -> None:
            assert app is not None
            runner.run(send(cut(data, lengths)))
            assert [seen for seen in app.seen if not f"{seen[1]}/".startswith("/ok/")] == []
            assert [seen for seen in app.seen if seen[0] not in ("GET", "POST")] == []
            assert runner.run(send([GOOD])).startswith(b"HTTP/1.1 200 ")

        runner.run(start())
        try:
            fuzzed(target, streams, st.lists(st.integers(1, 400), min_size=1, max_size=5))
        finally:
            runner.run(stack.aclose())
