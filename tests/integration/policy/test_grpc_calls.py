"""grpc.aio through a pair of sidecars that judges each call: unary and streaming, allowed and denied."""

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
from tests.integration.sidecar.mesh import side_a
from tests.support.waiting import SECONDS

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: calls, namespace: default}
spec:
  rules:
  - from: [{source: {principals: [example.org/ns/default/sa/service-a]}}]
    to: [{operation: {methods: [POST], paths: [/echo.Allowed/*]}}]
"""
TUNNEL = pytest.mark.parametrize("tunnel", [False, True], ids=["mTLS", "tunnel"])
MANY = 300

if TYPE_CHECKING:
    _Handler = grpc.GenericRpcHandler[bytes, bytes]
    _Context = grpc.aio.ServicerContext[bytes, bytes]
else:
    _Handler = grpc.GenericRpcHandler
    _Context = grpc.aio.ServicerContext


class Calls(_Handler):
    """A method of each kind; ``called`` has the methods that were called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        self.called.append(details.method)
        kind = details.method.rpartition("/")[2]
        if kind == "Unary":
            return grpc.unary_unary_rpc_method_handler(self._unary)
        if kind == "Down":
            return grpc.unary_stream_rpc_method_handler(self._down)
        if kind == "Up":
            return grpc.stream_unary_rpc_method_handler(self._up)
        return grpc.stream_stream_rpc_method_handler(self._both)

    async def _unary(self, request: bytes, context: _Context) -> bytes:
        if request == b"fail":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "ünwanted", (("why-bin", b"\0\xff"),))
        context.set_trailing_metadata((("seen", "yes"),))
        return request

    async def _down(self, request: bytes, context: _Context) -> AsyncIterator[bytes]:
        for _ in range(MANY):
            yield request

    async def _up(self, requests: AsyncIterator[bytes], context: _Context) -> bytes:
        return b"%d" % sum([len(one) async for one in requests])

    async def _both(self, requests: AsyncIterator[bytes], context: _Context) -> AsyncIterator[bytes]:
        async for one in requests:
            yield one


@contextlib.asynccontextmanager
async def channel_of(tunnel: bool) -> AsyncIterator[tuple[grpc.aio.Channel, Calls]]:
    server, calls = grpc.aio.server(), Calls()
    server.add_generic_rpc_handlers((calls,))
    app = Address("127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    async with (
        asyncio.timeout(2 * SECONDS),
        governed(app, POLICY, protocol=Protocol.HTTP, tunnel=tunnel) as b,
        side_a(b.inbound, tunnel=tunnel) as a,
        grpc.aio.insecure_channel(str(a.outbound)) as channel,
    ):
        yield channel, calls
    await server.stop(0)


async def assert_denied(call: grpc.aio.Call) -> None:
    assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
    assert await call.details() == "access denied by policy"


async def some(message: bytes, count: int = MANY) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield message


@TUNNEL
async def test_unary_calls(tunnel: bool) -> None:
    async with channel_of(tunnel) as (channel, calls):
        allowed = channel.unary_unary("/echo.Allowed/Unary", bytes, bytes)
        call = allowed(b"hello")
        assert await call == b"hello"
        assert tuple(await call.trailing_metadata()) == (("seen", "yes"),)
        await assert_denied(channel.unary_unary("/echo.Denied/Unary", bytes, bytes)(b"hello"))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await allowed(b"fail")
        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert failed.value.details() == "ünwanted"
        metadata: list[object] = list(failed.value.trailing_metadata() or ())
        assert ("why-bin", b"\0\xff") in metadata
    assert calls.called == ["/echo.Allowed/Unary"] * 2


@TUNNEL
async def test_streams_of_responses(tunnel: bool) -> None:
    message = b"x" * 10_000
    async with channel_of(tunnel) as (channel, calls):
        allowed = channel.unary_stream("/echo.Allowed/Down", bytes, bytes)(message)
        assert [one async for one in allowed] == [message] * MANY
        await assert_denied(channel.unary_stream("/echo.Denied/Down", bytes, bytes)(message))
    assert calls.called == ["/echo.Allowed/Down"]


@TUNNEL
async def test_streams_of_requests(tunnel: bool) -> None:
    message = b"x" * 10_000
    async with channel_of(tunnel) as (channel, calls):
        allowed = channel.stream_unary("/echo.Allowed/Up", bytes, bytes)
        assert await allowed(some(message)) == b"%d" % (MANY * len(message))
        await assert_denied(channel.stream_unary("/echo.Denied/Up", bytes, bytes)(None))
    assert calls.called == ["/echo.Allowed/Up"]


@TUNNEL
async def test_streams_both_ways_side_by_side(tunnel: bool) -> None:
    async def both(channel: grpc.aio.Channel, message: bytes) -> None:
        allowed = channel.stream_stream("/echo.Allowed/Both", bytes, bytes)(None)
        for _ in range(20):
            await allowed.write(message)
            assert await allowed.read() == message
        await allowed.done_writing()
        assert not await allowed.read()  # the end

    async def none(channel: grpc.aio.Channel) -> None:
        await assert_denied(channel.stream_stream("/echo.Denied/Both", bytes, bytes)(None))

    async with channel_of(tunnel) as (channel, calls):
        await asyncio.gather(*(both(channel, b"%d" % at * 5000) for at in range(8)), *(none(channel) for _ in range(8)))
    assert calls.called == ["/echo.Allowed/Both"] * 8


@TUNNEL
@pytest.mark.timeout(300)
async def test_100_mb_of_messages_there_and_back(tunnel: bool) -> None:
    message = b"x" * 1_000_000
    async with channel_of(tunnel) as (channel, _):
        allowed = channel.stream_stream("/echo.Allowed/Both", bytes, bytes)(some(message, 100))
        got = [len(one) async for one in allowed]
    assert got == [len(message)] * 100


@TUNNEL
async def test_a_cancelled_call_is_cancelled_at_the_app_and_the_next_is_answered(tunnel: bool) -> None:
    async with channel_of(tunnel) as (channel, _):
        endless = channel.stream_stream("/echo.Allowed/Both", bytes, bytes)(None)
        await endless.write(b"x")
        assert await endless.read() == b"x"
        endless.cancel()
        assert await channel.unary_unary("/echo.Allowed/Unary", bytes, bytes)(b"next") == b"next"
