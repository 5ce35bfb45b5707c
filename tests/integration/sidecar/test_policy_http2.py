"""HTTP/2 through a listener that reads it: real gRPC clients and servers, and nghttp, judged call by call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
import pytest

from meshtls.address import Address
from meshtls.sidecar.settings import Protocol
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import patient, side_a
from tests.support.waiting import SECONDS

ALLOW_ECHO = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: echo, namespace: default}
spec:
  rules:
  - from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]
    to: [{operation: {methods: [POST], paths: [/echo.Echo/Unary, /echo.Echo/Stream]}}]
"""


if TYPE_CHECKING:
    _Handler = grpc.GenericRpcHandler[bytes, bytes]
else:
    _Handler = grpc.GenericRpcHandler


class Echo(_Handler):
    """Returns what it gets; ``calls`` are the methods that were called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        self.calls.append(details.method)
        if details.method.endswith("Stream"):
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(self._unary)

    async def _unary(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        context.set_trailing_metadata((("seen", "yes"),))
        return request

    async def _stream(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        async for one in requests:
            yield one


@contextlib.asynccontextmanager
async def an_echo() -> AsyncIterator[tuple[Address, Echo]]:
    server, echo = grpc.aio.server(), Echo()
    server.add_generic_rpc_handlers((echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Address("127.0.0.1", port), echo
    finally:
        await server.stop(0)


def unary(channel: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    return channel.unary_unary(method, bytes, bytes)


@pytest.mark.parametrize("tunnel", [False, True])
@pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.AUTO])
async def test_grpc_calls_are_judged_one_by_one_on_one_connection(tunnel: bool, protocol: Protocol) -> None:
    async with (
        an_echo() as (app, echo),
        governed(app, ALLOW_ECHO, protocol=protocol, tunnel=tunnel, limits=patient(detect_timeout=SECONDS)) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        grpc.aio.insecure_channel(str(a.outbound)) as channel,
        asyncio.timeout(SECONDS),
    ):
        large = b"x" * 1_000_000  # beyond every window
        call = unary(channel, "/echo.Echo/Unary")(large)
        assert await call == large
        assert tuple(await call.trailing_metadata()) == (("seen", "yes"),)
        with pytest.raises(grpc.aio.AioRpcError) as denied:
            await unary(channel, "/echo.Echo/Admin")(b"x")
        assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
        echoed: asyncio.Queue[bytes] = asyncio.Queue()

        async def requests() -> AsyncIterator[bytes]:
            for at in range(3):
                yield b"%d" % at
                assert await echoed.get() == b"%d" % at  # before the next is sent

        async for answer in channel.stream_stream("/echo.Echo/Stream", bytes, bytes)(requests()):
            echoed.put_nowait(answer)
        assert echoed.empty()
        assert echo.calls == ["/echo.Echo/Unary", "/echo.Echo/Stream"]
        lines = [await b.lines.next() for _ in range(3)]
    assert [(line["path"], line["status"], line["verdict"]) for line in lines] == [
        ("/echo.Echo/Unary", 200, "allowed"),
        ("/echo.Echo/Admin", 403, "denied"),
        ("/echo.Echo/Stream", 200, "allowed"),
    ]


async def test_an_app_that_is_down_is_unavailable_to_grpc() -> None:
    async with (
        governed(Address("127.0.0.1", 1), ALLOW_ECHO, protocol=Protocol.HTTP) as b,
        side_a(b.inbound) as a,
        grpc.aio.insecure_channel(str(a.outbound)) as channel,
        asyncio.timeout(SECONDS),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await unary(channel, "/echo.Echo/Unary")(b"x")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await b.lines.next())["outcome"] == "CONNECT_FAILED"


async def test_nghttp_gets_the_answers_of_all_its_streams() -> None:
    async with an_echo() as (app, echo), governed(app, ALLOW_ECHO, protocol=Protocol.HTTP) as b, side_a(b.inbound) as a:
        client = await asyncio.create_subprocess_exec(
            "nghttp", "-v", "-m", "3", f"http://{a.outbound}/echo.Echo/Unary", stdout=asyncio.subprocess.PIPE
        )
        told, _ = await asyncio.wait_for(client.communicate(), SECONDS)
    assert told.count(b":status: 403") == 3  # a GET, and the policy allows POST
    assert b"GOAWAY frame <length=" in told  # its own, at the end
    assert echo.calls == []
